"""Checksums of FFV1 packets: FFmpeg's decoder hides a damaged slice behind the frame before, without a word.

A frame of FFV1 version 3 is a row of slices; each ends with its size (3 bytes), a status byte and a CRC-32 of all that
is before, so that the CRC over the whole slice is 0 (RFC 9043, 4.8 and 4.9).
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

from engines.support.errors import UserError

_MIRRORED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
_TRAILER = 8  # bytes
_SHOWN = 12  # frames that a message names


def is_whole(packet: bytes) -> bool:
    """Whether all slices of a frame have the checksum that they were written with."""
    end = len(packet)
    while end > 0:
        start = end - _TRAILER - int.from_bytes(packet[max(end - 8, 0) : max(end - 5, 0)], "big")
        if start < 0 or not _checks(packet[start:end]):
            return False
        end = start
    return len(packet) > 0


def _checks(slice_: bytes) -> bool:
    """CRC-32 with the most significant bit first, which zlib computes of mirrored bytes; a start value of 0."""
    return ~zlib.crc32(slice_.translate(_MIRRORED), 0xFFFFFFFF) & 0xFFFFFFFF == 0


def check_frames(source: Path, reading: Any) -> None:
    """Reads through the packets of an opened video of FFV1 with checksums, and goes back to its start.

    Raises:
        UserError: frames are damaged; it names them, counted from 0.
    """
    stream = reading.streams.video[0]
    packets = (bytes(packet) for packet in reading.demux(stream))
    damaged = [number for number, packet in enumerate(packets) if packet and not is_whole(packet)]
    if damaged:
        raise UserError(f"{source}: {named(damaged)} damaged (checksums of FFV1): expected the frames as written")
    reading.seek(0)


def named(frames: list[int]) -> str:
    """ "frame 3 is", "frames 3, 5 and 9 more are": for a message."""
    if len(frames) == 1:
        return f"frame {frames[0]} is"
    shown = ", ".join(map(str, frames[:_SHOWN]))
    return f"frames {shown} are" if len(frames) <= _SHOWN else f"frames {shown} and {len(frames) - _SHOWN} more are"
