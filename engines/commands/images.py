"""downscale and upscale: one panorama, a folder or a glob pattern through a graph."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import click
from tqdm import tqdm

from engines.commands.options import FOREIGN, LOSSY, ORIGINAL, SUBSAMPLING, Request, runtime_options, taking_request
from engines.commands.tally import Tally, conclude
from engines.commands.types import TILE
from engines.kinds import open_model
from engines.panorama.coding import CHROMA
from engines.panorama.graph import Direction
from engines.panorama.rescale_file import Options, rescale_file
from engines.panorama.rescaler import Rescaler
from engines.panorama.selection import Job
from engines.runtimes.base import Session
from engines.support.files import make_folder
from engines.support.progress import progress


def shared_options(command: Callable[..., None]) -> Callable[..., None]:
    """The arguments and options that both directions have on every command line; given on as `Request`."""
    kinds = click.Choice(["png", "jpg", "webp", "avif", "tif"])
    tile = "LR rows and columns that are computed at a time; less takes less memory."
    quality = "Of JPEG (default 95), AVIF (90), WebP (lossless)."
    run = taking_request(command)
    for option in (
        click.option("--tile", type=TILE, default="auto", show_default=True, help=tile),
        click.option("--bits", type=click.Choice(["8", "16"]), help="Bits a channel; default: as the original."),
        click.option("--format", "kind", type=kinds, default="png", show_default=True, help="Of results in a folder."),
        click.option("--quality", type=click.IntRange(1, 100), help=quality),
    ):
        run = option(run)
    return run


@click.command()
@shared_options
@LOSSY
@SUBSAMPLING
@runtime_options
def downscale(
    request: Request, model: Path, threads: int | None, provider: str | None, bits: str | None, **options: Any
) -> None:
    """Downscale each SOURCE (a panorama, a folder or a glob pattern) to TARGET (a file, or a folder for several)."""
    opening = functools.partial(open_model, model, "down", threads, provider)
    run(request, opening, "down", options_of(bits, **options))


@click.command()
@shared_options
@ORIGINAL
@FOREIGN
@runtime_options
def upscale(
    request: Request, model: Path, threads: int | None, provider: str | None, bits: str | None, **options: Any
) -> None:
    """Upscale each SOURCE (best: what downscale made; a file, a folder or a glob pattern) to TARGET."""
    opening = functools.partial(open_model, model, "up", threads, provider)
    run(request, opening, "up", options_of(bits, **options))


def options_of(
    bits: str | None, size: tuple[int, int] | None = None, chroma: str | None = None, **options: Any
) -> Options:
    """The options of a command line as `Options`."""
    ratio = CHROMA[chroma] if chroma else None
    return Options(bits=8 if bits == "8" else 16 if bits else None, size=size, chroma=ratio, **options)


def run(
    request: Request, opening: Callable[[], AbstractContextManager[Session]], direction: Direction, options: Options
) -> None:
    """Rescales what is asked for, with a progress bar and a summary; in a folder, a bad file does not stop the others.

    Raises:
        UserError: nothing could be started, a single file failed, or the disk is full.
        click.exceptions.Exit: 1 when some files of a folder failed.
    """
    jobs, folder = request.select()
    tally = Tally()
    waiting = [job for job in jobs if request.overwrite or not job.target.exists()]
    tally.skipped = len(jobs) - len(waiting)
    with opening() as session, _bar(len(waiting), request.quiet) as bar:
        rescaler = Rescaler(session, direction, options.exact)
        for job in waiting:
            if folder:
                make_folder(job.target.parent, "")
            _one(job, rescaler, options, bar, tally, alone=len(jobs) == 1)
    conclude(tally, request)


def _bar(files: int, quiet: bool) -> tqdm:
    """A bar that moves tile by tile."""
    form = "{l_bar}{bar}| {elapsed} < {remaining}{postfix}"
    return progress(total=files, unit="panorama", quiet=quiet, form=form)


def _one(job: Job, rescaler: Rescaler, options: Options, bar: tqdm, tally: Tally, alone: bool) -> None:
    started, before = time.perf_counter(), bar.n

    def advance(done: int, of: int) -> None:
        bar.set_postfix_str(f"{job.source.name}, tile {done} of {of}", refresh=False)
        bar.update(before + done / of - bar.n)

    with tally.attempt(bar, alone):
        result = rescale_file(rescaler, job.source, job.target, options, advance)
        tally.done += 1
        tally.megapixels += result.megapixels
        tally.seconds += time.perf_counter() - started
        tally.files.append(
            {
                "source": str(job.source),
                "target": str(job.target),
                "width": result.width,
                "height": result.height,
                "tiles": result.tiles,
                "seconds": round(result.seconds, 3),
            }
        )
    bar.update(before + 1 - bar.n)
