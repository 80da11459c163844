"""Workers as actors of a Ray cluster, fed by Ray Data. Every machine has this package and sees the same paths."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

from engines.batch.outcomes import Outcome
from engines.batch.work import Setup, failed
from engines.panorama.selection import Job
from engines.support.errors import UserError


class _Actor:
    """A worker whose jobs and outcomes are Ray Data's rows."""

    def __init__(self, setup: Setup) -> None:
        self.worker = setup.worker()

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        return {"line": self.worker(Job(Path(row["source"]), Path(row["target"]))).to_line()}


def run(setup: Setup, jobs: Sequence[Job], workers: int, address: str) -> Iterator[Outcome]:
    """Outcomes as they come, one a job; an actor that dies with a file is restarted as often as the setup says.

    address: of a running cluster as ray.init takes it ("auto", "ray://host:port"), or "local" for one on this machine
    and for this run.

    Raises:
        UserError: Ray is not installed, or the cluster cannot be reached.
    """
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise UserError(
            "needs the package ray, which is not installed: pip install 'dinn360[ray]'", "address"
        ) from error
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise UserError(f"{address}: cannot reach the cluster: {error}", "address") from error
    try:
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.max_errored_blocks = -1  # a file that kills its actor is reported, the others go on
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        rows = [{"source": str(job.source), "target": str(job.target)} for job in jobs]
        outcomes = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
            cast(Any, _Actor),  # Ray makes one in each actor
            fn_constructor_args=(setup,),
            compute=ray.data.ActorPoolStrategy(size=min(workers, len(jobs))),
            num_cpus=setup.threads or 1,
            max_restarts=-1,
            max_task_retries=setup.retries,
        )
        left = {str(job.source): job for job in jobs}
        for row in outcomes.iter_rows():
            outcome = Outcome.from_line(row["line"])
            del left[outcome.source]
            yield outcome
        for job in left.values():
            yield failed(job, f"{job.source}: the worker process died", setup.retries + 1)
    finally:
        ray.shutdown()
