"""Rescale one file into one file: the unit of work of every command, process and cluster."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from engines.panorama.coding import DEFAULTS, Coding, plan_coding, problems_of
from engines.panorama.record import Digest, Record, check_model
from engines.panorama.rescaler import Rescaler, Tile
from engines.panorama.sinks import check_format, format_of, open_sink
from engines.panorama.sources import Source, open_source
from engines.support.errors import UserError
from engines.support.files import atomic_path

Progress = Callable[[int, int], None]  # tiles done, tiles in all


@dataclass(frozen=True)
class Options:
    """How a file is rescaled.

    tile: LR rows and columns, "auto" or "none". bits: of the result; None: those of the original.
    lossy: allow an LR image of a quality that the model does not bear. foreign: upscale any image without a warning.
    exact: tiles see all that changes a result (halo.py).
    size: (height, width) of the restored original; None: what the file says, else scale times its own.
    quality: of JPEG (None: 95), AVIF (None: 90) and WebP (None: lossless). chroma: of a downscaled lossy file, "4:4:4"
        or "4:2:0"; None: what suits the model.
    """

    tile: Tile = "auto"
    bits: Literal[8, 16] | None = None
    lossy: bool = False
    foreign: bool = False
    exact: bool = False
    size: tuple[int, int] | None = None
    quality: int | None = None
    chroma: str | None = None


@dataclass(frozen=True)
class Result:
    """What was done. height, width: of the HR side. seconds: reading, computing and writing."""

    source: Path
    target: Path
    height: int
    width: int
    tiles: int
    seconds: float

    @property
    def megapixels(self) -> float:
        """HR pixels, in millions."""
        return self.height * self.width / 1e6


def rescale_file(
    rescaler: Rescaler, source: Path, target: Path, options: Options = Options(), progress: Progress | None = None
) -> Result:
    """Downscales or upscales the image `source` to `target`, whole or not at all; an older `target` is replaced.

    EXIF, XMP and colour profile are kept, pixel sizes in them rescaled. A downscaled file carries a `Record`.
    `warnings.warn` tells of losses, and of an LR image that downscaling did not make like this.

    Raises:
        UserError: the source cannot be read, belongs to another model, or does not fit the options; the target
            cannot be written or its format cannot hold the result.
    """
    started = time.perf_counter()
    coding = _plan_coding(rescaler, target, options)
    if os.path.exists(target) and os.path.samefile(source, target):
        raise UserError(f"{target}: is the source itself; name another target")
    opened = open_source(source)
    try:
        record, size = examine(rescaler, opened, options)
        if record is None and not options.foreign and opened.width != 2 * opened.height:
            size_text = f"{opened.width} x {opened.height}"
            warnings.warn(f"{source}: expected a 2:1 equirectangular panorama, found {size_text}", stacklevel=2)
        bits = options.bits or (record.bits if record else opened.bits)
        check_format(target, size, opened.channels, bits)
        tiles = _write(rescaler, opened, target, size, bits, coding, options, progress)
        height, width = size if rescaler.direction == "up" else (opened.height, opened.width)
    finally:
        opened.close()
    return Result(source, target, height, width, tiles, time.perf_counter() - started)


def examine(rescaler: Rescaler, source: Source, options: Options) -> tuple[Record | None, tuple[int, int]]:
    """The record of an LR image that this model made, else None, and (height, width) of the result.

    Raises:
        UserError: another model made the LR image, or the wanted size does not belong to it.
    """
    record = None if rescaler.direction == "down" else _check_record(rescaler, source, options)
    return record, _result_size(rescaler, source, record, options)


def _write(
    rescaler: Rescaler,
    source: Source,
    target: Path,
    size: tuple[int, int],
    bits: int,
    coding: Coding,
    options: Options,
    progress: Progress | None,
) -> int:
    """Computes and writes; returns the number of tiles."""
    tiles = rescaler.plan(source, options.tile, bits)
    factor = rescaler.scale if rescaler.direction == "up" else 1 / rescaler.scale
    metadata = source.metadata.rescaled((source.height, source.width), size, factor)
    digest = Digest()
    done = 0

    def advance() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, tiles.tiles)

    with atomic_path(target) as temporary, temporary.open("wb") as file:
        sink = open_sink(target, file, size, source.channels, bits, metadata, coding)
        for rows in rescaler.rescale(source, tiles, bits, size, advance):
            sink.write(rows)
            digest.update(rows)
        record = None
        if rescaler.direction == "down":
            original = (source.width, source.height, source.bits)
            written = "" if coding.lossless else str(coding)
            record = Record(rescaler.scale, rescaler.model, *original, digest.text(), written)
        sink.finish(record)
    return tiles.tiles


def _plan_coding(rescaler: Rescaler, target: Path, options: Options) -> Coding:
    """How the result is coded. UserError where that would destroy what an LR image hides."""
    kind, quality = format_of(target), options.quality
    if rescaler.direction == "down":
        return plan_coding(target, kind, quality, options.chroma, rescaler.survives, options.lossy)
    if kind == "WEBP" and quality is None:
        return Coding(kind)
    return Coding(kind, kind in ("PNG", "TIFF"), "4:2:0" if kind == "WEBP" else "4:4:4", quality or DEFAULTS.get(kind))


def _check_record(rescaler: Rescaler, source: Source, options: Options) -> Record | None:
    """The record of an LR image that this model made, else None; says what is wrong with it."""
    record = source.record
    if record is None:
        if not options.foreign:
            warnings.warn(
                f"{source.path}: downscale did not make this image (or its record is lost): upscaled as any picture, "
                "without hidden detail",
                stacklevel=2,
            )
        return None
    if options.foreign:
        return record if record.scale == rescaler.scale and record.fits(source.height, source.width) else None
    check_model(record, rescaler.model, rescaler.scale, source.path)
    if not record.fits(source.height, source.width):
        warnings.warn(f"{source.path}: was resized after downscale: upscaled as any picture", stacklevel=2)
        return None
    if source.coding.lossless and source.digest() != record.pixels:
        warnings.warn(
            f"{source.path}: its pixels are not those that downscale wrote (recompressed or edited): "
            "detail will be wrong",
            stacklevel=2,
        )
    for problem in problems_of(source.coding, record.coding, rescaler.survives):
        warnings.warn(f"{source.path}: {problem}", stacklevel=2)
    return record


def _result_size(rescaler: Rescaler, source: Source, record: Record | None, options: Options) -> tuple[int, int]:
    """(height, width) of the result."""
    if rescaler.direction == "down":
        return rescaler.lr_size(source)
    scale, own = rescaler.scale, (source.height, source.width)
    if options.size is None:
        return (record.height, record.width) if record else (scale * own[0], scale * own[1])
    height, width = options.size
    if (-(-height // scale), -(-width // scale)) != own:
        least, most = (f"{scale * (own[1] - n) + n}x{scale * (own[0] - n) + n}" for n in (1, 0))
        raise UserError(f"expected {least} to {most} (width x height), found {width}x{height}", "size")
    return options.size
