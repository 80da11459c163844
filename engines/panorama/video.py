"""Rescale a video frame by frame through PyAV: frames are streamed, audio and timing kept.

An LR video is lossless by default, as what the network hides in it must survive. With losses it has 4:4:4, and 4:2:0
only from a model that was made for a codec. The record of the model stands in the container's metadata. What marks a
file as spherical is beyond PyAV: spherical.py (MP4, MOV) and matroska.py take it from the source to the result.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from engines.panorama import video_checksums
from engines.panorama.coding import UNKNOWN, Coding, problems_of
from engines.panorama.ffv1 import check_frames, named
from engines.panorama.layout import Layout, Stereo, check_words, choose, recorded
from engines.panorama.matroska import V1_TAG, placeholder, read_projection, write_projection
from engines.panorama.metadata import Metadata
from engines.panorama.record import KEYWORD, Record, check_model
from engines.panorama.rescaler import Rescaler, Tile
from engines.panorama.sources import RAW, WholeSource
from engines.panorama.spherical import TAG, Boxes, read_boxes, write_boxes
from engines.panorama.stereo import rescale_eyes
from engines.panorama.video_times import KEYWORD as TIMES
from engines.panorama.video_times import Clock, Rounding, Times
from engines.support.arrays import Image8
from engines.support.errors import UserError
from engines.support.files import atomic_path, os_reason
from engines.support.scheduling import ordinary_scheduling

# codec of the option: (encoder, pixel format, its options)
LOSSLESS: dict[str, tuple[str, str, dict[str, str]]] = {
    "ffv1": ("ffv1", "bgr0", {"level": "3", "slicecrc": "1"}),
    "x264": ("libx264rgb", "bgr24", {"qp": "0", "preset": "veryfast"}),
}
# codec of the option: (encoder, CRF for 4:4:4 and for 4:2:0, its options)
LOSSY: dict[str, tuple[str, tuple[int, int], dict[str, str]]] = {
    "h264": ("libx264", (12, 20), {}),
    "hevc": ("libx265", (18, 24), {"x265-params": "log-level=none"}),
    "av1": ("libsvtav1", (30, 30), {"preset": "6"}),
}
CODECS = (*LOSSLESS, *LOSSY)
CONTAINERS = {
    ".mkv": CODECS,
    ".mp4": ("x264", "h264", "hevc", "av1"),
    ".mov": ("x264", "h264", "hevc"),
}
_NOT_COPIED = {
    KEYWORD,
    TIMES,
    TAG,
    video_checksums.KEYWORD,
    "MAJOR_BRAND",
    "MINOR_VERSION",
    "COMPATIBLE_BRANDS",
    "ENCODER",
}  # of the old file itself
_UNNAMED = {"1 channels": "mono", "2 channels": "stereo", "6 channels": "5.1", "8 channels": "7.1"}
_MILLISECOND = Fraction(1, 1000)
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
    crf: int | None = None,
    chroma: str | None = None,
    tile: Tile = "auto",
    foreign: bool = False,
    stereo: Stereo | None = None,
    span: float | None = None,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> VideoResult:
    """Rescales every frame of `source`; the file `target` (.mkv, .mp4, .mov) appears whole or not at all.

    Args:
        codec: of a downscaled video, "ffv1" or "x264" (lossless, RGB), or one of LOSSY; an upscaled one is H.264,
            4:2:0, 8 bits.
        crf: quality of a video with losses, 0 (best) to 51 or 63; None: 16 of an upscaled one, else by codec.
        chroma: of a downscaled video with losses, "4:4:4" or "4:2:0"; None: what suits the model.
        foreign: upscale any video without a warning.
        stereo, span: where two eyes lie in a frame, and degrees across of an eye; None: what the file says.
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
    _check_target(target, codec if rescaler.direction == "down" else "h264")
    stream = _plan_stream(rescaler, target, codec, crf, chroma)
    try:
        with av.open(str(source), metadata_errors="replace") as reading, atomic_path(target) as temporary:
            if not reading.streams.video:
                raise UserError(f"{source}: expected a video, found a file without a video stream")
            if reading.streams.video[0].codec_context is None:
                raise UserError(f"{source}: expected a video of a codec that PyAV decodes here, found another")
            spherical = _spherical(source, reading)
            plan = _plan_size(rescaler, reading, source, foreign, stream, _Told(spherical.layout(), stereo, span))
            size, record = plan.size, plan.record
            if spherical.projection not in ("", "equirectangular"):
                warnings.warn(
                    f"{source}: expected an equirectangular video, found a {spherical.projection} projection: "
                    "rescaled as it lies, with wrong latitudes",
                    stacklevel=2,
                )
            if stream.chroma == "4:2:0" and (size[0] % 2 or size[1] % 2):
                raise UserError(f"{target}: 4:2:0 has even sides only, found {size[1]} x {size[0]}; choose 4:4:4")
            if record_of(reading) is not None:
                checked = video_checksums.check(source, video_checksums.KEYWORD in reading.metadata)
                if not checked and reading.streams.video[0].codec_context.name == "ffv1":
                    check_frames(source, reading)
            # Audio that begins before the first frame, as AAC does, must not push the frames back. Keeps the record.
            mkv = target.suffix.lower() == ".mkv"
            options = {"avoid_negative_ts": "disabled"} if mkv else {"movflags": "use_metadata_tags"}
            with av.open(str(temporary), "w", format=_muxer(target), options=options) as writing:
                writing.metadata.update(
                    {name: value for name, value in reading.metadata.items() if name.upper() not in _NOT_COPIED}
                )
                original = Times.from_text(reading.metadata.get(TIMES, "")) if rescaler.direction == "up" else None
                clock = Clock(source, reading.streams.video[0], original)
                if record is not None:
                    writing.metadata[KEYWORD] = record.to_text()
                    writing.metadata[TIMES] = clock.times.to_text()
                    writing.metadata[video_checksums.KEYWORD] = "1"
                factor = rescaler.scale if rescaler.direction == "up" else 1 / rescaler.scale
                spherical = spherical.resized(factor)
                copy = _Copy(reading, writing, rescaler, plan, stream, tile, clock)
                if spherical and mkv:
                    copy.name_track(placeholder(spherical), spherical.xml)
                frames = copy.run(progress)
            if not frames:
                raise UserError(f"{source}: expected a video, found no frame in it")
            if copy.damaged:
                _tell_damage(source, copy.damaged, refuse=record_of(reading) is not None and not foreign)
            if spherical:
                (write_projection if mkv else write_boxes)(temporary, spherical)
            if record is not None:
                video_checksums.append(temporary, mkv)
            if mkv and copy.rounding.largest:
                moved = f"{float(1000 * copy.rounding.largest):.2f} ms"
                warnings.warn(f"{target}: .mkv counts milliseconds: frames move by up to {moved}", stacklevel=2)
    except av.codec.codec.UnknownCodecError as error:
        raise UserError(f"{target}: this PyAV has no encoder {error}; choose another", "codec") from error
    except av.error.FFmpegError as error:
        reason = os_reason(error) if isinstance(error, OSError) else error.strerror or str(error)
        raise UserError(f"{source}: cannot be read or written as video: {reason}") from error
    height, width = size if rescaler.direction == "up" else copy.original
    return VideoResult(frames, height, width, time.perf_counter() - started)


class _Copy:
    """One run from an opened source to an opened target."""

    def __init__(
        self,
        reading: Any,
        writing: Any,
        rescaler: Rescaler,
        plan: _Plan,
        stream: _Stream,
        tile: Tile,
        clock: Clock,
    ) -> None:
        self._clock, self.rounding = clock, Rounding(clock.times, _MILLISECOND)
        self.damaged: list[int] = []  # frames that the decoder could not decode right, and knows it
        self._reading, self._writing, self._rescaler, self._plan, self._tile = reading, writing, rescaler, plan, tile
        self._video = reading.streams.video[0]
        self.original = self._video.codec_context.height, self._video.codec_context.width
        self._format, self._written = stream.pixels, stream.coding
        self._out = writing.add_stream(stream.encoder, rate=clock.times.rate, options=stream.options)
        self._out.height, self._out.width, self._out.pix_fmt = *plan.size, self._format
        self._out.codec_context.time_base = clock.times.tick
        if stream.chroma:
            self._out.codec_context.colorspace, self._out.codec_context.color_range = 1, 1  # BT.709, limited
        if stream.encoder == "libx265" and writing.format.name != "matroska":
            self._out.codec_context.codec_tag = "hvc1"  # the tag of HEVC that every player knows
        self._beside = {
            stream: writing.add_stream_from_template(stream)
            for stream in reading.streams
            if stream.type in ("audio", "subtitle") and stream.codec_context is not None
        }
        for sound in self._beside.values():  # of PCM, Matroska keeps the number of channels; MP4 wants a layout
            if sound.type == "audio" and sound.codec_context.layout.name in _UNNAMED:
                sound.codec_context.layout = _UNNAMED[sound.codec_context.layout.name]

    def name_track(self, name: str, xml: str) -> None:
        """Gives the video track a name, and the text of Google's V1 (matroska.py)."""
        self._out.metadata.update({"title": name, **({V1_TAG: xml} if xml else {})})

    def run(self, progress: Callable[[int, int], None]) -> int:
        """Copies everything; returns the number of frames."""
        frames = 0
        with ordinary_scheduling():
            self._out.codec_context.open()
        for packet in self._reading.demux([self._video, *self._beside]):
            if packet.stream is self._video:
                for frame in packet.decode():
                    if frame.is_corrupt:
                        self.damaged.append(frames)
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
        source = WholeSource(Path(self._reading.name), rgb, Metadata(), self._plan.coding)
        source.written = self._written
        rows = list(rescale_eyes(self._rescaler, source, self._plan.layout, self._tile, 8, self._plan.size))
        result = av.VideoFrame.from_ndarray(np.ascontiguousarray(np.concatenate(rows)), format="rgb24")
        result = result.reformat(format=self._format, dst_colorspace=1)
        result.pts, result.time_base = self._clock.time_of(frame), self._clock.times.tick
        self.rounding.add(result.pts)
        return result


def _spherical(source: Path, reading: Any) -> Boxes:
    """What the source says of its projection and its eyes."""
    found = Boxes()
    if source.is_file():
        found = read_boxes(source) or read_projection(source)
    tags = {name.upper(): text for name, text in reading.streams.video[0].metadata.items()}
    if not found.uuid and V1_TAG in tags:
        found = found.with_xml(tags[V1_TAG])
    return found or Boxes.from_text(reading.metadata.get(TAG, ""))


def record_of(reading: Any) -> Record | None:
    """The record that an opened video carries."""
    return Record.from_text(reading.metadata.get(KEYWORD, ""))


def _tell_damage(source: Path, frames: list[int], refuse: bool) -> None:
    """UserError for an LR video, whose detail lies in every bit; of any other video a warning."""
    message = f"{source}: {named(frames)} damaged, as far as the decoder sees"
    if refuse:
        raise UserError(message)
    warnings.warn(message, stacklevel=3)


@dataclass(frozen=True)
class _Stream:
    """How frames are coded. chroma: empty for RGB, which is lossless. text: for the record, empty for lossless."""

    encoder: str
    pixels: str
    options: dict[str, str]
    chroma: str = ""
    text: str = ""

    @property
    def coding(self) -> Coding:
        """How an LR video holds its frames."""
        kind = self.text.partition(" ")[0]
        return Coding(kind, False, self.chroma, coarseness=UNKNOWN).as_written(self.text) if kind else RAW


def _plan_stream(rescaler: Rescaler, target: Path, codec: str, crf: int | None, chroma: str | None) -> _Stream:
    """UserError where the model's hidden detail would not survive; `warnings.warn` says what losses cost."""
    if rescaler.direction == "up":
        return _Stream("libx264", "yuv420p", {"crf": str(16 if crf is None else crf)}, "4:2:0")
    if codec in LOSSLESS:
        for name, value in (("crf", crf), ("chroma", chroma)):
            if value is not None:
                raise UserError(f"expected the codec {', '.join(LOSSY)}, found {codec}, which is lossless", name)
        return _Stream(*LOSSLESS[codec])
    survives = rescaler.survives
    chroma = chroma or (survives.chroma[0] if survives and codec != "av1" else "4:2:0" if survives else "4:4:4")
    if codec == "av1" and chroma == "4:4:4":
        raise UserError(f"{target}: av1 knows only 4:2:0 here; choose h264 or hevc for 4:4:4", "codec")
    if survives is None and chroma == "4:2:0":
        raise UserError(
            f"{target}: 4:2:0 destroys what the LR video of this model hides for upscaling; choose ffv1, x264, or h264 "
            "or hevc with 4:4:4"
        )
    os.environ.setdefault("SVT_LOG", "1")  # errors only; the encoder has no other way to be told
    encoder, crfs, options = LOSSY[codec]
    crf = crfs[chroma == "4:2:0"] if crf is None else crf
    if crf > 51 and codec != "av1":
        raise UserError(f"expected 0 to 51 with {codec}, found {crf}", "crf")
    text = f"{codec} {chroma} of CRF {crf}"
    if survives is None:
        warnings.warn(
            f"{target}: {text} costs part of what the LR video hides; ffv1 and x264 cost nothing", stacklevel=3
        )
    elif chroma not in survives.chroma:
        warnings.warn(f"{target}: {text}, the model was trained for {survives}: detail will be missing", stacklevel=3)
    pixels = "yuv420p" if chroma == "4:2:0" else "yuv444p"
    return _Stream(encoder, pixels, {**options, "crf": str(crf)}, chroma, text)


def _check_target(target: Path, codec: str) -> None:
    found = CONTAINERS.get(target.suffix.lower())
    if found is None:
        raise UserError(f"{target}: expected a name that ends in {', '.join(CONTAINERS)}, found {target.suffix!r}")
    if codec not in found:
        raise UserError(f"{target}: {target.suffix} does not hold {codec}; write .mkv or choose x264", "codec")


def _muxer(target: Path) -> str:
    return {".mkv": "matroska", ".mp4": "mp4", ".mov": "mov"}[target.suffix.lower()]


@dataclass(frozen=True)
class _Told:
    """What is known of a video's layout. file: by its boxes. stereo, span: by the caller."""

    file: Layout | None
    stereo: Stereo | None
    span: float | None


@dataclass(frozen=True)
class _Plan:
    """size: (height, width) of the result. record: that a downscaled video gets. coding: of the source."""

    size: tuple[int, int]
    layout: Layout
    coding: Coding
    record: Record | None = None


def _plan_size(rescaler: Rescaler, reading: Any, source: Path, foreign: bool, stream: _Stream, told: _Told) -> _Plan:
    context = reading.streams.video[0].codec_context
    height, width, scale = context.height, context.width, rescaler.scale
    found = record_of(reading) if rescaler.direction == "up" else None
    if found is not None and not foreign:
        check_model(found, rescaler.model, scale, source)
    layout = recorded(found, (height, width)) if found is not None else None
    if layout is None:
        found = None
        layout, problem = choose(told.file, told.stereo, told.span, (height, width))
        if problem:
            warnings.warn(f"{source}: {problem}", stacklevel=3)
    else:
        check_words(layout, told.stereo, told.span, source)
    if rescaler.direction == "down":
        eye = layout.of_eye((height, width))
        if layout.wraps and eye[1] != 2 * eye[0]:
            what = "frames" if layout.eyes == 1 else f"eyes ({layout.stereo})"
            warnings.warn(f"{source}: expected 2:1 equirectangular {what}, found {eye[1]} x {eye[0]}", stacklevel=3)
        record = Record(scale, rescaler.model, width, height, 8, "", stream.text, layout.to_text())
        return _Plan(layout.reduced((height, width), scale), layout, _coding(context), record)
    size = (scale * height, scale * width)
    coding = _coding(context).as_written(found.coding if found else "")
    problems = ["was not made by downscale-video: upscaled as any video, without hidden detail"]
    if found is not None:
        size = (found.height, found.width)
        problems = problems_of(coding, found.coding, rescaler.survives)
    for problem in problems if not foreign else ():
        warnings.warn(f"{source}: {problem}", stacklevel=3)
    even = tuple(length + length % 2 for length in size)  # 4:2:0 has no odd sides; a pair's is even already
    return _Plan((min(even[0], scale * height), min(even[1], scale * width)), layout, coding)


def _coding(context: Any) -> Coding:
    """How an opened video stream holds its frames."""
    lossless = context.name == "ffv1" or context.pix_fmt in ("gbrp", "bgr24", "rgb24", "bgr0")
    pixels = str(context.pix_fmt).replace("yuvj", "yuv")  # full range
    halves = {"yuv444": "4:4:4", "yuv422": "4:2:2", "yuv420": "4:2:0"}
    coarseness = 0.0 if lossless else UNKNOWN
    name = "av1" if context.name == "libdav1d" else context.name
    return Coding(name, lossless, halves.get(pixels[:6], "unusual chroma"), coarseness=coarseness)
