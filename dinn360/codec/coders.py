"""Real codecs, one image at a time: what a file of it weighs and what its reader sees. Needs no torch.

JPEG, WebP and AVIF by Pillow, JPEG XL by its plugin, HEVC, H.264 and AV1 (intra) by PyAV.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from PIL import Image

from engines.panorama.coding import coarseness_of
from engines.support.arrays import Image8
from engines.support.errors import UserError
from engines.support.scheduling import ordinary_scheduling

# Codec of PyAV: encoder, decoder, largest CRF, options for one thread and quiet logs
VIDEO: dict[str, tuple[str, str, int, dict[str, str]]] = {
    "h264": ("libx264", "h264", 51, {"preset": "medium", "threads": "1"}),
    "hevc": ("libx265", "hevc", 51, {"preset": "medium", "x265-params": "log-level=none:pools=1:frame-threads=1"}),
    "av1": ("libsvtav1", "libdav1d", 63, {"preset": "6", "svtav1-params": "lp=1"}),
}
STILL = ("jpeg", "webp", "avif", "jxl")
CODECS = (*STILL, *VIDEO)
ONLY_HALVED = ("webp", "av1")  # lossy WebP and SVT-AV1 have no 4:4:4
ONLY_FULL = ("jxl",)  # JPEG XL does not halve chroma


@dataclass(frozen=True)
class Coder:
    """A codec and what it does with chroma.

    name: one of CODECS. halved: 4:2:0, else 4:4:4. A quality is 1 to 100 for all: that of Pillow, and for video
    codecs CRF 0 at 100 and the largest CRF at 0, linear in between.
    """

    name: str
    halved: bool = True

    def __post_init__(self) -> None:
        if self.name not in CODECS:
            raise UserError(f"expected some of {', '.join(CODECS)}, found {self.name!r}", "codec")
        if self.halved and self.name in ONLY_FULL or not self.halved and self.name in ONLY_HALVED:
            reason = f"{self.name}: expected {'4:4:4' if self.halved else '4:2:0'}, found {self.chroma}"
            raise UserError(reason, "codec")

    @property
    def chroma(self) -> str:
        return "4:2:0" if self.halved else "4:4:4"

    @property
    def title(self) -> str:
        """For tables, as "AVIF 4:2:0"."""
        return (
            f"{ {'webp': 'WebP', 'jxl': 'JPEG XL', 'h264': 'H.264'}.get(self.name, self.name.upper()) } {self.chroma}"
        )

    def coarseness(self, quality: int) -> float:
        """How coarsely it quantises at a quality (`engines.panorama.coding.coarseness_of`)."""
        if self.name in VIDEO:
            return coarseness_of(self.name, crf_of(self.name, quality))
        return coarseness_of(self.name.upper(), quality)

    def encode(self, image: Image8, quality: int) -> bytes:
        """`image` (H,W,3) as a file. UserError when the codec's package is missing or refuses the image."""
        if self.name in VIDEO:
            return b"".join(encode_frames([image], self, quality))
        file = io.BytesIO()
        every: dict[str, dict[str, Any]] = {
            "jpeg": {"subsampling": 2 if self.halved else 0},
            "webp": {"method": 4},
            "avif": {"subsampling": self.chroma, "speed": 6, "max_threads": 1},
            "jxl": {"num_threads": 1},
        }
        _pillow(self.name)
        try:
            Image.fromarray(image).save(file, self.name.upper(), quality=quality, **every[self.name])
        except (OSError, ValueError, RuntimeError) as error:
            raise UserError(f"{self.title}: cannot encode {image.shape[1]} x {image.shape[0]}: {error}") from error
        return file.getvalue()

    def decode(self, data: bytes, size: tuple[int, int]) -> Image8:
        """The image (*size,3) of `encode`'s bytes."""
        if self.name in VIDEO:
            return decode_frames([data], self, size)[0]
        with Image.open(io.BytesIO(data)) as image:
            return np.array(image.convert("RGB"))

    def round_trip(self, image: Image8, quality: int) -> tuple[Image8, int]:
        """What the reader of the file sees, and the file's bytes. For video, the bytes of the stream alone."""
        data = self.encode(image, quality)
        return self.decode(data, (image.shape[0], image.shape[1])), len(data)


def parse_coder(text: str) -> list[Coder]:
    """`jpeg` (every chroma that it has), `jpeg-420` or `avif-444`. UserError for another text."""
    name, _, chroma = text.strip().partition("-")
    if chroma not in ("", "420", "444"):
        raise UserError(f"expected a codec, alone or with -420 or -444, found {text.strip()!r}", "codec")
    if chroma:
        return [Coder(name, chroma == "420")]
    halves = [True] if name in ONLY_HALVED else [False] if name in ONLY_FULL else [True, False]
    return [Coder(name, halved) for halved in halves]


def crf_of(name: str, quality: int) -> int:
    """The CRF of a video codec at a quality of 0 to 100."""
    return round((100 - quality) * VIDEO[name][2] / 100)


def encode_frames(frames: list[Image8], coder: Coder, quality: int, rate: int = 25) -> list[bytes]:
    """A clip as its coded packets, in coding order. frames: (H,W,3) of one size, made even by repeating the edge."""
    av = _pyav()
    encoder, _, _, options = VIDEO[coder.name]
    chosen = {**options, "crf": str(crf_of(coder.name, quality))}
    packets: list[bytes] = []
    try:
        context = av.CodecContext.create(encoder, "w")
        context.height, context.width = (n + n % 2 for n in frames[0].shape[:2])
        context.pix_fmt = "yuv420p" if coder.halved else "yuv444p"
        context.time_base, context.framerate, context.options = Fraction(1, rate), rate, chosen
        context.colorspace, context.color_range = 1, 1  # BT.709, limited, as players expect
        with ordinary_scheduling():
            context.open()
        for number, frame in enumerate(frames):
            even = np.pad(frame, ((0, frame.shape[0] % 2), (0, frame.shape[1] % 2), (0, 0)), mode="edge")
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(even), format="rgb24")
            picture = picture.reformat(format=context.pix_fmt, dst_colorspace=1)
            picture.pts = number
            packets += [bytes(packet) for packet in context.encode(picture)]
        packets += [bytes(packet) for packet in context.encode(None)]
    except (av.error.FFmpegError, ValueError) as error:
        raise UserError(f"{coder.title}: cannot encode {frames[0].shape[1]} x {frames[0].shape[0]}: {error}") from error
    return packets


def decode_frames(packets: list[bytes], coder: Coder, size: tuple[int, int]) -> list[Image8]:
    """The frames (*size,3) of `encode_frames`' packets, in the order of display."""
    av = _pyav()
    context = av.CodecContext.create(VIDEO[coder.name][1], "r")
    context.thread_count = 1
    pictures: list[Any] = []
    for data in packets:
        pictures += context.decode(av.Packet(data))
    pictures += context.decode(None)
    frames = [picture.reformat(format="rgb24", src_colorspace=1).to_ndarray() for picture in pictures]
    return [np.ascontiguousarray(frame[: size[0], : size[1]]) for frame in frames]


def _pillow(name: str) -> None:
    """Refuses a still codec that Pillow was built without, or whose plugin is missing."""
    if name == "jxl":
        try:
            import pillow_jxl  # noqa: F401 - registers itself
        except ImportError:
            raise UserError("JPEG XL needs the package pillow-jxl-plugin, which is not installed") from None
    Image.init()
    if name.upper() not in Image.SAVE:
        raise UserError(f"{name}: this Pillow was built without it", "codec")


def _pyav() -> Any:
    try:
        import av
    except ImportError:
        raise UserError("video codecs need the package av (PyAV), which is not installed") from None
    av.logging.set_level(av.logging.PANIC)
    os.environ.setdefault("SVT_LOG", "1")  # errors only; the encoder has no other way to be told
    return av


def round_trip(name: str, halved: bool, quality: int, image: Image8) -> tuple[Image8, int]:
    """`Coder.round_trip` for worker processes."""
    return Coder(name, halved).round_trip(image, quality)


Through = Callable[[Image8], Image8]  # an LR image as its reader sees it
