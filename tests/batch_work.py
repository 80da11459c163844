"""Work for worker processes of the tests; a module of its own, since a new process imports it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from engines.batch.outcomes import Outcome
from engines.panorama.selection import Job


@dataclass(frozen=True)
class Fragile:
    """Kills its process at files named "deadly…", and once at those named "shaky…"."""

    marks: Path

    def __call__(self) -> Callable[[Job], Outcome]:
        return self.work

    def work(self, job: Job) -> Outcome:
        mark = self.marks / job.source.name
        if job.source.name.startswith("deadly") or (job.source.name.startswith("shaky") and not mark.exists()):
            mark.touch()
            os._exit(9)
        return Outcome(str(job.source), str(job.target), "done", attempts=1)


@dataclass(frozen=True)
class Slow:
    """Takes half a second for each file."""

    def __call__(self) -> Callable[[Job], Outcome]:
        return self.work

    def work(self, job: Job) -> Outcome:
        time.sleep(0.5)
        return Outcome(str(job.source), str(job.target), "done", attempts=1)
