"""Replacing a file in one step: at any time it is the old one or the new one, whole.

The new file is written under another name in the same folder and then renamed. So the
old one stays as it was if there is an error, an interrupt, a kill, or a power failure.

    unfinished   the new file, before it is renamed
    leftover     an unfinished file of a process that was killed

This file imports no other; look here when needed.

Left out on purpose: several computers that save to one path of a shared disk at the
same time.
"""

import contextlib
import hashlib
import os
import re
import secrets
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

# The files that this process is writing. Others with its process id are leftovers.
_being_written: set[Path] = set()


def replace_file(
    caller: str, path: str | os.PathLike[str], write: Callable[[BinaryIO], Any]
) -> None:
    """Make or replace the file at ``path``: ``write`` receives it, open for writing.

    A symbolic link is followed, and missing folders are made. The new file takes over
    the permissions of the old one. Leftovers of earlier calls for this path are
    removed. ``caller`` is what errors call the function that the user called.

    Raises: ``IsADirectoryError`` for a ``path`` that is a folder or ends in a slash;
    ``NotADirectoryError`` for a file in the place of a folder; ``FileNotFoundError``
    for ``~``, which is not expanded; ``FileExistsError`` for a device or a pipe.
    """
    target = _target(caller, path)
    _remove_leftovers(target)
    name = f".{_short_name(target)}.{os.getpid()}-{secrets.token_hex(4)}.unfinished"
    unfinished = target.with_name(name)
    _being_written.add(unfinished)
    try:
        with open(unfinished, "xb") as file:
            if target.exists():
                # Before anything is written that others may not be allowed to read.
                unfinished.chmod(stat.S_IMODE(target.stat().st_mode))
            write(file)
            file.flush()
            # Otherwise a power failure could leave an empty file with the new name.
            os.fsync(file.fileno())
        os.replace(unfinished, target)
    finally:
        _being_written.discard(unfinished)
        unfinished.unlink(missing_ok=True)


def _target(caller: str, path: str | os.PathLike[str]) -> Path:
    """The file to replace or make, in a folder that exists."""
    target = Path(os.path.realpath(path))
    if target.is_dir() or os.path.basename(path) in ("", ".", ".."):
        raise IsADirectoryError(
            f"{caller}: the path must name a file, but {os.fspath(path) or repr('')} "
            "names a folder. Add a file name."
        )
    if target.exists() and not target.is_file():
        raise FileExistsError(
            f"{caller}: the new file replaces the one at its path, but {target} is a "
            "device or a pipe. Save to another path."
        )
    first, *below = Path(path).parts
    if below and first.startswith("~") and not Path(first).exists():
        raise FileNotFoundError(
            f"{caller}: {first} must be a folder, but there is none. For your home, "
            "use os.path.expanduser(path)."
        )
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise NotADirectoryError(
            f"{caller}: {target.parent} must be a folder, but it or a folder above it "
            "is a file. Save to another path."
        ) from None
    return target


def _short_name(target: Path) -> str:
    """The part of an unfinished file's name that identifies its target.

    File names have at most 255 bytes, so a hash takes the place of a long name.
    """
    name = os.fsencode(target.name)
    return target.name if len(name) < 200 else hashlib.sha256(name).hexdigest()


def _remove_leftovers(path: Path) -> None:
    name = re.escape(_short_name(path))
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
