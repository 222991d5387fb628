"""Checkpoints: nested dictionaries of arrays and plain values, in one ``.npz`` file.

====================  ================================================================
state                 what is saved: a dictionary, with dictionaries inside
place                 the keys that lead to a value, joined by /: ``model/0.weight``
plain value           a number, a string, True, False or None
====================  ================================================================

Each array is a member of the file under its place, where ``np.load`` finds it too. One
more member holds the plain values and a list of the arrays, as JSON. Nothing in a file
can be executed.

Files with the extension ``.safetensors`` are left to ``layout.py``.

This file comes after ``layout.py`` in the reading order.

Left out on purpose: compression, and lists and tuples, which JSON cannot tell apart.
"""

import json
import os
import secrets
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from .layout import from_safetensors, to_safetensors

_CONTENTS = "tinygrad_bn.json"


def save(path: Path | str, module: Any = None, /, **state: Any) -> None:
    """Write ``state`` to the file at ``path``, all of it or nothing.

    ``path`` is used exactly as given. The file is written beside it under another name
    and then renamed: whatever goes wrong, a checkpoint that was there stays whole.
    NumPy's scalars become Python's. A path that ends in ``.safetensors`` takes a module
    instead: ``tg.save("net.safetensors", model)`` writes its state with PyTorch's names
    and layout.

    Raises: ``TypeError`` for what is neither a dictionary, an array nor a plain value,
    ``ValueError`` for a key that cannot be part of a place, ``FileNotFoundError`` for a
    missing folder.
    """
    write = _writer(path, module, state)
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(
            f"save: {path} must be in a folder that exists. Make it with os.makedirs()."
        )
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with open(unfinished, "xb") as file:
            write(file)
            file.flush()
            # Without it a power cut could leave the new name on an empty file.
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


def load(path: Path | str) -> dict[str, Any]:
    """The state that ``save`` wrote to the file at ``path``.

    A ``.safetensors`` file yields arrays by name in PyTorch's layout, which
    ``load_state_dict`` converts.

    Raises: ``FileNotFoundError`` if there is none, ``ValueError`` for a file that is
    damaged, cannot be read, or was not written by ``save``.
    """
    try:
        with open(path, "rb") as file:
            if _is_safetensors(path):
                return from_safetensors(file.read())
            places = _read(file)
    except FileNotFoundError:
        raise FileNotFoundError(
            f"load: there must be a checkpoint at {path}, but there is no such file. "
            "Check the path: nothing is appended to it."
        ) from None
    except ModuleNotFoundError:
        raise
    # Damage makes zipfile, NumPy and json raise whatever they happen to run into.
    except Exception as error:
        raise ValueError(
            f"load: {path} must be a whole checkpoint, written by tg.save, but reading "
            f"it failed: {str(error) or type(error).__name__}. Use another one."
        ) from error
    return _nest(places)


def _is_safetensors(path: Path | str) -> bool:
    return str(path).endswith(".safetensors")


def _writer(path: Path | str, module: Any, state: dict[str, Any]) -> Callable:
    """What writes ``module`` or ``state`` to a file: which one, the extension says."""
    if _is_safetensors(path):
        content = to_safetensors(module, state)
        return lambda file: file.write(content)
    if module is not None:
        raise TypeError(
            "save: only a .safetensors file takes a module. Elsewhere, name its state: "
            "tg.save(path, model=model.state_dict()). Received a "
            f"{type(module).__name__} for {path}."
        )
    arrays, plain = {}, {}
    for place, value in _flatten(state):
        (arrays if isinstance(value, np.ndarray) else plain)[place] = value
    return lambda file: _write(file, arrays, plain)


def _flatten(state: dict, folder: str = "") -> Iterator[tuple[str, object]]:
    """The values with their places; an empty dictionary counts as a value."""
    for key, value in state.items():
        printable = isinstance(key, str) and key.isprintable() and key
        if not printable or {*key} & {"/", "\\"}:
            raise ValueError(
                "save: keys must be printable strings without slashes, but "
                f"{key!r} was received{f' in {folder!r}' if folder else ''}. Rename it."
            )
        place = f"{folder}/{key}" if folder else key
        value = value.item() if isinstance(value, np.generic) else value
        if isinstance(value, dict) and value:
            yield from _flatten(value, place)
        elif _can_be_saved(value):
            yield place, value
        else:
            raise TypeError(
                "save: values must be dictionaries, arrays of numbers or strings, "
                f"numbers, strings, True, False or None, but {place!r} is a "
                f"{type(value).__name__}: {value!r:.60}. Convert it, for example with "
                "tensor.data, module.state_dict() or np.array(list)."
            )


def _nest(places: dict) -> dict:
    state = {}
    for place, value in places.items():
        *folders, key = place.split("/")
        inside = state
        for folder in folders:
            inside = inside.setdefault(folder, {})
        inside[key] = value
    return state


def _can_be_saved(value) -> bool:
    if isinstance(value, np.ndarray):
        # A subclass would lose what it adds: a masked array its mask.
        return type(value) is np.ndarray and not value.dtype.hasobject
    return isinstance(value, int | float | str | None) or value == {}


def _write(file, arrays: dict[str, np.ndarray], plain: dict) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        with archive.open(_CONTENTS, "w") as member:
            member.write(json.dumps({"plain": plain, "arrays": [*arrays]}).encode())
        for place, array in arrays.items():
            with archive.open(f"{place}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def _read(file) -> dict:
    with zipfile.ZipFile(file) as archive:
        if _CONTENTS not in archive.namelist():
            raise ValueError("it was written by something else")
        contents = json.loads(archive.read(_CONTENTS))
        places = contents["plain"]
        for place in contents["arrays"]:
            with archive.open(f"{place}.npy") as member:
                places[place] = np.lib.format.read_array(member, allow_pickle=False)
    return places
