"""Batches made ahead of their step, so that training does not wait for them."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from dinn360.data.crops import Batch


class Prefetcher:
    """Calls `make` for step n + 1 in a thread of its own while step n is computed.

    Batches are a pure function of their step, so this changes no run. An error of `make` is raised where the batch is
    asked for. (On a CPU a batch costs a hundredth of a step or less; a GPU would wait for it.)
    """

    def __init__(self, make: Callable[[int], Batch]) -> None:
        self._make = make
        self._thread = ThreadPoolExecutor(1, "batches")
        self._next: tuple[int, Future[Batch]] | None = None

    def __call__(self, step: int) -> Batch:
        if self._next is None or self._next[0] != step:
            self._next = (step, self._thread.submit(self._make, step))
        batch = self._next[1].result()
        self._next = (step + 1, self._thread.submit(self._make, step + 1))
        return batch

    def __enter__(self) -> Prefetcher:
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown(wait=True, cancel_futures=True)
