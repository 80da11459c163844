"""SIGTERM, which `docker stop`, schedulers and service managers send, ends a command as Ctrl-C does: tidied up."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

STATUS = 128 + signal.SIGTERM


@contextmanager
def terminable() -> Iterator[None]:
    """Let SIGTERM raise SystemExit in the block, once: what the block opened is closed and removed on the way out.

    Only the main thread can hear signals; elsewhere, and where somebody listens already, nothing changes.
    """
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, _end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def end_when_terminated() -> None:
    """As `terminable`, for the rest of this process: a worker."""
    signal.signal(signal.SIGTERM, _end)


def _end(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_IGN)  # a second one must not interrupt the tidying up
    raise SystemExit(STATUS)
