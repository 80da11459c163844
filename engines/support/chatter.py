"""Hiding what C libraries write to the process's stderr: we say ourselves what is wrong, in one line."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_lock = threading.Lock()
_hiding = 0  # blocks that run now, of all threads
_kept = -1  # stderr, meanwhile


@contextmanager
def hidden() -> Iterator[None]:
    """Send file descriptor 2 nowhere during the block.

    libtiff writes its messages there, and its error handler cannot be reached through Pillow. The descriptor belongs to
    the process: what another thread says meanwhile is lost as well, so the block should be a short one. Blocks of
    several threads may overlap: the first hides, the last brings back.
    """
    _enter()
    try:
        yield
    finally:
        _leave()


def _enter() -> None:
    global _hiding, _kept
    with _lock:
        if _hiding == 0:
            try:
                _kept = os.dup(2)
            except OSError:  # there is no stderr
                _kept = -1
            else:
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, 2)
                os.close(nowhere)
        _hiding += 1


def _leave() -> None:
    global _hiding
    with _lock:
        _hiding -= 1
        if _hiding == 0 and _kept >= 0:
            os.dup2(_kept, 2)
            os.close(_kept)
