"""Rescale one file into one file: the unit of work of every command, process and cluster."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from engines.panorama.coding import DEFAULTS, Coding, plan_coding, problems_of
from engines.panorama.layout import Layout, Stereo, check_words, choose, layout_in, recorded
from engines.panorama.metadata import Metadata
from engines.panorama.other_eye import with_other_eye_rescaled
from engines.panorama.record import Digest, Record, check_model
from engines.panorama.rescaler import Rescaler, Tile
from engines.panorama.sinks import check_format, format_of, open_sink
from engines.panorama.sources import Source, open_source
from engines.panorama.stereo import rescale_eyes
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
    stereo, span: where two eyes lie, and degrees across of an eye (`Layout`); None: what the file says, else one
        panorama all around.
    """

    tile: Tile = "auto"
    bits: Literal[8, 16] | None = None
    lossy: bool = False
    foreign: bool = False
    exact: bool = False
    size: tuple[int, int] | None = None
    quality: int | None = None
    chroma: str | None = None
    stereo: Stereo | None = None
    span: float | None = None


@dataclass(frozen=True)
class Task:
    """What is to be done with a picture.

    record: of an LR picture that this model made, else None. layout: of its eyes. size: (height, width) of the result.
    """

    record: Record | None
    layout: Layout
    size: tuple[int, int]


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

    EXIF, XMP and colour profile are kept, pixel sizes in them rescaled. A downscaled file carries a `Record`. Each eye
    of a stereo pair is rescaled by itself, also that which a VR photo carries in its XMP packet.
    `warnings.warn` tells of losses, and of an LR image that downscaling did not make like this.

    Raises:
        UserError: the source cannot be read, belongs to another model, or does not fit the options; the target
            cannot be written or its format cannot hold the result.
    """
    started = time.perf_counter()
    coding = coding_of_result(rescaler, target, options)
    if os.path.exists(target) and os.path.samefile(source, target):
        raise UserError(f"{target}: is the source itself; name another target")
    opened = open_source(source)
    opened.written = coding
    try:
        task = examine(rescaler, opened, options)
        _check_shape(opened, task, options)
        bits = options.bits or (task.record.bits if task.record else opened.bits)
        check_format(target, task.size, opened.channels, bits)
        tiles = _write(rescaler, opened, target, task, bits, coding, options, progress)
        height, width = task.size if rescaler.direction == "up" else (opened.height, opened.width)
    finally:
        opened.close()
    return Result(source, target, height, width, tiles, time.perf_counter() - started)


def examine(rescaler: Rescaler, source: Source, options: Options) -> Task:
    """What is to be done with a picture; warns of what its file says wrongly.

    Raises:
        UserError: another model made the LR image, or the wanted size or layout does not belong to it.
    """
    own = (source.height, source.width)
    record = None if rescaler.direction == "down" else _check_record(rescaler, source, options)
    layout = recorded(record, own) if record else None
    if layout is None:
        layout, problem = choose(layout_in(source.metadata), options.stereo, options.span, own)
        if problem:
            warnings.warn(f"{source.path}: {problem}", stacklevel=2)
    else:
        check_words(layout, options.stereo, options.span, source.path)
    return Task(record, layout, _result_size(rescaler, source, record, layout, options))


def _check_shape(source: Source, task: Task, options: Options) -> None:
    """Warns where an eye cannot be a whole panorama."""
    height, width = task.layout.of_eye((source.height, source.width))
    if task.record is None and not options.foreign and task.layout.wraps and width != 2 * height:
        what = "panorama" if task.layout.eyes == 1 else f"panorama for each eye ({task.layout.stereo})"
        warnings.warn(f"{source.path}: expected a 2:1 equirectangular {what}, found {width} x {height}", stacklevel=3)


def _write(
    rescaler: Rescaler,
    source: Source,
    target: Path,
    task: Task,
    bits: int,
    coding: Coding,
    options: Options,
    progress: Progress | None,
) -> int:
    """Computes and writes; returns the number of tiles."""
    metadata = _metadata(rescaler, source, target, task, options)
    digest = Digest()
    tiles = 0

    def advance(done: int, of: int) -> None:
        nonlocal tiles
        tiles = of
        if progress is not None:
            progress(done, of)

    with atomic_path(target) as temporary, temporary.open("wb") as file:
        sink = open_sink(target, file, task.size, source.channels, bits, metadata, coding)
        for rows in rescale_eyes(rescaler, source, task.layout, options.tile, bits, task.size, advance):
            sink.write(rows)
            digest.update(rows)
        record = None
        if rescaler.direction == "down":
            original = (source.width, source.height, source.bits)
            written = "" if coding.lossless else str(coding)
            record = Record(rescaler.scale, rescaler.model, *original, digest.text(), written, task.layout.to_text())
        sink.finish(record)
    return tiles


def _metadata(rescaler: Rescaler, source: Source, target: Path, task: Task, options: Options) -> Metadata:
    """The result's metadata, with the other eye of a VR photo in them."""
    metadata = source.metadata
    if task.layout.eyes == 1:

        def rescale(before: Path, after: Path) -> None:
            known = options.foreign or rescaler.direction == "down"
            same = replace(options, stereo="mono", span=task.layout.span, foreign=known)
            rescale_file(rescaler, before, after, same)

        metadata = with_other_eye_rescaled(metadata, source.path, target, rescale)
    own = (source.height, source.width)
    eyes = (task.layout.of_eye(own), task.layout.of_eye(task.size))
    return metadata.rescaled(
        [(own, task.size), eyes], rescaler.scale if rescaler.direction == "up" else 1 / rescaler.scale
    )


def coding_of_result(rescaler: Rescaler, target: Path, options: Options) -> Coding:
    """How the result is coded as the file `target`; `warnings.warn` says what that costs.

    Raises:
        UserError: there is no such format, or it would destroy what an LR image hides.
    """
    kind, quality = format_of(target), options.quality
    if rescaler.direction == "down":
        return plan_coding(target, kind, quality, options.chroma, rescaler.survives, options.lossy)
    if kind == "WEBP" and quality is None:
        return Coding(kind)
    return Coding(kind, kind in ("PNG", "TIFF"), "4:2:0" if kind == "WEBP" else "4:4:4", quality or DEFAULTS.get(kind))


def _check_record(rescaler: Rescaler, source: Source, options: Options) -> Record | None:
    """The record of an LR image that this model made, else None; says what is wrong with it."""
    record, own = source.record, (source.height, source.width)
    if record is None:
        if not options.foreign:
            warnings.warn(
                f"{source.path}: downscale did not make this image (or its record is lost): upscaled as any picture, "
                "without hidden detail",
                stacklevel=2,
            )
        return None
    if options.foreign:
        return record if record.scale == rescaler.scale and recorded(record, own) else None
    check_model(record, rescaler.model, rescaler.scale, source.path)
    if recorded(record, own) is None:
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


def _result_size(
    rescaler: Rescaler, source: Source, record: Record | None, layout: Layout, options: Options
) -> tuple[int, int]:
    """(height, width) of the result."""
    own, scale = (source.height, source.width), rescaler.scale
    if rescaler.direction == "down":
        return layout.reduced(own, scale)
    if options.size is None:
        return (record.height, record.width) if record else (scale * own[0], scale * own[1])
    if not layout.fits(*options.size) or layout.reduced(options.size, scale) != own:
        eye = layout.of_eye(own)
        sizes = [layout.of_picture((scale * (eye[0] - n) + n, scale * (eye[1] - n) + n)) for n in (1, 0)]
        least, most = (f"{width}x{height}" for height, width in sizes)
        found = f"{options.size[1]}x{options.size[0]}"
        raise UserError(f"expected {least} to {most} (width x height), found {found}", "size")
    return options.size
