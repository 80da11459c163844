"""Temporary files and folders beside their targets, locked by whoever writes them: what a dead process left shows.

The lock (flock) ends with the process, however it ends. It says more than a process number in the name would: numbers
come again, and mean nothing from one container to another.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_PREFIX = ".dinn360-tmp-"
_NAME = re.compile(re.escape(_PREFIX) + r"[0-9a-f]{16}(\..*)?", re.DOTALL)
_tidied: set[Path] = set()  # folders that this process has looked through


@contextmanager
def temporary_in(folder: Path, suffix: str) -> Iterator[Path]:
    """Yield an empty new file in `folder` whose name ends in `suffix`; it is removed at the end if it is still there.

    What other runs of this program left in the folder when they were killed is removed first.

    Raises:
        OSError: the file cannot be made.
    """
    remove_dead(folder)
    path, descriptor = folder, -1
    try:
        while descriptor < 0:
            path = folder / f"{_PREFIX}{secrets.token_hex(8)}{suffix}"
            # Not tempfile.mkstemp: what it makes only the owner can read, and the result would stay like that.
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666)
            with suppress(OSError):  # a file system without locks; nobody takes the file for a dead one's there either
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            if not _is(path, descriptor):  # somebody tidied up between the two calls
                os.close(descriptor)
                descriptor = -1
        yield path
    finally:
        if path != folder:
            path.unlink(missing_ok=True)
        if descriptor >= 0:
            os.close(descriptor)


@contextmanager
def temporary_folder_in(folder: Path) -> Iterator[Path]:
    """Yield an empty new folder in `folder`; it is removed at the end with all in it. Else as `temporary_in`."""
    remove_dead(folder)
    number = secrets.token_hex(8)
    path = folder / f".dinn360-new-{number}"  # nobody takes it for a dead one's before it is locked
    path.mkdir()
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        path = path.rename(folder / f"{_PREFIX}{number}")
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(descriptor)


def remove_dead(folder: Path) -> None:
    """Remove what is ours and temporary in `folder` and no living process holds; once a folder in each process."""
    if folder in _tidied:
        return
    _tidied.add(folder)
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if _NAME.fullmatch(entry.name) and not entry.is_symlink():
                _remove_if_dead(Path(entry.path), entry.is_dir())


def _remove_if_dead(path: Path, is_folder: bool) -> None:
    with suppress(OSError):  # it vanished, is another user's, or is locked: let it be
        descriptor = os.open(path, os.O_RDONLY if is_folder else os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is(path, descriptor):
                shutil.rmtree(path) if is_folder else path.unlink()
        finally:
            os.close(descriptor)


def _is(path: Path, descriptor: int) -> bool:
    """Whether the file at `path` is the opened one."""
    try:
        return os.path.samestat(os.stat(path, follow_symlinks=False), os.fstat(descriptor))
    except OSError:
        return False
