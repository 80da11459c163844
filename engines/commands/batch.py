"""python -m engines batch: a folder of thousands of panoramas on many processes or machines."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import click

from engines.batch import cluster, local
from engines.batch.outcomes import NAME, Manifest
from engines.batch.work import Setup
from engines.commands import told
from engines.commands.images import options_of, shared_options
from engines.commands.options import FOREIGN, LOSSY, Request, runtime_options
from engines.commands.tally import report
from engines.commands.types import WORKERS
from engines.panorama.graph import direction_of
from engines.panorama.selection import Job, select
from engines.session import open_session
from engines.support.errors import UserError
from engines.support.files import make_folder
from engines.support.progress import progress


@click.command()
@shared_options
@LOSSY
@FOREIGN
@runtime_options
@click.option("--workers", type=WORKERS, default=1, show_default=True, help="Processes, or actors of Ray.")
@click.option(
    "--ray",
    "address",
    is_flag=False,
    flag_value="local",
    help="Use Ray Data; address of a cluster, default: this machine.",
)
@click.option(
    "--retries", type=click.IntRange(0, 100), default=2, show_default=True, help="Further attempts at a failed file."
)
def batch(
    request: Request,
    model: Path,
    threads: int | None,
    provider: str | None,
    bits: str | None,
    workers: int,
    address: str | None,
    retries: int,
    **options: Any,
) -> None:
    """Rescale each SOURCE (a folder or a glob pattern) to the folder TARGET with many workers.

    TARGET/manifest.jsonl tells what became of each file. Run it again to go on after an interruption, and to try
    again what failed. With Ray, every machine needs this package, the model and the files under the same paths.
    """
    jobs, folder = select(request.sources, request.target, request.suffix)
    if not folder:
        raise UserError(f"{request.target}: expected a folder")
    if model.is_dir():
        raise UserError(f"expected a graph or an engine, which says the direction, found the folder {model}", "model")
    make_folder(request.target, "")
    jobs = [Job(job.source.resolve(), job.target.resolve()) for job in jobs]
    with open_session(model, threads, provider) as session:  # a bad model is told here, once
        direction = direction_of(session)
        if direction is None:
            raise UserError(f"expected a graph with the input hr or lr, found none of ours in {model}", "model")
    share = threads or max(1, (os.cpu_count() or 1) // workers)
    setup = Setup(model.resolve(), direction, options_of(bits, **options), share, provider, retries)
    with Manifest(request.target, jobs, request.overwrite) as manifest:
        if manifest.waiting:
            if address is None:
                outcomes = local.run(setup, manifest.waiting, workers)
            else:
                outcomes = cluster.run(setup, manifest.waiting, workers, address)
            with progress(total=len(manifest.waiting), unit="file", quiet=request.quiet) as bar:
                for outcome in outcomes:
                    manifest.add(outcome)
                    bar.update()
                    if outcome.status == "failed":
                        bar.clear()
                        message = told(click.get_current_context().command, UserError(outcome.error, outcome.about))
                        click.echo(f"error: {message} ({outcome.attempts} attempts)", err=True)
    done, wrong = manifest.count("done") + manifest.count("existing"), manifest.count("failed")
    summary = {"manifest": str(request.target / NAME), "files": len(jobs), "done": done, "failed": wrong}
    text = f"{request.target / NAME}: {done} of {len(jobs)} done, {wrong} failed"
    report(text, json.dumps(summary, ensure_ascii=False), request.quiet, request.as_json)
    if wrong:
        click.get_current_context().exit(1)
