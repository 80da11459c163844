"""What makes a Matroska or WebM file a 360-degree video: `Projection` and `StereoMode` of its video track.

They say what the boxes of an MP4 file say (spherical.py), which is what they are read into and written from. ffmpeg
writes them from side data that an encoder does not hand on. So a track is written with a name of the right length, and
in the finished file they take its place: no position that is stored in the file moves.

Sources: RFC 9559 (Matroska), 5.1.4.1.28 (Video); RFC 8794 (EBML); Google's Spherical Video V2 RFC, part WebM.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from engines.panorama.spherical import Boxes, box, children, inside
from engines.support.errors import UserError

V1_TAG = "SPHERICAL-VIDEO"  # of the video track: the XML of V1
_EBML, _SEGMENT, _TRACKS, _ENTRY, _CLUSTER = 0x1A45DFA3, 0x18538067, 0x1654AE6B, 0xAE, 0x1F43B675
_TYPE, _NAME, _VIDEO, _VOID, _CRC = 0x83, 0x536E, 0xE0, 0xEC, 0xBF
_STEREO, _PROJECTION, _KIND, _PRIVATE = 0x53B8, 0x7670, 0x7671, 0x7672
_POSE = (0x7673, 0x7674, 0x7675)  # yaw, pitch and roll
_KINDS = {1: b"equi", 2: b"cbmp", 3: b"mshp"}
_MODES = {1: 3, 2: 1, 4: 11}  # of st3d: StereoMode
_MOST = 64 * 2**20  # bytes of the tracks
_SPARE = 16  # bytes: a longer size of the element that grows, and a Void element of what is left

Element = tuple[int, int, int, int]  # ID, start, start of the body, stop


def placeholder(boxes: Boxes) -> str:
    """The name that the video track is to be written with, so that `write_projection` has room for the boxes."""
    return "_" * (len(_elements(boxes)) + _SPARE)


def read_projection(path: Path) -> Boxes:
    """What the first video track says, as boxes of V2; none for another file or an ordinary video."""
    found = _tracks(path)
    if found is None:
        return Boxes()
    tracks = found[1]
    for _, _, start, stop in _each(tracks, 0, len(tracks), _ENTRY):
        for _, _, body, end in _each(tracks, start, stop, _VIDEO):
            return Boxes(b"", _boxes(tracks, body, end))
    return Boxes()


def write_projection(path: Path, boxes: Boxes) -> None:
    """Puts the boxes' content into the video track of the Matroska file at `path`, whose name was `placeholder(boxes)`.

    Raises:
        UserError: it has no such track.
    """
    found = _tracks(path)
    name = placeholder(boxes).encode("ascii")
    at, tracks = found or (0, b"")
    for _, _, start, stop in _each(tracks, 0, len(tracks), _ENTRY):
        names = [named for named in _each(tracks, start, stop, _NAME) if tracks[named[2] : named[3]] == name]
        videos = list(_each(tracks, start, stop, _VIDEO))
        if not names or not videos:
            continue
        kept = [tracks[a:b] for _, a, _, b in _inner(tracks, start, stop) if a not in (names[0][1], videos[0][1])]
        content = tracks[videos[0][2] : videos[0][3]] + _elements(boxes)
        entry = b"".join(kept) + _element(_VIDEO, content)
        entry += _void(stop - start - len(entry))
        changed = tracks[:start] + entry + tracks[stop:]
        for _, _, body, end in _each(changed, 0, len(changed), _CRC):
            sum_ = zlib.crc32(changed[end:])
            changed = changed[:body] + struct.pack("<I", sum_) + changed[end:]
        with path.open("r+b") as file:
            file.seek(at)
            file.write(changed)
        return
    raise UserError(f"{path}: expected a Matroska file whose video track has room for its projection, found none")


def _elements(boxes: Boxes) -> bytes:
    """StereoMode and Projection; of a file that has V1 only, what that says."""
    entry = boxes.entry or boxes.as_v2()
    written = b""
    for kind, _, body, stop in children(entry, 0, len(entry)):
        if kind == b"st3d":
            written += _element(_STEREO, bytes([_MODES.get(entry[body + 4], 0)]))
        proj = inside(entry, (body, stop), b"proj") if kind == b"sv3d" else None
        if proj is None:
            continue
        parts = {name: entry[start:end] for name, _, start, end in children(entry, *proj)}
        number, private = next(((n, parts[name]) for n, name in _KINDS.items() if name in parts), (0, b""))
        projection = _element(_KIND, bytes([number])) + (_element(_PRIVATE, private) if private else b"")
        pose = struct.unpack(">3i", parts.get(b"prhd", bytes(16))[4:16].ljust(12, b"\0"))
        for code, degrees in zip(_POSE, pose, strict=True):
            projection += _element(code, struct.pack(">f", degrees / 65536))
        written += _element(_PROJECTION, projection)
    return written


def _boxes(tracks: bytes, start: int, stop: int) -> bytes:
    """The boxes of V2 for the children of Video from start to stop."""
    made = b""
    for _, _, body, end in _each(tracks, start, stop, _STEREO):
        mode = {number: mode for mode, number in _MODES.items()}.get(int.from_bytes(tracks[body:end], "big"), 0)
        made += box(b"st3d", bytes(4), bytes([mode]))
    for _, _, body, end in _each(tracks, start, stop, _PROJECTION):
        values = {code: tracks[a:b] for code, _, a, b in _inner(tracks, body, end)}
        kind = _KINDS.get(int.from_bytes(values.get(_KIND, b""), "big"))
        pose = (_degrees(values.get(code, b"")) for code in _POSE)
        header = box(b"prhd", bytes(4), struct.pack(">3i", *(round(angle * 65536) for angle in pose)))
        if kind is not None:
            private = values.get(_PRIVATE) or bytes(20)
            made += box(b"sv3d", box(b"svhd", bytes(4), b"dinn360\0"), box(b"proj", header, box(kind, private)))
    return made


def _degrees(data: bytes) -> float:
    value = struct.unpack({4: ">f", 8: ">d"}[len(data)], data)[0] if len(data) in (4, 8) else 0.0
    return float(value) if -360 <= value <= 360 else 0.0


def _tracks(path: Path) -> tuple[int, bytes] | None:
    """Where the body of Tracks starts in the file, and all of it; None without one."""
    with path.open("rb") as file:
        end = path.stat().st_size
        head = _head(file, 0, end)
        if head is None or head[0] != _EBML:
            return None
        at = head[3]
        while (head := _head(file, at, end)) is not None:
            code, _, body, stop = head
            if code == _TRACKS:
                if stop - body > _MOST:
                    return None
                file.seek(body)
                return body, file.read(stop - body)
            if code == _CLUSTER:
                return None
            at = body if code == _SEGMENT else stop
    return None


def _head(file: IO[bytes], at: int, end: int) -> Element | None:
    file.seek(at)
    found = next(_inner(file.read(min(12, end - at)), 0, 12, end - at), None)
    return None if found is None else (found[0], at, at + found[2], at + found[3])


def _inner(data: bytes, start: int, stop: int, limit: int | None = None) -> Iterator[Element]:
    """Elements from start to stop. Ends where something is none. limit: how far they may reach, None: to stop.

    A size that is unknown, as in a live stream, reaches to the limit.
    """
    limit = stop if limit is None else limit
    while start < stop:
        code = _number(data, start, 4, keep_marker=True)
        size = _number(data, start + code[1], 8) if code else None
        if code is None or size is None:
            return
        body = start + code[1] + size[1]
        unknown = size[0] == (1 << 7 * size[1]) - 1
        end = limit if unknown else body + size[0]
        if end > limit:
            return
        yield code[0], start, body, end
        start = end


def _each(data: bytes, start: int, stop: int, wanted: int) -> Iterator[Element]:
    return (element for element in _inner(data, start, stop) if element[0] == wanted)


def _number(data: bytes, at: int, longest: int, keep_marker: bool = False) -> tuple[int, int] | None:
    """A number of variable length and its bytes."""
    if at >= len(data) or not data[at]:
        return None
    length = 9 - data[at].bit_length()
    if length > longest or at + length > len(data):
        return None
    value = int.from_bytes(data[at : at + length], "big")
    return (value if keep_marker else value & ~(1 << 7 * length)), length


def _element(code: int, body: bytes, size_length: int | None = None) -> bytes:
    length = size_length or next(n for n in range(1, 9) if len(body) < (1 << 7 * n) - 1)
    head = code.to_bytes((code.bit_length() + 7) // 8, "big")
    return head + (len(body) | 1 << 7 * length).to_bytes(length, "big") + body


def _void(length: int) -> bytes:
    """An element of `length` bytes that says nothing; length is 0, or 2 to 127."""
    return _element(_VOID, bytes(length - 2), 1) if length else b""
