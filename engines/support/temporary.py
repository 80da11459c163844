"""Temporary files beside their targets. Whoever writes one holds a lock on it, so that what a dead process left shows.

The lock (flock) ends with the process, however it ends. It says more than a process number in the name would: numbers
come again, and mean nothing from one container to another.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
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


def remove_dead(folder: Path) -> None:
    """Remove temporary files of ours in `folder` that no living process holds; once a folder in each process."""
    if folder in _tidied:
        return
    _tidied.add(folder)
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if _NAME.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                _remove_if_dead(Path(entry.path))


def _remove_if_dead(path: Path) -> None:
    with suppress(OSError):  # it vanished, is another user's, or is locked: let it be
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is(path, descriptor):
                path.unlink()
        finally:
            os.close(descriptor)


def _is(path: Path, descriptor: int) -> bool:
    """Whether the file at `path` is the opened one."""
    try:
        return os.path.samestat(os.stat(path, follow_symlinks=False), os.fstat(descriptor))
    except OSError:
        return False
