"""How eyes lie in a picture or frame, and how far around it goes."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal, cast, get_args

from engines.panorama.metadata import Metadata
from engines.panorama.record import Record
from engines.panorama.xmp import GPANO, decode, value
from engines.support.errors import UserError

Stereo = Literal["mono", "top-bottom", "side-by-side"]
STEREO: tuple[Stereo, ...] = get_args(Stereo)
AROUND = 360.0  # degrees
_TEXT = re.compile(r"(?P<stereo>[a-z-]+) (?P<span>[0-9.]{1,20})")


@dataclass(frozen=True)
class Layout:
    """stereo: where the two eyes lie, the first above or left of the second. span: degrees across of an eye.

    An eye of less than 360 degrees does not go around the circle: VR180 is `Layout("side-by-side", 180)`.
    """

    stereo: Stereo = "mono"
    span: float = AROUND

    def __post_init__(self) -> None:
        """Raises UserError for a span that no picture has."""
        if self.stereo not in STEREO:
            raise UserError(f"expected {', '.join(STEREO)}, found {self.stereo!r}", "stereo")
        if not 0 < self.span <= AROUND:
            raise UserError(f"expected more than 0 and at most {AROUND:g} degrees, found {self.span:g}", "span")

    @property
    def wraps(self) -> bool:
        """Whether the last column of an eye is beside its first."""
        return self.span >= AROUND

    @property
    def eyes(self) -> int:
        """1 or 2."""
        return 1 if self.stereo == "mono" else 2

    def fits(self, height: int, width: int) -> bool:
        """Whether a picture of this size can be cut into its eyes."""
        return not {"mono": 0, "top-bottom": height % 2, "side-by-side": width % 2}[self.stereo]

    def of_eye(self, size: tuple[int, int]) -> tuple[int, int]:
        """(height, width) of an eye of a picture of this size."""
        return size[0] // self._down, size[1] // self._across

    def of_picture(self, eye: tuple[int, int]) -> tuple[int, int]:
        """(height, width) of the picture whose eyes have this size."""
        return eye[0] * self._down, eye[1] * self._across

    @property
    def _down(self) -> int:
        return 2 if self.stereo == "top-bottom" else 1

    @property
    def _across(self) -> int:
        return 2 if self.stereo == "side-by-side" else 1

    def reduced(self, size: tuple[int, int], scale: int) -> tuple[int, int]:
        """(height, width) of the LR picture of one of this size: each eye is padded to whole LR pixels."""
        height, width = self.of_eye(size)
        return self.of_picture((-(-height // scale), -(-width // scale)))

    def to_text(self) -> str:
        """For a record; empty for a plain panorama."""
        return "" if self == Layout() else f"{self.stereo} {self.span:g}"

    @classmethod
    def from_text(cls, text: str) -> Layout | None:
        """The inverse; None for anything else."""
        if not text:
            return cls()
        found = _TEXT.fullmatch(text)
        try:
            return cls(cast(Stereo, found["stereo"]), float(found["span"])) if found else None
        except (UserError, ValueError):
            return None

    def __str__(self) -> str:
        return f"{self.stereo}, {self.span:g} degrees across"


def recorded(record: Record, size: tuple[int, int]) -> Layout | None:
    """The layout that a record tells of an LR picture of `size` (height, width); None where that cannot be its size."""
    layout = Layout.from_text(record.layout)
    original = (record.height, record.width)
    if layout is None or not layout.fits(*original) or layout.reduced(original, record.scale) != size:
        return None
    return layout


def choose(told: Layout | None, stereo: Stereo | None, span: float | None, size: tuple[int, int]) -> tuple[Layout, str]:
    """The layout of a picture of `size` (height, width), and what is wrong with what the file says, or "".

    told: by the file's metadata. stereo, span: what the caller says, which goes first; None: nothing.

    Raises:
        UserError: the caller's words do not fit the picture.
    """
    said = told or Layout()
    layout = Layout(stereo or said.stereo, said.span if span is None else span)
    if layout.fits(*size):
        return layout, ""
    problem = f"a {layout.stereo} pair has two eyes of one size, found {size[1]} x {size[0]}"
    if stereo is not None:
        raise UserError(problem, "stereo")
    return Layout(span=layout.span), f"its metadata are wrong: {problem}"


def check_words(layout: Layout, stereo: Stereo | None, span: float | None, path: object) -> None:
    """Refuses words of the caller that contradict the layout as which `path` was downscaled. Raises UserError."""
    if stereo not in (None, layout.stereo):
        raise UserError(f"expected {layout.stereo}, as which {path} was downscaled, found {stereo}", "stereo")
    if span not in (None, layout.span):
        raise UserError(f"expected {layout.span:g}, as which {path} was downscaled, found {span:g}", "span")


def span_of(cropped: float, full: float) -> float:
    """Degrees across of the part `cropped` of a panorama of width `full`; all around where that makes no sense."""
    share = cropped / full if full > 0 else 1.0
    return AROUND * share if math.isfinite(share) and 0 < share < 1 else AROUND


def layout_in(metadata: Metadata) -> Layout | None:
    """What a picture's Photo Sphere properties say: StereoMode, and how much of the panorama's width is there.

    Google's list has no StereoMode for pictures; those who write it take the words of its videos.
    """
    if metadata.xmp is None or GPANO.encode("ascii") not in metadata.xmp:
        return None
    text = decode(metadata.xmp)
    widths = [number(value(text, GPANO, f"{name}WidthPixels")) for name in ("CroppedAreaImage", "FullPano")]
    return Layout(stereo_named(value(text, GPANO, "StereoMode")), span_of(*widths))


def stereo_named(word: str | None) -> Stereo:
    """The layout that a GPano or GSpherical StereoMode names; mono for any other word."""
    words: dict[str, Stereo] = {"top-bottom": "top-bottom", "left-right": "side-by-side", "right-left": "side-by-side"}
    return words.get((word or "").strip().lower().replace("_", "-"), "mono")


def number(text: str | None) -> float:
    """A length in pixels; 0 for what is none."""
    try:
        return float(text or 0)
    except ValueError:
        return 0.0
