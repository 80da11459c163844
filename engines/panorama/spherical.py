"""What makes an MP4 or MOV file a 360-degree video: Google's Spherical Video boxes, V1 and V2, kept as they are.

V1 is one `uuid` box with XML in the video's `trak`; V2 are the boxes `st3d` (stereo layout) and `sv3d` (projection) in
its sample entry. ffmpeg drops them with the stream that it decodes, so they are read from the source and put into the
result, whose `moov` ffmpeg writes behind the data: no chunk offset moves.

Sources: github.com/google/spatial-media, docs/spherical-video-rfc.md and spherical-video-v2-rfc.md; ISO/IEC 14496-12.
"""

from __future__ import annotations

import base64
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from engines.panorama.layout import AROUND, Layout, Stereo, number, span_of, stereo_named
from engines.panorama.xmp import decode, encode, value
from engines.support.errors import UserError

GSPHERICAL = "http://ns.google.com/videos/1.0/spherical/"
TAG = "DINN360_SPHERICAL"  # of Matroska files of version 0.2 and before, in which the boxes travel as text
_V1 = bytes.fromhex("ffcc8263f8554a938814587a02521fdd")
_TO_ENTRIES = (b"mdia", b"minf", b"stbl", b"stsd")
_MOST = 256 * 2**20  # bytes of a moov box; more is no video of ours
_SAMPLE_ENTRY = 78  # bytes of a video sample entry before its boxes


@dataclass(frozen=True)
class Boxes:
    """The boxes of a spherical video, whole. uuid: V1. entry: V2, `st3d` and `sv3d`, one after the other."""

    uuid: bytes = b""
    entry: bytes = b""

    def __bool__(self) -> bool:
        return bool(self.uuid or self.entry)

    @property
    def projection(self) -> str:
        """equirectangular, cubemap or mesh; empty where nothing is said."""
        kinds = {b"equi": "equirectangular", b"cbmp": "cubemap", b"mshp": "mesh"}
        known = [kinds[kind] for kind, _ in self._projections() if kind in kinds]
        if known or not self.uuid:
            return known[0] if known else ""
        return (value(self.xml, GSPHERICAL, "ProjectionType") or "").lower()

    def layout(self) -> Layout | None:
        """Where the eyes lie and how far around they go, V2 before V1; None where nothing is said.

        Only an equirectangular picture goes around the circle.
        """
        if self.entry:
            modes: dict[int, Stereo] = {1: "top-bottom", 2: "side-by-side", 4: "side-by-side"}
            stereo: Stereo = "mono"
            for kind, _, body, _ in children(self.entry, 0, len(self.entry)):
                if kind == b"st3d":
                    stereo = modes.get(self.entry[body + 4], "mono")
            span = AROUND
            for kind, data in self._projections():
                if kind == b"equi" and len(data) >= 20:
                    left, right = struct.unpack_from(">2I", data, 12)
                    span = span_of(2**32 - left - right, 2**32)
                elif kind in (b"cbmp", b"mshp"):
                    span = AROUND / 2
            return Layout(stereo, span)
        if self.uuid:
            xml = self.xml
            cropped, full = (
                number(value(xml, GSPHERICAL, f"{name}WidthPixels")) for name in ("CroppedAreaImage", "FullPano")
            )
            return Layout(stereo_named(value(xml, GSPHERICAL, "StereoMode")), span_of(cropped, full))
        return None

    @property
    def xml(self) -> str:
        """The text of V1."""
        return decode(self.uuid[24:])

    def with_xml(self, xml: str) -> Boxes:
        """The same with this text of V1."""
        return replace(self, uuid=box(b"uuid", _V1, encode(xml)) if xml else b"")

    def as_v2(self) -> bytes:
        """What V1 says of the layout, as boxes of V2; nothing of another projection."""
        layout = self.layout()
        if layout is None or self.projection != "equirectangular":
            return b""
        mode = {"mono": 0, "top-bottom": 1, "side-by-side": 2}[layout.stereo]
        beside = round((1 - layout.span / AROUND) / 2 * 2**32)
        equi = box(b"equi", bytes(4), struct.pack(">4I", 0, 0, beside, beside))
        sv3d = box(b"sv3d", box(b"svhd", bytes(4), b"dinn360\0"), box(b"proj", box(b"prhd", bytes(16)), equi))
        return box(b"st3d", bytes(4), bytes([mode])) + sv3d

    def _projections(self) -> Iterator[tuple[bytes, bytes]]:
        """Kind and body of the boxes in `proj`."""
        for kind, _, body, stop in children(self.entry, 0, len(self.entry)):
            proj = inside(self.entry, (body, stop), b"proj") if kind == b"sv3d" else None
            if proj is not None:
                yield from ((kind, self.entry[start:end]) for kind, _, start, end in children(self.entry, *proj))

    @classmethod
    def from_text(cls, text: str) -> Boxes:
        """The boxes of the tag TAG, both in Base64 with a colon between; nothing for anything else."""
        try:
            uuid, entry = (base64.b64decode(part, validate=True) for part in text.split(":"))
        except ValueError:
            return cls()
        return cls(uuid, entry)

    def resized(self, scale: float) -> Boxes:
        """The same for a picture whose sides are `scale` times as long: V1 may say its size in pixels."""

        def times(found: re.Match[bytes]) -> bytes:
            return found[1] + str(round(int(found[2]) * scale)).encode("ascii") + found[3]

        xml = re.sub(rb"(<GSpherical:\w+Pixels>\s*)(\d+)(\s*</)", times, self.uuid[24:])
        return Boxes(box(b"uuid", _V1, xml) if self.uuid else b"", self.entry)


def read_boxes(path: Path) -> Boxes:
    """The spherical boxes of the first video track that has any; none for a file of another kind."""
    moov = _moov(path)
    if moov is None:
        return Boxes()
    content = moov[1]
    for trak in _tracks(content):
        uuid = b"".join(
            content[start:stop] for kind, start, body, stop in children(content, *trak) if _is_v1(content, kind, body)
        )
        entry = b""
        for start, stop in _entries(content, trak):
            boxes = children(content, start + 8 + _SAMPLE_ENTRY, stop)
            entry += b"".join(content[at:end] for kind, at, _, end in boxes if kind in (b"st3d", b"sv3d"))
        if uuid or entry:
            return Boxes(uuid, entry)
    return Boxes()


def write_boxes(path: Path, boxes: Boxes) -> None:
    """Puts the boxes into the first video track of the MP4 or MOV file at `path`, which is changed in place.

    Raises:
        UserError: the file is none that this can be done to.
    """
    found = _moov(path)
    if found is None:
        raise UserError(f"{path}: expected an MP4 or MOV file, found no moov box")
    at, content = found
    for trak in _tracks(content):
        entries = _entries(content, trak)
        if not entries:
            continue
        changed = bytearray(content)
        chain = [trak[0] - 8, 0]  # trak and moov, where they start
        parts = [inside(content, trak, *_TO_ENTRIES[: depth + 1]) for depth in range(len(_TO_ENTRIES))]
        deep = [entries[0][0], *(part[0] - 8 for part in parts if part is not None), *chain]
        # The later place first, so that the earlier one stays what it is.
        for place, piece, longer in ((trak[1], boxes.uuid, chain), (entries[0][1], boxes.entry, deep)):
            changed[place:place] = piece
            for start in longer:
                struct.pack_into(">I", changed, start, struct.unpack_from(">I", changed, start)[0] + len(piece))
        _replace(path, at, len(content), bytes(changed))
        return
    raise UserError(f"{path}: expected a video track, found none")


def _replace(path: Path, at: int, length: int, moov: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(0, 2)
        if file.tell() != at + length:
            raise UserError(f"{path}: expected the moov box at the end of the file, found data behind it")
        file.seek(at)
        file.write(moov)


def _moov(path: Path) -> tuple[int, bytes] | None:
    """Where the moov box starts, and all of it; None without one."""
    with path.open("rb") as file:
        at, end = 0, path.stat().st_size
        while at + 8 <= end:
            file.seek(at)
            head = file.read(16)
            size, kind = struct.unpack(">I4s", head[:8])
            if size == 1 and len(head) == 16:
                size = struct.unpack(">Q", head[8:])[0]
            size = size or end - at
            if at == 0 and kind not in (b"ftyp", b"moov", b"wide", b"free", b"mdat", b"skip"):
                return None
            if size < 8 or at + size > end:
                return None
            if kind == b"moov":
                if size > _MOST:
                    return None
                file.seek(at)
                return at, file.read(size)
            at += size
    return None


def children(content: bytes, start: int, stop: int) -> Iterator[tuple[bytes, int, int, int]]:
    """Boxes from start to stop: kind, start, start of the body, stop. Ends where something is no box."""
    while start + 8 <= stop:
        size, kind = struct.unpack_from(">I4s", content, start)
        if size < 8 or start + size > stop:
            return
        yield kind, start, start + 8, start + size
        start += size


def _tracks(content: bytes) -> list[tuple[int, int]]:
    """Body and stop of each trak."""
    return [(body, stop) for kind, _, body, stop in children(content, 8, len(content)) if kind == b"trak"]


def inside(content: bytes, where: tuple[int, int], *kinds: bytes) -> tuple[int, int] | None:
    """Body and stop of the box that is reached through `kinds`, one in the other; None without one."""
    for wanted in kinds:
        found = next(((body, stop) for kind, _, body, stop in children(content, *where) if kind == wanted), None)
        if found is None:
            return None
        where = found
    return where


def _entries(content: bytes, trak: tuple[int, int]) -> list[tuple[int, int]]:
    """Start and stop of the sample entries of a video track; none for other tracks."""
    handler = inside(content, trak, b"mdia", b"hdlr")
    table = inside(content, trak, *_TO_ENTRIES)
    if handler is None or table is None or content[handler[0] + 8 : handler[0] + 12] != b"vide":
        return []
    return [(start, stop) for _, start, _, stop in children(content, table[0] + 8, table[1])]


def _is_v1(content: bytes, kind: bytes, body: int) -> bool:
    return kind == b"uuid" and content[body : body + 16] == _V1


def box(kind: bytes, *bodies: bytes) -> bytes:
    """A box."""
    body = b"".join(bodies)
    return struct.pack(">I4s", 8 + len(body), kind) + body
