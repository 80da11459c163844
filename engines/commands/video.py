"""downscale-video and upscale-video: the frames of a video through a graph."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from engines.commands.images import (
    EXACT,
    FOREIGN,
    SPAN,
    STEREO_OPTION,
    SUBSAMPLING,
    report,
    runtime_options,
    summary_options,
)
from engines.commands.types import PATH, TILE
from engines.kinds import open_model
from engines.panorama.coding import CHROMA
from engines.panorama.graph import Direction
from engines.panorama.rescaler import Tile
from engines.panorama.still import StillRescaler
from engines.panorama.video import CODECS, rescale_video
from engines.support.errors import UserError
from engines.support.progress import progress

SOURCE = click.argument("source", type=PATH)
TARGET = click.argument("target", type=PATH)
OVERWRITE = click.option("--overwrite", is_flag=True, help="Replace a video that is there already.")
TILES = click.option("--tile", type=TILE, default="auto", show_default=True, help="LR rows and columns at a time.")


@click.command("downscale-video")
@SOURCE
@TARGET
@OVERWRITE
@TILES
@STEREO_OPTION
@SPAN
@EXACT
@click.option(
    "--codec", type=click.Choice(CODECS), default="ffv1", show_default=True, help="ffv1 and x264 are lossless."
)
@click.option("--crf", type=click.IntRange(0, 63), help="Quality of h264, hevc and av1; 0 is best. Default: by codec.")
@SUBSAMPLING
@runtime_options
@summary_options
def downscale_video(source: Path, target: Path, chroma: str | None, **options: Any) -> None:
    """Downscale the frames of SOURCE to TARGET (.mkv; .mp4 and .mov with other codecs than ffv1); audio is kept."""
    _run(source, target, "down", chroma=CHROMA[chroma] if chroma else None, **options)


@click.command("upscale-video")
@SOURCE
@TARGET
@OVERWRITE
@TILES
@STEREO_OPTION
@SPAN
@EXACT
@FOREIGN
@click.option("--crf", type=click.IntRange(0, 51), default=16, show_default=True, help="Quality of H.264; 0 is best.")
@runtime_options
@summary_options
def upscale_video(source: Path, target: Path, **options: Any) -> None:
    """Upscale the frames of SOURCE (best: what downscale-video made) to TARGET (.mp4, .mov, .mkv); audio is kept."""
    _run(source, target, "up", **options)


def _run(
    source: Path,
    target: Path,
    direction: Direction,
    model: Path,
    threads: int | None,
    provider: str | None,
    overwrite: bool,
    tile: Tile,
    exact: bool,
    quiet: bool,
    as_json: bool,
    **options: Any,
) -> None:
    if not source.is_file():
        raise UserError(f"{source}: expected a video file, found none")
    if target.exists() and not overwrite:
        raise UserError(f"{target}: is there already; give --overwrite to replace it")
    if target.exists() and target.samefile(source):
        raise UserError(f"{target}: is the source itself; name another target")
    with open_model(model, direction, threads, provider) as session, progress(unit="frame", quiet=quiet) as bar:

        def advance(done: int, of: int) -> None:
            bar.total = of or None
            bar.update(done - bar.n)

        rescaler = StillRescaler(session, direction, exact)
        result = rescale_video(rescaler, source, target, tile=tile, progress=advance, **options)
    megapixels = result.frames * result.height * result.width / 1e6
    rate = f"{result.frames / result.seconds:.2f} frames/s, {megapixels / result.seconds:.2f} megapixels/s"
    still = f", {rescaler.reused} of {rescaler.computed + rescaler.reused} tiles unchanged" if rescaler.reused else ""
    text = f"{result.frames} frames of {result.width}x{result.height} in {result.seconds:.1f} s: {rate}{still}"
    report(text, json.dumps(asdict(result)), quiet, as_json)
