"""Checkpoints: nested dictionaries of arrays and plain values, in one ``.npz`` file.

    state           what is saved: a dictionary, with dictionaries inside
    place           the keys that lead to a value, joined by /: ``model/0.weight``
    plain value     a number, a string, True, False or None

Each array is a member of the file under its place, where ``np.load`` finds it too. One
more member holds the plain values and a list of the arrays, as JSON. Reading a file
executes nothing in it, and needs no more memory than its size.

``layout.py`` reads and writes files with the extension ``.safetensors``.

This file comes after ``check.py`` in the reading order.

Left out on purpose: compression; lists and tuples, which JSON cannot distinguish; and
several computers that save to one path of a shared disk at the same time.
"""

import contextlib
import json
import math
import os
import re
import secrets
import stat
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from .layout import from_safetensors, to_safetensors
from .module import Module

_CONTENTS = "tinygrad_bn.json"
# Increase it with every change that older versions cannot read.
_FORMAT = 1
# The files that this process is writing. Others with its process id are leftovers.
_being_written: set[Path] = set()


def save(path: str | os.PathLike[str], module: Any = None, /, **state: Any) -> None:
    """Write ``state`` to the file at ``path``, all of it or nothing.

    ``path`` is used exactly as given; a symbolic link is followed. The file is written
    under another name in the same folder and then renamed, so an earlier checkpoint
    stays whole if anything goes wrong; the new one takes over its permissions. Saving
    also removes unfinished files left by saves to this path that were killed. NumPy
    scalars become Python scalars. A path that ends in ``.safetensors`` takes a module
    instead of a state: ``tg.save("net.safetensors", model)`` writes PyTorch's names and
    layout.

    Raises: ``TypeError`` for anything but dictionaries, arrays and plain values;
    ``ValueError`` for a key that cannot be part of a place; ``FileNotFoundError`` for a
    missing folder; ``IsADirectoryError`` for a folder at ``path``; ``FileExistsError``
    for a device or a pipe.
    """
    write = _writer(path, module, state)
    target = _file_at(path)
    _remove_leftovers(target)
    name = f".{target.name}.{os.getpid()}-{secrets.token_hex(4)}.unfinished"
    unfinished = target.with_name(name)
    _being_written.add(unfinished)
    try:
        with open(unfinished, "xb") as file:
            write(file)
            file.flush()
            # Otherwise a power failure could leave an empty file with the new name.
            os.fsync(file.fileno())
        if target.exists():
            unfinished.chmod(stat.S_IMODE(target.stat().st_mode))
        os.replace(unfinished, target)
    except BaseException as error:
        unfinished.unlink(missing_ok=True)
        if interrupt := _interrupt_behind(error):
            raise interrupt from None
        raise
    finally:
        _being_written.discard(unfinished)


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


def _file_at(path: str | os.PathLike[str]) -> Path:
    """The file that ``save`` replaces or creates; a symbolic link is followed."""
    target = Path(os.path.realpath(path))
    if not target.parent.is_dir():
        raise FileNotFoundError(
            f"save: {target} must be in a folder that exists. Make it with "
            "os.makedirs()."
        )
    if target.is_dir():
        raise IsADirectoryError(
            f"save: a file must be named, but {target} is a folder. Add a file name."
        )
    if target.exists() and not target.is_file():
        raise FileExistsError(
            f"save: a checkpoint replaces the file at its path, but {target} is a "
            "device or a pipe. Save to another path."
        )
    return target


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


# --- After a kill or an interrupt -----------------------------------------------------


def _remove_leftovers(path: Path) -> None:
    """Remove the unfinished files of processes that were killed while they saved."""
    name = re.escape(path.name)
    unfinished = re.compile(rf"\.{name}\.(\d{{1,9}})-[0-9a-f]{{8}}\.unfinished")
    with contextlib.suppress(OSError):
        for file in path.parent.iterdir():
            found = unfinished.fullmatch(file.name)
            abandoned = found is not None and not _is_another(int(found[1]))
            if abandoned and file not in _being_written:
                file.unlink()


def _is_another(process: int) -> bool:
    """Whether ``process`` is running and is not this one."""
    if process == os.getpid():
        return False
    if os.name == "nt":
        return True  # On Windows, signal 0 would interrupt the process.
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # It belongs to another user.
    return True


def _interrupt_behind(error: BaseException | None) -> BaseException | None:
    """The interrupt, such as Ctrl-C, that led to ``error``, or None.

    An interrupt between two arrays makes zipfile complain about a member left open.
    """
    while error is not None and isinstance(error, Exception):
        error = error.__context__
    return error


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
    return isinstance(value, int | float | str | None) or value == {}


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
    with zipfile.ZipFile(file, "w") as archive:
        with archive.open(_CONTENTS, "w") as member:
            member.write(contents)
        for place, array in arrays.items():
            with archive.open(f"{place}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(
                    member, array, version=(1, 0), allow_pickle=False
                )


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
