"""Checkpoints: nested dictionaries of arrays and plain values, in one ``.npz`` file.

    state           what is saved: a dictionary, with dictionaries inside
    place           the keys that lead to a value, joined by /: ``model/0.weight``
    plain value     a number, a string, True, False or None

Each array is a member of the file under its place, where ``np.load`` finds it too. One
more member holds the plain values and a list of the arrays, as JSON. Reading a file
executes nothing in it, and needs no more memory than its size.

``pytorch_layout.py`` reads and writes files with the extension ``.safetensors``;
``files.py`` replaces a file in one step.

This file comes after ``check.py`` in the reading order.

Left out on purpose: compression; lists and tuples, which JSON cannot distinguish.
"""

import json
import math
import os
import sys
import zipfile
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

import numpy as np

from .files import replace_file
from .module import Module
from .pytorch_layout import from_safetensors, to_safetensors

_CONTENTS = "tinygrad_bn.json"
# Increase it with every change that older versions cannot read.
_FORMAT = 1


def save(path: str | os.PathLike[str], module: Any = None, /, **state: Any) -> None:
    """Write ``state`` to the file at ``path``, all of it or nothing.

    ``path`` is used exactly as given; a symbolic link is followed, and missing folders
    are made. The file is written under another name in the same folder and then
    renamed, so an earlier checkpoint stays whole if anything goes wrong; the new one
    takes over its permissions. Saving also removes unfinished files left by saves to
    this path that were killed. NumPy scalars become Python scalars. A path that ends in
    ``.safetensors`` takes a module instead of a state: ``tg.save("net.safetensors",
    model)`` writes PyTorch's names and layout.

    Raises: ``TypeError`` for anything but dictionaries, arrays and plain values;
    ``ValueError`` for a key that cannot be part of a place; ``IsADirectoryError`` for a
    folder at ``path``; ``NotADirectoryError`` for a file in the place of a folder;
    ``FileExistsError`` for a device or a pipe.
    """
    replace_file("save", path, _writer(path, module, state))


def load(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The state that ``save`` wrote to the file at ``path``.

    A ``.safetensors`` file yields arrays by name in PyTorch's layout, which
    ``load_state_dict`` converts.

    Raises: ``FileNotFoundError`` if there is no file; ``ValueError`` for a file that is
    damaged, cannot be read, or was not written by ``save``.
    """
    try:
        with open(path, "rb") as file:
            if _is_safetensors(path):
                return from_safetensors(file.read())
            state = _nest(places := _read(file))
            if dict(_flatten(state)).keys() != places.keys():
                raise ValueError("its places contradict each other")
            return state
    except FileNotFoundError:
        raise FileNotFoundError(
            f"load: there must be a checkpoint at {path}, but there is no such file. "
            "Check the path; no extension is added to it."
        ) from None
    except (MemoryError, ModuleNotFoundError):
        raise
    # For a damaged file, zipfile, NumPy and json raise errors of many kinds.
    except Exception as error:
        raise ValueError(
            f"load: {path} must be a whole checkpoint, written by tg.save, but reading "
            f"it failed: {str(error) or type(error).__name__}. Load a different one."
        ) from error


# --- Kinds of files -------------------------------------------------------------------


def _is_safetensors(path: str | os.PathLike[str]) -> bool:
    return str(path).endswith(".safetensors")


def _writer(
    path: str | os.PathLike[str], module: Any, state: dict[str, Any]
) -> Callable[[BinaryIO], Any]:
    """A function that writes the ``module`` or the ``state`` to a file."""
    if _is_safetensors(path):
        if not isinstance(module, Module) or state:
            received = [type(module).__name__] if module is not None else []
            raise TypeError(
                "save: a .safetensors file contains one module and nothing else: "
                "tg.save('net.safetensors', model). Received: "
                f"{', '.join(received + sorted(state)) or 'nothing'}. Use an .npz file."
            )
        content = to_safetensors(module._entries())
        return lambda file: file.write(content)
    if module is not None:
        raise TypeError(
            "save: only a .safetensors file takes a module. Elsewhere, name its state: "
            "tg.save(path, model=model.state_dict()). Received a "
            f"{type(module).__name__} for {path}."
        )
    arrays: dict[str, np.ndarray] = {}
    plain: dict[str, Any] = {}
    for place, value in _flatten(state):
        (arrays if isinstance(value, np.ndarray) else plain)[place] = value
    contents = {"format": _FORMAT, "plain": plain, "arrays": [*arrays]}
    encoded = json.dumps(contents).encode()
    return lambda file: _write(file, encoded, arrays)


# --- Places ---------------------------------------------------------------------------


def _flatten(state: dict, folder: str = "") -> Iterator[tuple[str, Any]]:
    """The values with their places; an empty dictionary counts as a value."""
    for key, value in state.items():
        if not _can_be_a_key(key):
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


def _can_be_a_key(key: Any) -> bool:
    # A tool that unpacks the file would take "." and ".." for folders.
    printable = isinstance(key, str) and key.isprintable()
    return printable and not {*key} & {"/", "\\"} and key not in {"", ".", ".."}


def _can_be_saved(value: object) -> bool:
    if isinstance(value, np.ndarray):
        # A subclass would lose what it adds, such as the mask of a masked array.
        # NumPy's files cannot hold dtypes that other libraries define; their kind is V.
        return type(value) is np.ndarray and value.dtype.kind in "biufcmMSU"
    return value is None or isinstance(value, int | float | str | dict)


def _nest(places: dict) -> dict:
    """The inverse of ``_flatten``."""
    state: dict = {}
    for place, value in places.items():
        *folders, key = place.split("/")
        inside = state
        for folder in folders:
            inside = inside.setdefault(folder, {})
        inside[key] = value
    return state


# --- Files ----------------------------------------------------------------------------


def _write(file: BinaryIO, contents: bytes, arrays: dict[str, np.ndarray]) -> None:
    handled = sys.exc_info()[1]
    try:
        with zipfile.ZipFile(file, "w") as archive:
            with archive.open(_CONTENTS, "w") as member:
                member.write(contents)
            for place, array in arrays.items():
                with archive.open(f"{place}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(
                        member, array, version=(1, 0), allow_pickle=False
                    )
    except Exception as error:
        if interrupt := _interrupt_behind(error, handled):
            raise interrupt from None
        raise


def _interrupt_behind(
    error: BaseException | None, handled: BaseException | None
) -> BaseException | None:
    """The interrupt, such as Ctrl-C, that led to ``error``, or None.

    An interrupt between two arrays makes zipfile complain about a member left open. An
    exception that was ``handled`` when saving began led to nothing.
    """
    while error is not handled and isinstance(error, Exception):
        error = error.__context__
    return None if error is handled else error


def _read(file: BinaryIO) -> dict:
    with zipfile.ZipFile(file) as archive:
        if _CONTENTS not in archive.namelist():
            raise ValueError("it was written by something else")
        # Before anything is read, make sure that it needs no more memory than the size
        # of the file.
        members, size = archive.infolist(), os.fstat(file.fileno()).st_size
        if any(member.compress_type != zipfile.ZIP_STORED for member in members):
            raise ValueError("it is compressed")
        if sum(member.file_size for member in members) > size:
            raise ValueError("it claims to contain more than its size")
        contents = json.loads(archive.read(_CONTENTS))
        if contents.get("format", 1) != _FORMAT:
            raise ValueError(
                f"its format is {contents['format']!r:.20}, but this version of "
                f"tinygrad_bn reads format {_FORMAT}"
            )
        places = contents["plain"]
        for place in contents["arrays"]:
            with archive.open(f"{place}.npy") as member:
                places[place] = _read_array(member, archive.getinfo(member.name))
    return places


def _read_array(member: Any, info: zipfile.ZipInfo) -> np.ndarray:
    version = np.lib.format.read_magic(member)
    if version != (1, 0):
        raise ValueError(f"an array has the unknown format {version}")
    shape, _, dtype = np.lib.format.read_array_header_1_0(member)
    size = math.prod(shape) * dtype.itemsize
    if not dtype.hasobject and size != info.file_size - member.tell():
        raise ValueError(f"{info.filename!r} has another size than its array")
    member.seek(0)
    return np.lib.format.read_array(member, allow_pickle=False)
