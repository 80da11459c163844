"""How a file holds its samples, how an LR file is to be written, and which coding a model's LR image survives.

An LR image hides detail in its colours. What 4:2:0 throws away of them is most of it, so a model that was not trained
for that wants 4:4:4; one that was says so in its graph's metadata (`codec`, `codec_quality`, `codec_chroma`,
`codec_known`).
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from PIL import ImageFile, JpegImagePlugin

from engines.support.errors import UserError

CHROMA = {"444": "4:4:4", "420": "4:2:0"}  # of the option: its name
LOSSY = ("JPEG", "WEBP", "AVIF")  # formats of lossy files that we write
DEFAULTS = {"JPEG": 95, "AVIF": 90}
# Below these a model that was not made for a codec is no better than interpolation at the same bytes (measured with
# `python -m benchmarks.rate_distortion`).
_LOWEST = {"JPEG": 90, "AVIF": 75}
UNKNOWN = 4.0  # coarseness where a file does not tell it: that of JPEG of quality 86
# Codec: by how much coarseness grows for each point of quality or CRF, and where it starts
_LIKE_JPEG = {
    "WEBP": (-0.069, 9.28),
    "AVIF": (-0.085, 9.65),
    "hevc": (0.120, 1.99),
    "h264": (0.157, 1.94),
    "av1": (0.071, 2.39),
}
# T.81, table K.1, in rows of vertical frequency
_LUMA_TABLE = (
    *(16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55),
    *(14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51, 87, 80, 62),
    *(18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92),
    *(49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99),
)


@dataclass(frozen=True)
class Coding:
    """How a file holds its samples.

    kind: Pillow's name of the format. lossless: whether samples come back as they were. chroma: "4:4:4", "4:2:0", …
    quality: 1 to 100, None where there is none or the file does not tell it. coarseness: log2 of its mean luma
    quantisation step in 8-bit levels, see `coarseness_of`; 0 of lossless samples.
    """

    kind: str
    lossless: bool = True
    chroma: str = "4:4:4"
    quality: int | None = None
    coarseness: float = field(default=0.0, compare=False)

    @classmethod
    def from_text(cls, text: str) -> Coding | None:
        """Of a file with losses, from what a record says of it; None where that says no quality."""
        told = re.fullmatch(r"(\S+) (\S+) of (?:quality|CRF) (\d{1,3})", text)
        if told is None:
            return None
        return cls(told[1], False, told[2], int(told[3]), coarseness_of(told[1], int(told[3])))

    def as_written(self, text: str) -> Coding:
        """With the coarseness that `text`, of the record of who wrote the file, tells where the file does not."""
        told = Coding.from_text(text)
        if told is None or self.coarseness != UNKNOWN or (told.kind, told.chroma) != (self.kind, self.chroma):
            return self
        return replace(self, coarseness=told.coarseness)

    @property
    def halved(self) -> bool:
        """Whether it keeps a quarter of the colours."""
        return not self.lossless and self.chroma == "4:2:0"

    def __str__(self) -> str:
        if self.lossless:
            return f"lossless {self.kind}"
        return f"{self.kind} {self.chroma}" + (f" of quality {self.quality}" if self.quality else "")


def coarseness_of(kind: str, number: int | None) -> float:
    """How coarsely a codec quantises luma: log2 of the mean step of its table, in 8-bit levels.

    kind: "JPEG", "WEBP", "AVIF", "hevc", "h264" or "av1". number: its quality, of a video codec its CRF. JPEG's is that
    of libjpeg's table; the others' is that of a JPEG which errs as much in luma, as _LIKE_JPEG has it. UNKNOWN for
    another codec, or without a number.
    """
    if number is None:
        return UNKNOWN
    if kind == "JPEG":
        return step_of(luma_table(number))
    if kind not in _LIKE_JPEG:
        return UNKNOWN
    slope, start = _LIKE_JPEG[kind]
    return max(0.0, start + slope * number)


def step_of(table: Sequence[int]) -> float:
    """log2 of the mean of a quantisation table."""
    return math.log2(max(1.0, sum(table) / len(table)))


def luma_table(quality: int) -> list[int]:
    """libjpeg's table of luma for a quality of 1 to 100."""
    percent = 5000 // quality if quality < 50 else 200 - 2 * quality
    return [min(255, max(1, (value * percent + 50) // 100)) for value in _LUMA_TABLE]


@dataclass(frozen=True)
class Survives:
    """What the LR image of a model was trained to go through.

    codec: its name, or "mixed". lowest, highest: qualities. chroma: the kinds of chroma, the first one by default.
    known: its encoder knew the file that it made the LR image for, and makes another one for another file.
    """

    codec: str
    lowest: int
    highest: int
    chroma: tuple[str, ...]
    known: bool = False

    @classmethod
    def of(cls, metadata: Mapping[str, str], path: object) -> Survives | None:
        """From a graph's metadata; None for a model whose LR image must stay lossless. UserError for broken values."""
        if "codec" not in metadata:
            return None
        quality = re.fullmatch(r"(\d{1,3}):(\d{1,3})", metadata.get("codec_quality", ""))
        chroma = tuple(metadata.get("codec_chroma", "").split(","))
        if quality is None or not set(chroma) <= set(CHROMA.values()):
            raise UserError(f"{path}: expected the metadata codec_quality and codec_chroma, found none that fit")
        return cls(metadata["codec"], int(quality[1]), int(quality[2]), chroma, metadata.get("codec_known") == "1")

    def __str__(self) -> str:
        return f"{self.codec} {' and '.join(self.chroma)}, quality {self.lowest} to {self.highest}"


def plan_coding(
    target: Path, kind: str, quality: int | None, chroma: str | None, survives: Survives | None, insist: bool
) -> Coding:
    """How the LR image `target` of the format `kind` is written; one `warnings.warn` line says what that costs.

    quality, chroma: as asked for ("4:4:4", "4:2:0"); None: what suits the model. survives: what the model was trained
    for. insist: write a quality below what a model without codec bears.

    Raises:
        UserError: the format has no such chroma, or the model's hidden detail would not survive.
    """
    if kind not in LOSSY or (kind == "WEBP" and quality is None and chroma is None):
        if chroma == "4:2:0":
            raise UserError(f"{target}: expected a lossy format (JPEG, AVIF) for 4:2:0, found {kind}", "chroma")
        return Coding(kind)
    if kind == "WEBP" and chroma == "4:4:4":
        raise UserError(f"{target}: lossy WebP knows only 4:2:0; write JPEG or AVIF, or lossless WebP")
    if survives is not None:
        suited = "4:2:0" if kind == "WEBP" else survives.chroma[0]
        number = quality or min(survives.highest, 90)
        coding = Coding(kind, False, chroma or suited, number, coarseness_of(kind, number))
        for problem in _beyond(coding, survives):
            warnings.warn(f"{target}: {problem}: detail will be missing", stacklevel=3)
        return coding
    if kind == "WEBP" or chroma == "4:2:0":
        raise UserError(
            f"{target}: {'lossy WebP, which knows only' if kind == 'WEBP' else kind} 4:2:0 destroys what the LR image "
            "of this model hides for upscaling; write PNG, lossless WebP, or JPEG or AVIF with 4:4:4"
        )
    coding = Coding(kind, False, "4:4:4", quality or DEFAULTS[kind])
    assert coding.quality is not None
    if coding.quality < _LOWEST[kind] and not insist:
        raise UserError(
            f"{target}: {kind} of quality {coding.quality} destroys what the LR image of this model hides; "
            f"expected {_LOWEST[kind]} or more, or a lossless format, unless it is to be lossy all the same",
            "quality",
        )
    warnings.warn(
        f"{target}: {coding} costs part of what the LR image hides, the more the lower its quality; "
        "PNG and lossless WebP cost nothing",
        stacklevel=3,
    )
    return coding


def problems_of(found: Coding, written: str, survives: Survives | None) -> list[str]:
    """What is wrong with an LR file for upscaling, in words; empty where it is as `downscale` wrote it.

    found: how the file is coded. written: `Coding` of the record as text, empty for a lossless one.
    """
    if survives is not None and survives.known and found.lossless and written:
        return [f"is lossless, and was made for {written}: detail will be wrong"]
    if survives is not None and not found.lossless:
        if survives.known and found.chroma not in written:  # as the record of every file with losses has it
            return [f"is {found}, and was made for {written or 'a lossless image'}: detail will be wrong"]
        return _beyond(found, survives)
    if found.lossless:
        return []
    if found.chroma != "4:4:4":
        return [f"is {found}: the halved colours have lost what the LR image hides, interpolation does as well"]
    lowest = _LOWEST.get(found.kind, 0)
    if found.quality is not None and found.quality < lowest:
        return [f"is {found}, below the {lowest} that this model bears: hidden detail will be wrong"]
    if not written or (found.quality is not None and str(found) != written):
        return [f"is {found}, and was written as {written or 'a lossless image'}: part of the hidden detail is lost"]
    return []


def _beyond(coding: Coding, survives: Survives) -> list[str]:
    if coding.chroma not in survives.chroma:
        return [f"is {coding}, the model was trained for {survives}"]
    if coding.quality is not None and coding.kind != "AVIF" and coding.quality < survives.lowest:
        return [f"is {coding}, below what the model was trained for ({survives})"]
    return []


def read_coding(image: ImageFile.ImageFile, path: Path) -> Coding:
    """How an opened image file is coded; qualities of JPEG are those of libjpeg's scale, from the file's tables."""
    kind = image.format or ""
    if isinstance(image, JpegImagePlugin.JpegImageFile):
        chroma = {0: "4:4:4", 1: "4:2:2", 2: "4:2:0"}.get(JpegImagePlugin.get_sampling(image), "unusual chroma")
        tables = image.quantization
        coarseness = step_of(tables[0]) if 0 in tables else UNKNOWN
        return Coding("JPEG", False, "4:4:4" if image.layers == 1 else chroma, jpeg_quality(tables), coarseness)
    if kind == "WEBP":
        lossless = _webp_is_lossless(path)
        return Coding(kind, lossless, "4:4:4" if lossless else "4:2:0", None, 0.0 if lossless else UNKNOWN)
    if kind == "AVIF":
        return Coding(kind, False, _avif_chroma(path), None, UNKNOWN)
    lossless = kind != "JPEG2000"
    return Coding(kind, lossless, coarseness=0.0 if lossless else UNKNOWN)


def jpeg_quality(tables: Mapping[int, Sequence[int]]) -> int | None:
    """The quality 1 to 100 whose luma table is nearest to the file's; None without a table."""
    if 0 not in tables:
        return None
    found = list(tables[0])

    def distance(quality: int) -> int:
        return sum(abs(a - b) for a, b in zip(found, luma_table(quality), strict=True))

    return min(range(100, 0, -1), key=distance)


def _webp_is_lossless(path: Path) -> bool:
    """From the first chunk of pixels; the chunks before it hold metadata."""
    with path.open("rb") as file:
        file.seek(12)
        while len(header := file.read(8)) == 8:
            if header[:3] == b"VP8" and header[3:4] != b"X":
                return header[3:4] == b"L"
            length = int.from_bytes(header[4:], "little")
            file.seek(8 if header[:4] == b"ANMF" else length + length % 2, 1)
    return False


def _avif_chroma(path: Path) -> str:
    """From the AV1 configuration box, whose third byte says monochrome, halved columns, halved rows in bits 4 to 2."""
    with path.open("rb") as file:
        head = file.read(1 << 20)
    at = head.find(b"av1C")
    if at < 0 or at + 7 > len(head):
        return "unusual chroma"
    flags = head[at + 6]
    if flags & 0b10000:
        return "4:4:4"  # grey
    return {0: "4:4:4", 0b1000: "4:2:2", 0b1100: "4:2:0"}.get(flags & 0b1100, "unusual chroma")
