"""Keeping the process's place among others, where a library takes a better one.

SVT-AV1, run by root as in most containers, makes the thread that opens an encoder and all of its own threads real-time
ones, of the highest priority. Every thread and process that is started from then on inherits that: on two cores such a
process starves all else, and its children wait in vain for what they have starved.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_THREADS = Path("/proc/self/task")


@contextmanager
def ordinary_scheduling() -> Iterator[None]:
    """Threads that are real-time after the block and were not before it get the policy back that the caller had.

    Does nothing where the kernel tells no threads (anywhere but on Linux), and where the caller is a real-time thread
    already.
    """
    before = _real_time()
    mine = None if before is None else (os.sched_getscheduler(0), os.sched_getparam(0))
    try:
        yield
    finally:
        if before is not None and mine is not None and not _is_real_time(mine[0]):
            for thread in (_real_time() or set()) - before:
                with suppress(OSError):  # it has ended meanwhile
                    os.sched_setscheduler(thread, *mine)


def _real_time() -> set[int] | None:
    """The process's real-time threads; None where the kernel does not tell."""
    try:
        threads = [int(entry.name) for entry in _THREADS.iterdir()]
    except OSError:
        return None
    found = set()
    for thread in threads:
        with suppress(OSError):
            if _is_real_time(os.sched_getscheduler(thread)):
                found.add(thread)
    return found


def _is_real_time(policy: int) -> bool:
    return policy & ~os.SCHED_RESET_ON_FORK in (os.SCHED_FIFO, os.SCHED_RR)
