"""The state of a run on disk: what a run is resumed from, and the one before it in case of damage."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dinn360.checkpoint import load_tensors, to_bytes
from engines.support.errors import UserError
from engines.support.files import atomic_path, os_reason

FORMAT = "dinn360-training"
LATEST, PREVIOUS = "state.pth", "state.previous.pth"
LOCK = ".lock"
State = dict[str, Any]


@contextmanager
def sole_writer(folder: Path) -> Iterator[None]:
    """Holds the folder for one run; the lock ends with the process, however it ends.

    A run that was told to stop may still be saving when the next begins, which would read the state before. A block
    that raises before it has written anything leaves no lock file either.

    Raises:
        UserError: another process trains in the folder, or it cannot be written.
    """
    try:
        lock = (folder / LOCK).open("w")
    except OSError as error:
        raise UserError(f"{folder}: cannot write: {os_reason(error)}", "out") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"{folder}: expected a folder of its own, found another process training there", "out"
            ) from None
        try:
            yield
        except BaseException:
            if os.listdir(folder) == [LOCK]:
                (folder / LOCK).unlink()
            raise


def save_state(folder: Path, state: State) -> None:
    """Writes `state` (tensors and plain values) as the latest; the one that was becomes the previous.

    Killed at any moment, it leaves one whole state at least. Raises UserError when the folder cannot be written.
    """
    content = to_bytes({"format": FORMAT, **state})
    with atomic_path(folder / LATEST) as temporary:
        temporary.write_bytes(content)
        if (folder / LATEST).exists():
            os.replace(folder / LATEST, folder / PREVIOUS)


def load_state(folder: Path, about: str = "resume") -> State:
    """The latest state, on the CPU, or the previous one where that is missing or damaged.

    about: the parameter that asked for it, for messages.

    Raises:
        UserError: neither can be read; the message is about the latest.
    """
    failures = []
    for path in (folder / LATEST, folder / PREVIOUS):
        try:
            state = load_tensors(path)
            if isinstance(state, dict) and state.get("format") == FORMAT:
                return state
            failures.append(f"{path}: expected a {FORMAT} file")
        except UserError as error:
            failures.append(str(error))
    raise UserError(failures[0], about)


def has_state(folder: Path) -> bool:
    """Whether a run was saved in the folder."""
    return (folder / LATEST).exists() or (folder / PREVIOUS).exists()
