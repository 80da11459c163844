"""downscale-video and upscale-video: the frames of one video or of several through a graph."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from tqdm import tqdm

from engines.commands.options import FOREIGN, SUBSAMPLING, Request, runtime_options, taking_request
from engines.commands.tally import Tally, conclude, report
from engines.commands.types import TILE
from engines.kinds import open_model
from engines.panorama.coding import CHROMA
from engines.panorama.graph import Direction
from engines.panorama.selection import Sort
from engines.panorama.still import StillRescaler
from engines.panorama.video import CODECS, CONTAINERS, VideoResult, rescale_video
from engines.support.errors import UserError
from engines.support.files import make_folder
from engines.support.progress import progress

# Of videos that are looked for in folders; a file that is named may have any suffix.
READABLE = frozenset({".mkv", ".mp4", ".mov", ".m4v", ".webm", ".avi", ".mts", ".m2ts", ".ts", ".mpg", ".360"})
VIDEOS = Sort("a video", READABLE, tuple(CONTAINERS))


def shared_options(suffix: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """What both directions have; the first arguments are given on as `Request`. suffix: of results in a folder."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        kinds = click.Choice([name[1:] for name in CONTAINERS])
        where = "Of results in a folder."
        tiles = "LR rows and columns at a time."
        run = taking_request(command)
        for option in (
            click.option("--tile", type=TILE, default="auto", show_default=True, help=tiles),
            click.option("--format", "kind", type=kinds, default=suffix, show_default=True, help=where),
        ):
            run = option(run)
        return runtime_options(run)

    return decorate


@click.command("downscale-video")
@click.option(
    "--codec", type=click.Choice(CODECS), default="ffv1", show_default=True, help="ffv1 and x264 are lossless."
)
@click.option("--crf", type=click.IntRange(0, 63), help="Quality of h264, hevc and av1; 0 is best. Default: by codec.")
@SUBSAMPLING
@shared_options("mkv")
def downscale_video(request: Request, chroma: str | None, **options: Any) -> None:
    """Downscale the frames of each SOURCE (a video, a folder or a glob pattern) to TARGET; audio is kept.

    TARGET is .mkv; .mp4 and .mov with other codecs than ffv1; or a folder for several.
    """
    _run(request, "down", chroma=CHROMA[chroma] if chroma else None, **options)


@click.command("upscale-video")
@click.option("--crf", type=click.IntRange(0, 51), default=16, show_default=True, help="Quality of H.264; 0 is best.")
@FOREIGN
@shared_options("mp4")
def upscale_video(request: Request, **options: Any) -> None:
    """Upscale the frames of each SOURCE (best: what downscale-video made) to TARGET; audio is kept.

    SOURCE is a video, a folder or a glob pattern; TARGET is .mp4, .mov or .mkv, or a folder for several.
    """
    _run(request, "up", **options)


def _run(
    request: Request,
    direction: Direction,
    model: Path,
    threads: int | None,
    provider: str | None,
    exact: bool,
    **options: Any,
) -> None:
    """Rescales what is asked for; in a folder, a bad video does not stop the others."""
    jobs, folder = request.select(VIDEOS)
    if not folder and jobs[0].target.exists() and jobs[0].target.samefile(jobs[0].source):
        raise UserError(f"{request.target}: is the source itself; name another target")
    tally = Tally("video")
    waiting = [job for job in jobs if request.overwrite or not job.target.exists()]
    tally.skipped = len(jobs) - len(waiting)
    with open_model(model, direction, threads, provider) as session:
        for job in waiting:
            if folder:
                make_folder(job.target.parent, "")
            rescaler = StillRescaler(session, direction, exact)
            name = f"{job.source.name} " if len(jobs) > 1 else None
            with (
                progress(unit="frame", quiet=request.quiet, desc=name) as bar,
                tally.attempt(bar, alone=len(jobs) == 1),
            ):
                result = rescale_video(rescaler, job.source, job.target, progress=_mover(bar), **options)
                tally.done += 1
                tally.megapixels += _megapixels(result)
                tally.seconds += result.seconds
                tally.files.append({"source": str(job.source), "target": str(job.target), **asdict(result)})
    if folder:
        conclude(tally, request)
    else:
        report(_text(result, rescaler), json.dumps(asdict(result)), request.quiet, request.as_json)


def _mover(bar: tqdm) -> Callable[[int, int], None]:
    def advance(done: int, of: int) -> None:
        bar.total = of or None
        bar.update(done - bar.n)

    return advance


def _megapixels(result: VideoResult) -> float:
    return result.frames * result.height * result.width / 1e6


def _text(result: VideoResult, rescaler: StillRescaler) -> str:
    """One line for the end of a run over one video."""
    rate = f"{result.frames / result.seconds:.2f} frames/s, {_megapixels(result) / result.seconds:.2f} megapixels/s"
    still = f", {rescaler.reused} of {rescaler.computed + rescaler.reused} tiles unchanged" if rescaler.reused else ""
    return f"{result.frames} frames of {result.width}x{result.height} in {result.seconds:.1f} s: {rate}{still}"
