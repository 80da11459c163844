"""What travels beside the pixels: EXIF, XMP with its Photo Sphere (GPano) sizes, and the colour profile.

Nothing is interpreted beyond what rescaling must change; everything else is passed on as it came.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from xml.sax.saxutils import escape, unescape

from PIL import Image

from engines.panorama.record import Record
from engines.panorama.xmp import EMPTY, GPANO, decode, encode, join, other_eye, prefix_of, with_other_eye

OURS = "urn:dinn360:record"
_ORIENTATION, _EXIF_IFD, _EXIF_WIDTH, _EXIF_HEIGHT = 0x0112, 0x8769, 0xA002, 0xA003
_WIDTHS = {"FullPanoWidthPixels", "CroppedAreaImageWidthPixels", "CroppedAreaLeftPixels"}
_WIDTHS |= {"LargestValidInteriorRectLeft", "LargestValidInteriorRectWidth"}
_HEIGHTS = {"FullPanoHeightPixels", "CroppedAreaImageHeightPixels", "CroppedAreaTopPixels"}
_HEIGHTS |= {"LargestValidInteriorRectTop", "LargestValidInteriorRectHeight"}
_RECORD = re.compile(rf'<rdf:Description[^<>]*xmlns:dinn360="{OURS}"[^<>]*dinn360:record="([^"<>]*)"[^<>]*/>')
Size = tuple[int, int]  # height and width
_QUOTE = {'"': "&quot;"}


@dataclass(frozen=True)
class Metadata:
    """Raw blocks of a file, None where it has none: EXIF (a TIFF structure), XMP (an XML packet), ICC profile."""

    exif: bytes | None = None
    xmp: bytes | None = None
    icc: bytes | None = None

    def rescaled(self, sizes: Sequence[tuple[Size, Size]], factor: float) -> Metadata:
        """The blocks for an image made from another one by `factor`.

        sizes: (height, width) before and after of the image, then of its eyes. A length that is one of these becomes
        what it became; other lengths in pixels are multiplied and rounded.
        """
        return replace(
            self,
            exif=self.exif and _rescale_exif(self.exif, sizes[0][1]),
            xmp=self.xmp and _rescale_gpano(self.xmp, sizes, factor),
        )

    @property
    def other_eye(self) -> bytes | None:
        """The image file of the second eye, which a VR photo carries in its XMP packet (GImage)."""
        return other_eye(self.xmp)

    def with_other_eye(self, image: bytes, mime: str) -> Metadata:
        """The same with another image file for the second eye."""
        return replace(self, xmp=with_other_eye(self.xmp or b"", image, mime))

    def with_record(self, record: Record | None) -> Metadata:
        """The blocks with `record` in the XMP packet, in the place of an older one; None only takes that away."""
        text = decode(self.xmp) if self.xmp else ""
        if not text and record is None:
            return self
        text = _RECORD.sub("", text)
        if record is not None:
            value = escape(record.to_text(), _QUOTE)
            node = f'<rdf:Description rdf:about="" xmlns:dinn360="{OURS}" dinn360:record="{value}"/>'
            text = text if "</rdf:RDF>" in text else EMPTY
            text = text.replace("</rdf:RDF>", node + "</rdf:RDF>", 1)
        return replace(self, xmp=encode(text))

    @property
    def record(self) -> Record | None:
        """The record in the XMP packet."""
        found = _RECORD.search(decode(self.xmp)) if self.xmp else None
        return Record.from_text(unescape(found[1], {"&quot;": '"'})) if found else None


def read_metadata(image: Image.Image) -> Metadata:
    """The blocks of an opened image. An ICC profile of another colour space than RGB is left out: pixels become RGB."""
    info = image.info
    exif, xmp, icc = info.get("exif"), info.get("xmp") or info.get("XML:com.adobe.xmp"), info.get("icc_profile")
    if image.format == "TIFF":
        exif = image.getexif().tobytes() if len(image.getexif()) else None
    if isinstance(xmp, str):
        xmp = encode(xmp)
    xmp = join(xmp, getattr(image, "applist", ()))
    return Metadata(exif or None, xmp or None, icc if icc and icc[16:20] == b"RGB " else None)


def orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 (upright) where nothing is said."""
    value = Image.Exif()
    try:
        value.load(image.info.get("exif") or b"")
        return int(value.get(_ORIENTATION, 1))
    except (ValueError, SyntaxError, TypeError, OSError, KeyError, OverflowError):
        return 1


def _rescale_exif(blob: bytes, new: Size) -> bytes | None:
    """EXIF of an image that stands upright and has the size `new`; None when the block cannot be read."""
    exif = Image.Exif()
    try:
        exif.load(blob)
        if _ORIENTATION in exif:
            exif[_ORIENTATION] = 1
        details = exif.get_ifd(_EXIF_IFD)
        if _EXIF_WIDTH in details or _EXIF_HEIGHT in details:
            details[_EXIF_WIDTH], details[_EXIF_HEIGHT] = new[1], new[0]
        for tag in (0x0100, 0x0101, 0x0102, 0x0103, 0x0106, 0x0111, 0x0115, 0x0116, 0x0117, 0x011C, 0x013D, 0x0153):
            if tag in exif:  # a TIFF file's own layout
                del exif[tag]
        return exif.tobytes()
    except (ValueError, SyntaxError, TypeError, OSError, KeyError, OverflowError, RuntimeError):
        return None


def _rescale_gpano(packet: bytes, sizes: Sequence[tuple[Size, Size]], factor: float) -> bytes:
    text = decode(packet)
    prefix = prefix_of(text, GPANO)
    if prefix is None:
        return packet
    became = [{old[axis]: new[axis] for old, new in reversed(sizes)} for axis in (0, 1)]

    def replaced(match: re.Match[str]) -> str:
        name, length = match[2], int(match[4])
        known = became[1 if name in _WIDTHS else 0]
        return f"{match[1]}{name}{match[3]}{known.get(length, round(length * factor))}"

    names = "|".join(sorted(_WIDTHS | _HEIGHTS))
    # both ways in which RDF writes a property: name="4096" and <name>4096</name>
    pattern = rf"""(\b{re.escape(prefix)}:)({names})(\s*=\s*["']\s*|\s*>\s*)(\d{{1,9}})"""
    return encode(re.sub(pattern, replaced, text))
