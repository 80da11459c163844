"""PNG files row by row: a panorama of any height passes through the memory of a few hundred rows.

Pillow holds whole images. It still does the slow part here: a strip of rows, still filtered, is handed to it as a small
PNG of its own.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray
from PIL import PngImagePlugin

from engines.support.arrays import Samples
from engines.support.errors import UserError
from engines.support.files import os_reason

SIGNATURE = b"\x89PNG\r\n\x1a\n"
LARGEST = 2**30  # pixels; memory does not grow with them, but the time to compute does
_PIECE = 1 << 16  # bytes
_STRIP = 64  # rows that are decoded at a time
_CHANNELS = {2: 3, 6: 4}  # colour types that are read in rows: RGB and RGBA


def chunks(file: IO[bytes]) -> Iterator[tuple[bytes, int]]:
    """Yields (type, length) of each chunk, with the file at the start of its data; what is not read is skipped.

    Raises:
        ValueError: the file is no PNG or ends early.
    """
    if file.read(8) != SIGNATURE:
        raise ValueError("not a PNG file")
    kind = b""
    while kind != b"IEND":
        head = file.read(8)
        if len(head) < 8:
            raise ValueError("the file ends early")
        length, kind = struct.unpack(">I4s", head)
        start = file.tell()
        yield kind, length
        file.seek(start + length + 4)


def read_text(path: Path, keyword: str) -> str | None:
    """The tEXt chunk of a PNG file under `keyword`, wherever in the file it stands; None without one."""
    head = keyword.encode("latin-1") + b"\0"
    try:
        with path.open("rb") as file:
            for kind, length in chunks(file):
                if kind == b"tEXt" and len(head) < length < _PIECE:
                    data = file.read(length)
                    if data.startswith(head):
                        return data[len(head) :].decode("latin-1")
    except (OSError, ValueError):
        return None  # whoever reads the pixels will say what is wrong
    return None


class PngReader:
    """The rows of an RGB or RGBA PNG of 8 or 16 bits without interlacing, read forwards.

    Attributes:
        width, height, channels, bits: as in the file.
    """

    def __init__(self, path: Path) -> None:
        """Opens the file.

        Raises:
            UserError: the file is not readable, damaged, or has more than LARGEST pixels.
            ValueError: it is no PNG of this kind; Pillow may know it.
        """
        self.path = path
        try:
            self._file = path.open("rb")
        except OSError as error:
            raise UserError(f"{path}: cannot read: {os_reason(error)}") from None
        try:
            self._read_header()
        except BaseException:
            self._file.close()
            raise

    def _read_header(self) -> None:
        header = b""
        for kind, length in chunks(self._file):
            self._left = length
            if kind == b"tRNS":
                raise ValueError("transparent colour")
            if kind == b"IDAT":
                break
            if kind == b"IHDR":
                header = self._file.read(13)
        if len(header) < 13 or kind != b"IDAT":
            raise ValueError("no pixels")
        self.width, self.height, self.bits, colour, _, _, interlaced = struct.unpack(">IIBBBBB", header)
        if colour not in _CHANNELS or self.bits not in (8, 16) or interlaced or not self.width * self.height:
            raise ValueError("not plain RGB or RGBA")
        self.channels = _CHANNELS[colour]
        if self.width * self.height > LARGEST:
            raise UserError(f"{self.path}: expected at most {LARGEST} pixels, found {self.width * self.height}")
        self._colour = colour
        self._stride = 1 + self.width * self.channels * self.bits // 8
        self._inflate = zlib.decompressobj()
        self._check = zlib.crc32(kind)
        self._above = bytes(self._stride - 1)

    def read(self, count: int) -> Samples:
        """The next `count` rows.

        Raises:
            UserError: the file is truncated or damaged.
        """
        samples = np.empty((count, self.width, self.channels), f"u{self.bits // 8}")
        for start in range(0, count, _STRIP):
            part = samples[start : start + _STRIP]
            try:
                part[:] = self._unfilter(self._inflated(len(part) * self._stride), len(part))
            except (ValueError, OSError, SyntaxError, zlib.error, struct.error) as error:
                raise UserError(f"{self.path}: the image is truncated or corrupt ({error})") from None
            self._above = part[-1].astype(part.dtype.newbyteorder(">")).tobytes()
        return samples

    def _inflated(self, size: int) -> bytes:
        out = bytearray()
        while len(out) < size:
            data = self._inflate.unconsumed_tail or self._compressed()
            if not data or self._inflate.eof:
                raise ValueError("not all rows are there")
            out += self._inflate.decompress(data, size - len(out))
        return bytes(out)

    def _compressed(self) -> bytes:
        """Some more bytes of the IDAT chunks; empty at their end."""
        while self._left == 0:
            (expected,) = struct.unpack(">I", self._file.read(4))
            if expected != self._check:
                raise ValueError("wrong checksum")
            self._left, kind = struct.unpack(">I4s", self._file.read(8))
            self._check = zlib.crc32(kind)
            if kind != b"IDAT":
                return b""
        data = self._file.read(min(self._left, _PIECE))
        self._left -= len(data)
        self._check = zlib.crc32(data, self._check)
        return data

    def _unfilter(self, raw: bytes, count: int) -> Samples:
        """Decodes filtered rows: Pillow gets them below the row above them, which is filtered by nothing."""
        header = struct.pack(">IIBBBBB", self.width, count + 1, self.bits, self._colour, 0, 0, 0)
        data = zlib.compress(b"\0" + self._above + raw, 0)
        strip = SIGNATURE + _chunk(b"IHDR", header) + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")
        high = _decode(strip)[1:]
        if self.bits == 8:
            return high
        # Pillow keeps the high byte of 16 bits; read as little-endian, that is the low one.
        return high.astype(np.uint16) << 8 | _decode(strip, swapped=True)[1:]

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def _decode(png: bytes, swapped: bool = False) -> Samples:
    with PngImagePlugin.PngImageFile(io.BytesIO(png)) as image:
        if swapped:
            image.tile = [tile._replace(args=str(tile.args).replace("16B", "16L")) for tile in image.tile]
        return np.asarray(image)


class PngWriter:
    """Writes an RGB or RGBA PNG of 8 or 16 bits, row after row.

    Args:
        file: opened for binary writing; the caller closes it.
        size: (height, width).
        channels, bits: 3 or 4, and 8 or 16.
        before: chunks (type, data) that stand before the pixels.
    """

    def __init__(
        self, file: IO[bytes], size: tuple[int, int], channels: int, bits: int, before: list[tuple[bytes, bytes]]
    ) -> None:
        self._file = file
        self._step = channels * bits // 8
        self._left = size[0]
        self._above = np.zeros(size[1] * self._step, np.uint8)
        self._deflate = zlib.compressobj(6, strategy=zlib.Z_FILTERED)
        colour = {count: colour for colour, count in _CHANNELS.items()}[channels]
        file.write(SIGNATURE + _chunk(b"IHDR", struct.pack(">IIBBBBB", size[1], size[0], bits, colour, 0, 0, 0)))
        for kind, data in before:
            file.write(_chunk(kind, data))

    def write(self, rows: Samples) -> None:
        """Appends rows (n, width, channels)."""
        lines = np.ascontiguousarray(rows, rows.dtype.newbyteorder(">")).view(np.uint8).reshape(len(rows), -1)
        for start in range(0, len(lines), 16):  # what fits into a core's cache
            part = lines[start : start + 16]
            above = np.concatenate([self._above[None], part[:-1]])
            self._compress(_filtered(part, above, self._step))
            self._above = part[-1]
        self._left -= len(lines)

    def _compress(self, data: bytes) -> None:
        packed = self._deflate.compress(data)
        if packed:
            self._file.write(_chunk(b"IDAT", packed))

    def finish(self, after: list[tuple[bytes, bytes]]) -> None:
        """Ends the pixels, then writes the chunks `after` and the end of the file."""
        if self._left:
            raise ValueError(f"{self._left} rows were not written")
        self._file.write(_chunk(b"IDAT", self._deflate.flush()))
        for kind, data in after:
            self._file.write(_chunk(kind, data))
        self._file.write(_chunk(b"IEND", b""))


def _filtered(lines: NDArray[np.uint8], above: NDArray[np.uint8], step: int) -> bytes:
    """Each line behind the number of the filter that leaves the smallest residuals (PNG specification, 12.8)."""
    left, corner = np.zeros_like(lines), np.zeros_like(lines)
    left[:, step:], corner[:, step:] = lines[:, :-step], above[:, :-step]
    a, b, c = (x.astype(np.int16) for x in (left, above, corner))
    to_a, to_b, to_c = np.abs(b - c), np.abs(a - c), np.abs(a + b - 2 * c)
    paeth = np.where((to_a <= to_b) & (to_a <= to_c), left, np.where(to_b <= to_c, above, corner))
    candidates = np.stack([lines, lines - left, lines - above, lines - paeth])
    cost = np.abs(candidates.view(np.int8).astype(np.int16)).sum(axis=2, dtype=np.int64)
    best = cost.argmin(axis=0)
    numbers = np.array([0, 1, 2, 4], np.uint8)[best]
    chosen = candidates[best, np.arange(len(lines))]
    return np.concatenate([numbers[:, None], chosen], axis=1).tobytes()


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
