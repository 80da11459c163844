"""What a worker does: one session, one file after the other, an outcome for each whatever happens."""

from __future__ import annotations

import os
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

from engines.batch.outcomes import Outcome
from engines.panorama.graph import Direction
from engines.panorama.rescale_file import Options, rescale_file
from engines.panorama.rescaler import Rescaler
from engines.panorama.selection import Job
from engines.session import open_session
from engines.support.errors import UserError


@dataclass(frozen=True)
class Setup:
    """How a worker is made; plain data, so that it can be sent to other processes and machines.

    Every machine sees the same paths. threads: CPU threads of a worker. retries: further attempts after a failure.
    """

    model: Path
    direction: Direction
    options: Options
    threads: int | None = None
    provider: str | None = None
    retries: int = 2

    def worker(self) -> Worker:
        """A worker with its session open. Raises UserError when the model cannot be opened here."""
        return Worker(self)


class Worker:
    """Rescales files; call it with a job. What goes wrong with a file is part of the outcome, not an exception."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        session = open_session(setup.model, setup.threads, setup.provider)
        self.rescaler = Rescaler(session, setup.direction, setup.options.exact)

    def __call__(self, job: Job) -> Outcome:
        started = time.perf_counter()
        problem = about = ""
        for attempt in range(1, self.setup.retries + 2):
            with warnings.catch_warnings(record=True) as notes:
                warnings.simplefilter("always")
                try:
                    job.target.parent.mkdir(parents=True, exist_ok=True)
                    result = rescale_file(self.rescaler, job.source, job.target, self.setup.options)
                except UserError as error:
                    problem, about = error.reason, error.about
                except (OSError, MemoryError) as error:
                    problem, about = f"{job.source}: {error or type(error).__name__}", ""
                else:
                    return Outcome(
                        source=str(job.source),
                        target=str(job.target),
                        status="done",
                        attempts=attempt,
                        seconds=round(time.perf_counter() - started, 3),
                        megapixels=round(result.megapixels, 6),
                        bytes=os.path.getsize(job.target),
                        notes=tuple(str(note.message) for note in notes),
                    )
        return failed(job, problem, attempt, time.perf_counter() - started, about)


def failed(job: Job, problem: str, attempts: int, seconds: float = 0.0, about: str = "") -> Outcome:
    """The outcome of a file that could not be rescaled."""
    return Outcome(str(job.source), str(job.target), "failed", attempts, round(seconds, 3), error=problem, about=about)
