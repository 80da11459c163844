"""A CRC-32 of every coded frame of an LR video, at the end of its file: damage that a decoder would hide is seen.

Codecs but FFV1 have no checksums of their own, and neither have MP4 and MOV. What stands at the end is an element that
players skip: a `uuid` box (ISO/IEC 14496-12, 11.1), or `Void` in Matroska's Segment (RFC 8794, 11.3.2), with

    b"D360CRCS", the number of frames (uint32), a CRC of each in the order of the file, a CRC of all of this,
    its length (uint64), b"D360"

all numbers big-endian. Who copies the streams into another file drops it; the file's metadata still say that it was
there, and a warning says that damage cannot be seen any more.
"""

from __future__ import annotations

import os
import struct
import warnings
import zlib
from pathlib import Path
from typing import IO

from engines.panorama.ffv1 import named
from engines.support.errors import UserError

KEYWORD = "DINN360_CHECKSUMS"  # in the metadata: there are some
_UUID = bytes.fromhex("3f0d6a7c52c94f0b9a4e1d8b7c60d360")
_HEAD, _TAIL = b"D360CRCS", b"D360"
_END = struct.Struct(">Q4s")
_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"
_VOID, _EIGHT_BYTES = b"\xec", 1 << 56  # the size of an EBML element, with the mark of its own length


def append(path: Path, matroska: bool) -> None:
    """Put the checksums of the frames behind a finished file."""
    sums = [sum_ for _, sum_ in _packets(path)]
    body = _HEAD + struct.pack(f">I{len(sums)}I", len(sums), *sums)
    body += struct.pack(">I", zlib.crc32(body))
    body += _END.pack(len(body), _TAIL)
    if matroska:
        head = _VOID + (_EIGHT_BYTES | len(body)).to_bytes(8, "big")
    else:
        head = struct.pack(">I4s16s", 24 + len(body), b"uuid", _UUID)
    with path.open("rb+") as file:
        if matroska:
            _lengthen_segment(file, len(head + body))
        file.seek(0, os.SEEK_END)
        file.write(head + body)


def _lengthen_segment(file: IO[bytes], more: int) -> None:
    """Let the Segment, which is all of a file behind its EBML header, end `more` bytes later."""
    file.seek(len(_EBML))
    first = file.read(1)[0]
    width = 9 - first.bit_length()  # bytes of the header's size
    file.seek(len(_EBML))
    length = int.from_bytes(file.read(width), "big") - (1 << 7 * width)
    at = len(_EBML) + width + length
    file.seek(at)
    start = file.read(len(_SEGMENT) + 8)
    size = int.from_bytes(start[len(_SEGMENT) :], "big") - _EIGHT_BYTES
    if start.startswith(_SEGMENT) and 0 <= size < _EIGHT_BYTES - 1:
        file.seek(at + len(_SEGMENT))
        file.write((_EIGHT_BYTES | size + more).to_bytes(8, "big"))


def check(path: Path, expected: bool) -> bool:
    """Compare the frames of an LR video with its checksums; whether it has any.

    expected: the metadata say so.

    Raises:
        UserError: frames are damaged or missing; it names them, counted from 0.
    """
    sums = _read(path)
    if sums is None:
        if expected:
            warnings.warn(
                f"{path}: has lost the checksums at its end (cut short, damaged there, or copied by another program): "
                "damage cannot be seen",
                stacklevel=3,
            )
        return False
    packets = _packets(path)
    order = {at: number for number, at in enumerate(sorted(at for at, _ in packets))}
    damaged = [order[at] for (at, found), sum_ in zip(packets, sums, strict=False) if found != sum_]
    if len(packets) != len(sums):
        first = f", the first that differs is frame {min(damaged)}" if damaged else ""
        raise UserError(f"{path}: expected {len(sums)} frames as written, found {len(packets)}{first}")
    if damaged:
        raise UserError(f"{path}: {named(sorted(damaged))} damaged (checksums): expected the frames as written")
    return True


def _packets(path: Path) -> list[tuple[int, int]]:
    """(time, CRC-32) of every coded frame, in the order of the file."""
    import av

    with av.open(str(path), metadata_errors="replace") as reading:
        packets = reading.demux(reading.streams.video[0])
        found = [(packet.pts, packet.dts, zlib.crc32(packet)) for packet in packets if packet.size]
    return [(dts or 0 if pts is None else pts, sum_) for pts, dts, sum_ in found]


def _read(path: Path) -> list[int] | None:
    """The checksums at the end of a file; None where there are none, or they are damaged themselves."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        if size < _END.size:
            return None
        file.seek(-_END.size, os.SEEK_END)
        length, tail = _END.unpack(file.read(_END.size))
        if tail != _TAIL or not len(_HEAD) + 8 <= length <= size - _END.size:
            return None
        file.seek(-_END.size - length, os.SEEK_END)
        body = file.read(length)
    (count,) = struct.unpack_from(">I", body, len(_HEAD))
    whole = body.startswith(_HEAD) and length == len(_HEAD) + 8 + 4 * count
    if not whole or zlib.crc32(body[:-4]) != struct.unpack(">I", body[-4:])[0]:
        return None
    return list(struct.unpack_from(f">{count}I", body, len(_HEAD) + 4))
