"""The state of a module with PyTorch's names and layout, and ``.safetensors`` files.

    layout            the order of a matrix's axes: the weight of a linear layer is
                      (in_features, out_features) here and its transpose in PyTorch
    PyTorch's names   ``weight``, ``bias`` and ``num_batches_tracked`` of batch norm for
                      ``gamma``, ``beta`` and ``updates``
    entry             a tensor or an array of a module's state, with both of its names

The shape of a square matrix does not show its layout, so the type of its values does:
``tg.load`` reads ``.safetensors`` files as ``PyTorchArray``, and ``load_state_dict``
transposes these and PyTorch's tensors, but no other arrays.

This file comes after ``nn.py`` in the reading order. It does not import PyTorch.

Left out on purpose: the state of PyTorch's optimizers, and its ``.pt`` files, which
hold pickled objects.
"""

import sys
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from . import nn
from .module import Member, Module
from .scopes import join
from .tensor import Tensor

NAMES = {"gamma": "weight", "beta": "bias", "updates": "num_batches_tracked"}


def name_in_pytorch(module: Module, name: str) -> str:
    """PyTorch's name for a member of ``module``."""
    renamed = isinstance(module, nn.BatchNorm | nn.LayerNorm)
    return NAMES.get(name, name) if renamed else name


def is_transposed(module: Module, name: str) -> bool:
    """Whether PyTorch stores a member of ``module`` transposed."""
    return isinstance(module, nn.Linear) and name == "weight"


class Entry(NamedTuple):
    """A tensor or an array of a module's state: its name here and in PyTorch."""

    ours: str
    theirs: str
    transposed: bool
    values: Any


def entries(model: Module) -> Iterator[Entry]:
    """The state of ``model``, one entry per name."""
    for path, module in [("", model), *model._walk()]:
        if isinstance(module, Module):
            for name, member in module._members():
                if not isinstance(member, Module):
                    theirs = join(path, name_in_pytorch(module, name))
                    transposed = is_transposed(module, name)
                    yield Entry(join(path, name), theirs, transposed, member)


# --- Modules with PyTorch's names ----------------------------------------------------


class _PyTorchNames(Module):
    """A normalization with PyTorch's names: ``weight`` for gamma, ``bias`` for beta."""

    gamma: Tensor | None
    beta: Tensor | None

    @property
    def weight(self) -> Tensor | None:
        return self.gamma

    @weight.setter
    def weight(self, weight: Tensor | None) -> None:
        self.gamma = weight

    @property
    def bias(self) -> Tensor | None:
        return self.beta

    @bias.setter
    def bias(self, bias: Tensor | None) -> None:
        self.beta = bias

    def _members(self) -> Iterator[tuple[str, Member]]:
        return ((NAMES.get(name, name), member) for name, member in super()._members())

    def caption(self) -> str:
        letters = {"weight = γ": self.gamma, "bias = β": self.beta}
        shown = [text for text, member in letters.items() if member is not None]
        return ", ".join([super().caption(), *shown])


class BatchNorm(_PyTorchNames, nn.BatchNorm):
    """Batch norm with PyTorch's names: ``weight`` for gamma, ``bias`` for beta."""


class LayerNorm(_PyTorchNames, nn.LayerNorm):
    """Layer norm with PyTorch's names: ``weight`` for gamma, ``bias`` for beta."""


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


def in_our_layout(model: Module, state: Mapping[str, Any]) -> Mapping[str, Any]:
    """``state`` with the names and the layout of ``model``.

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
    known = {entry.theirs: entry for entry in entries(model)}
    translated = {}
    for name, values in state.items():
        array = values if isinstance(values, np.ndarray) else array_of(values)
        if array is None:
            raise TypeError(
                "load_state_dict: the values must be real numbers that NumPy knows, "
                f"but {name!r} is {values.dtype}. Convert it, as with .float()."
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


def to_safetensors(module: Module | None, others: dict[str, Any]) -> bytes:
    """The content of a ``.safetensors`` file with the state of ``module``."""
    if not isinstance(module, Module) or others:
        received = [type(module).__name__] if module is not None else []
        raise TypeError(
            "save: a .safetensors file contains one module and nothing else: "
            "tg.save('net.safetensors', model). Received: "
            f"{', '.join(received + sorted(others)) or 'nothing'}. Use an .npz file."
        )
    arrays = {}
    for entry in entries(module):
        values = np.asarray(entry.values)
        # safetensors writes the memory as it is, and assumes that it is in row order.
        arrays[entry.theirs] = (values.T if entry.transposed else values).copy("C")
    return _safetensors().save(arrays, metadata={"format": "pt"})


def from_safetensors(content: bytes) -> dict[str, PyTorchArray]:
    """The arrays in the content of a ``.safetensors`` file."""
    arrays = _safetensors().load(content)
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
