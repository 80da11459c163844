"""Workers as processes of this machine."""

from __future__ import annotations

import multiprocessing
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from engines.batch.outcomes import Outcome
from engines.batch.work import Setup, failed
from engines.panorama.selection import Job
from engines.support.termination import end_when_terminated

Work = Callable[[Job], Outcome]
_work: Work | None = None  # of this process, once it is a worker


def run(setup: Setup, jobs: Sequence[Job], workers: int) -> Iterator[Outcome]:
    """Outcomes as they come, one a job.

    A worker that dies with a file (no memory, a crash in the runtime) is replaced, and the file is tried again, as
    often as the setup says; the others go on.
    """
    return process(setup.worker, setup.retries, jobs, workers)


def process(make: Callable[[], Work], retries: int, jobs: Sequence[Job], workers: int) -> Iterator[Outcome]:
    """`run` for any work. make: called once in each process; it and what it makes can be pickled."""
    waiting: queue.SimpleQueue[Job] = queue.SimpleQueue()
    for job in jobs:
        waiting.put(job)
    finished = _Finished()
    stop = threading.Event()
    threads = [
        threading.Thread(target=_look_after_one, args=(make, retries, waiting, finished, stop), daemon=True)
        for _ in range(min(workers, len(jobs)))
    ]
    for thread in threads:
        thread.start()
    told = 0
    try:
        while told < len(jobs):
            outcome = finished.wait_for(told)
            if isinstance(outcome, BaseException):
                raise outcome
            told += 1
            yield outcome
    except KeyboardInterrupt:
        # It came while this waited, most likely: the files that are under way are finished, and told, too.
        _end(stop, threads)
        for outcome in finished.outcomes[told:]:
            if isinstance(outcome, Outcome):
                yield outcome
        raise
    finally:
        _end(stop, threads)


class _Finished:
    """What became of jobs, in the order in which they ended. Waiting takes nothing away: an interruption loses none."""

    def __init__(self) -> None:
        self.outcomes: list[Outcome | BaseException] = []
        self._more = threading.Condition()

    def put(self, outcome: Outcome | BaseException) -> None:
        with self._more:
            self.outcomes.append(outcome)
            self._more.notify()

    def wait_for(self, index: int) -> Outcome | BaseException:
        with self._more:
            self._more.wait_for(lambda: len(self.outcomes) > index)
            return self.outcomes[index]


def _end(stop: threading.Event, threads: list[threading.Thread]) -> None:
    stop.set()
    for thread in threads:
        thread.join()


def _look_after_one(
    make: Callable[[], Work],
    retries: int,
    waiting: queue.SimpleQueue[Job],
    finished: _Finished,
    stop: threading.Event,
) -> None:
    """Feeds one worker process, and starts another when it dies. One process a pool tells whose file it died with."""
    pool = _pool(make)
    try:
        while not stop.is_set():
            try:
                job = waiting.get_nowait()
            except queue.Empty:
                return
            for attempt in range(1, retries + 2):
                try:
                    outcome = pool.submit(_call, job).result()
                    break
                except BrokenProcessPool:
                    pool.shutdown()
                    pool = _pool(make)
                    outcome = failed(job, f"{job.source}: the worker process died", attempt)
            finished.put(outcome)
    except BaseException as error:
        finished.put(error)
    finally:
        pool.shutdown()


def _pool(make: Callable[[], Work]) -> ProcessPoolExecutor:
    # spawn: a forked copy of a process with a runtime's threads may hang
    return ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), initializer=_start, initargs=(make,))


def _start(make: Callable[[], Work]) -> None:
    global _work
    end_when_terminated()
    _work = make()


def _call(job: Job) -> Outcome:
    assert _work is not None
    return _work(job)
