"""Rescale a video frame by frame through PyAV: frames are streamed, audio and timing kept.

An LR video is lossless by default, as what the network hides in it must survive. The record of the model stands in the
container's metadata. The boxes that mark a file as spherical (Google's V1 and V2) are beyond PyAV: they are lost, and a
tool such as Spatial Media Metadata Injector writes them again.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from engines.panorama.metadata import Metadata
from engines.panorama.record import KEYWORD, Record, check_model
from engines.panorama.rescaler import Rescaler, Tile
from engines.panorama.sources import WholeSource
from engines.support.arrays import Image8
from engines.support.errors import UserError
from engines.support.files import atomic_path, os_reason

# codec of the option: (encoder, pixel format, its options)
LOSSLESS: dict[str, tuple[str, str, dict[str, str]]] = {
    "ffv1": ("ffv1", "bgr0", {"level": "3", "slicecrc": "1"}),
    "x264": ("libx264rgb", "bgr24", {"qp": "0", "preset": "veryfast"}),
}
CONTAINERS = {".mkv": ("ffv1", "x264"), ".mp4": ("x264",), ".mov": ("x264",)}
_NOT_COPIED = {KEYWORD, "MAJOR_BRAND", "MINOR_VERSION", "COMPATIBLE_BRANDS", "ENCODER"}  # of the old file itself
_HD = 720  # rows from which on a video that does not say so is taken as BT.709


@dataclass(frozen=True)
class VideoResult:
    """What was done. height, width: of the HR side. seconds: reading, computing and writing."""

    frames: int
    height: int
    width: int
    seconds: float


def rescale_video(
    rescaler: Rescaler,
    source: Path,
    target: Path,
    codec: str = "ffv1",
    crf: int = 16,
    tile: Tile = "auto",
    foreign: bool = False,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> VideoResult:
    """Rescales every frame of `source`; the file `target` (.mkv, .mp4, .mov) appears whole or not at all.

    Args:
        codec: of a downscaled video, "ffv1" or "x264" (lossless, RGB); an upscaled one is H.264, 4:2:0, 8 bits.
        crf: quality of an upscaled video, 0 (best) to 51.
        foreign: upscale any video without a warning.
        progress: called with the frames done and the frames in all (0: unknown).

    Raises:
        UserError: PyAV is missing, the source is no video or damaged, belongs to another model, or the target cannot
            be written or cannot hold the codec.
    """
    try:
        import av
    except ImportError:
        raise UserError(f"{source}: video needs the package av (PyAV), which is not installed") from None
    started = time.perf_counter()
    _check_target(target, codec if rescaler.direction == "down" else "x264")
    try:
        with av.open(str(source)) as reading, atomic_path(target) as temporary:
            if not reading.streams.video:
                raise UserError(f"{source}: expected a video, found a file without a video stream")
            size, record = _plan_size(rescaler, reading, source, foreign)
            with av.open(str(temporary), "w", format=_muxer(target)) as writing:
                writing.metadata.update(
                    {name: value for name, value in reading.metadata.items() if name.upper() not in _NOT_COPIED}
                )
                if record is not None:
                    writing.metadata[KEYWORD] = record.to_text()
                copy = _Copy(reading, writing, rescaler, size, codec, crf, tile)
                frames = copy.run(progress)
    except av.error.FFmpegError as error:
        reason = os_reason(error) if isinstance(error, OSError) else str(error)
        raise UserError(f"{source}: cannot be read or written as video: {reason}") from error
    if not frames:
        raise UserError(f"{source}: expected a video, found no frame in it")
    height, width = size if rescaler.direction == "up" else copy.original
    return VideoResult(frames, height, width, time.perf_counter() - started)


class _Copy:
    """One run from an opened source to an opened target."""

    def __init__(
        self, reading: Any, writing: Any, rescaler: Rescaler, size: tuple[int, int], codec: str, crf: int, tile: Tile
    ) -> None:
        self._reading, self._writing, self._rescaler, self._size, self._tile = reading, writing, rescaler, size, tile
        self._video = reading.streams.video[0]
        self.original = self._video.codec_context.height, self._video.codec_context.width
        down = rescaler.direction == "down"
        h264 = ("libx264", "yuv420p", {"crf": str(crf)})
        encoder, self._format, options = LOSSLESS[codec] if down else h264
        rate = self._video.average_rate or self._video.guessed_rate or Fraction(25)
        self._out = writing.add_stream(encoder, rate=rate, options=options)
        self._out.height, self._out.width, self._out.pix_fmt = *size, self._format
        self._out.codec_context.time_base = self._video.time_base
        if not down:
            self._out.codec_context.colorspace, self._out.codec_context.color_range = 1, 1  # BT.709, limited
        self._beside = {
            stream: writing.add_stream_from_template(stream)
            for stream in reading.streams
            if stream.type in ("audio", "subtitle") and stream.codec_context is not None
        }

    def run(self, progress: Callable[[int, int], None]) -> int:
        """Copies everything; returns the number of frames."""
        frames = 0
        for packet in self._reading.demux([self._video, *self._beside]):
            if packet.stream is self._video:
                for frame in packet.decode():
                    self._writing.mux(self._out.encode(self._rescaled(frame)))
                    frames += 1
                    progress(frames, self._video.frames)
            elif packet.dts is not None:
                packet.stream = self._beside[packet.stream]
                self._writing.mux(packet)
        self._writing.mux(self._out.encode(None))
        return frames

    def _rescaled(self, frame: Any) -> Any:
        import av

        tagged = int(frame.colorspace)
        space = tagged if tagged in (1, 4, 5, 7, 9) else (1 if frame.height >= _HD else 5)
        rgb: Image8 = frame.reformat(format="rgb24", src_colorspace=space).to_ndarray()
        source = WholeSource(Path("frame"), rgb, Metadata())
        tiles = self._rescaler.plan(source, self._tile)
        rows = list(self._rescaler.rescale(source, tiles, 8, self._size, lambda: None))
        result = av.VideoFrame.from_ndarray(np.ascontiguousarray(np.concatenate(rows)), format="rgb24")
        result = result.reformat(format=self._format, dst_colorspace=1)
        result.pts, result.time_base = frame.pts, frame.time_base
        return result


def _check_target(target: Path, codec: str) -> None:
    found = CONTAINERS.get(target.suffix.lower())
    if found is None:
        raise UserError(f"{target}: expected a name that ends in {', '.join(CONTAINERS)}, found {target.suffix!r}")
    if codec not in found:
        raise UserError(f"{target}: {target.suffix} does not hold {codec}; write .mkv or choose --codec x264")


def _muxer(target: Path) -> str:
    return {".mkv": "matroska", ".mp4": "mp4", ".mov": "mov"}[target.suffix.lower()]


def _plan_size(rescaler: Rescaler, reading: Any, source: Path, foreign: bool) -> tuple[tuple[int, int], Record | None]:
    """(height, width) of the result, and the record that a downscaled video gets."""
    context = reading.streams.video[0].codec_context
    height, width, scale = context.height, context.width, rescaler.scale
    if rescaler.direction == "down":
        if width != 2 * height:
            warnings.warn(f"{source}: expected 2:1 equirectangular frames, found {width} x {height}", stacklevel=3)
        return (-(-height // scale), -(-width // scale)), Record(scale, rescaler.model, width, height, 8, "")
    size = (scale * height, scale * width)
    record = Record.from_text(reading.metadata.get(KEYWORD, ""))
    if record is not None and not foreign:
        check_model(record, rescaler.model, scale, source)
    fits = record is not None and (-(-record.height // scale), -(-record.width // scale)) == (height, width)
    if record is not None and fits:
        size = (record.height, record.width)
    even = tuple(length + length % 2 for length in size)  # 4:2:0 has no odd sides
    lossless = context.name in ("ffv1",) or context.pix_fmt in ("gbrp", "bgr24", "rgb24", "bgr0")
    if not foreign and not (fits and lossless):
        reason = "is compressed with losses" if fits else "was not made by downscale-video"
        warnings.warn(f"{source}: {reason}: upscaled as any video, without hidden detail", stacklevel=3)
    return (min(even[0], scale * height), min(even[1], scale * width)), None
