"""The state of a module with PyTorch's names and layout, and ``.safetensors`` files.

    layout            the order of a matrix's axes: the weight of a linear layer is
                      (in_features, out_features) here and its transpose in PyTorch
    PyTorch's names   ``weight``, ``bias`` and ``num_batches_tracked`` of batch norm for
                      ``gamma``, ``beta`` and ``updates``
    entry             a tensor or an array of a module's state, with both of its names

The shape of a square matrix does not show its layout, so the type of its values does:
``tg.load`` reads ``.safetensors`` files as ``PyTorchArray``, and ``load_state_dict``
transposes these and PyTorch's tensors, but no other arrays.

This file comes after ``init.py`` in the reading order. It depends neither on modules,
whose classes declare how PyTorch stores their members, nor on PyTorch.

Left out on purpose: the state of PyTorch's optimizers, and its ``.pt`` files, which
hold pickled objects.
"""

import sys
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

# Of the members of batch norm and layer norm.
PYTORCH_NAMES = {"gamma": "weight", "beta": "bias", "updates": "num_batches_tracked"}


class Entry(NamedTuple):
    """A tensor or an array of a module's state: its name here and in PyTorch."""

    ours: str
    theirs: str
    transposed: bool
    values: Any


def by_pytorch_name(caller: str, entries: Iterable[Entry]) -> dict[str, Entry]:
    """The entries by their names in PyTorch.

    Raises: ``ValueError`` for two entries with one name, of which one would be lost.
    """
    found: dict[str, Entry] = {}
    for entry in entries:
        other = found.setdefault(entry.theirs, entry)
        if other is not entry:
            raise ValueError(
                f"{caller}: each member must have its own name in PyTorch, but both "
                f"{other.ours!r} and {entry.ours!r} are called {entry.theirs!r} there. "
                "Rename one of them."
            )
    return found


# --- Reading what comes from PyTorch --------------------------------------------------


class PyTorchArray(np.ndarray):
    """An array in PyTorch's layout, as read from a ``.safetensors`` file."""


def array_of(tensor: Any) -> np.ndarray | None:
    """The values of a PyTorch tensor, or None if NumPy has no such real dtype."""
    try:
        array = tensor.detach().cpu().numpy()
    except (TypeError, NotImplementedError):
        return None
    return array if array.dtype.kind in "biuf" else None


def in_our_layout(
    state: Mapping[str, Any], entries: Iterable[Entry]
) -> Mapping[str, Any]:
    """``state`` with the names and the layout of this engine, as in ``entries``.

    PyTorch's tensors and ``PyTorchArray`` are renamed and transposed. A dictionary of
    other arrays is returned as it is.
    """
    foreign = {name for name, values in state.items() if _is_pytorchs(values)}
    if not foreign:
        return state
    if others := sorted(state.keys() - foreign):
        raise TypeError(
            "load_state_dict: the values must be all from PyTorch or all from this "
            f"engine, because the layouts differ, but {others} are plain arrays and "
            f"{sorted(foreign)} are not. Convert one of the two kinds."
        )
    known = by_pytorch_name("load_state_dict", entries)
    translated = {}
    for name, values in state.items():
        array = values if isinstance(values, np.ndarray) else array_of(values)
        if array is None:
            raise TypeError(
                "load_state_dict: the values must be real numbers that NumPy knows, "
                f"but {name!r} is {values.dtype}. Convert it, say with .float()."
            )
        array = np.asarray(array)
        entry = known.get(name)
        if entry is None:
            translated[f"{name} (a name from PyTorch)"] = array
        else:
            translated[entry.ours] = array.T if entry.transposed else array
    return translated


def _is_pytorchs(values: Any) -> bool:
    # A PyTorch tensor exists only if PyTorch was imported.
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(values, torch.Tensor):
        return True
    return isinstance(values, PyTorchArray)


# --- Files ----------------------------------------------------------------------------


def to_safetensors(entries: Iterable[Entry]) -> bytes:
    """The content of a ``.safetensors`` file with the state of a module."""
    arrays = {}
    for name, entry in by_pytorch_name("save", entries).items():
        values = np.asarray(entry.values)
        # safetensors writes the memory as it is, and assumes that it is in row order.
        arrays[name] = (values.T if entry.transposed else values).copy("C")
    return _safetensors().save(arrays, metadata={"format": "pt"})


def from_safetensors(content: bytes) -> dict[str, PyTorchArray]:
    """The arrays in the content of a ``.safetensors`` file."""
    try:
        arrays = _safetensors().load(content)
    except KeyError as dtype:
        raise ValueError(
            f"it contains values of dtype {dtype}, which NumPy does not have; convert "
            "them in PyTorch, with .float()"
        ) from None
    return {name: array.view(PyTorchArray) for name, array in arrays.items()}


def _safetensors() -> Any:
    try:
        import safetensors.numpy
    except ImportError:
        raise ModuleNotFoundError(
            "a .safetensors file needs the package safetensors, but it is not "
            "installed. Run: python -m pip install safetensors"
        ) from None
    return safetensors.numpy
