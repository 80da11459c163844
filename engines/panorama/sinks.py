"""Panoramas to write: rows of samples, and at the end what the file says of itself.

PNG is written row by row. JPEG, WebP, AVIF and TIFF are gathered and encoded whole.
"""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image

from engines.panorama.coding import Coding
from engines.panorama.metadata import Metadata
from engines.panorama.png import PngWriter
from engines.panorama.record import KEYWORD, Record
from engines.panorama.tiff import write_tiff
from engines.panorama.xmp import segments as xmp_segments
from engines.support.arrays import Samples
from engines.support.errors import UserError

FORMATS = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".webp": "WEBP",
    ".avif": "AVIF",
    ".tif": "TIFF",
    ".tiff": "TIFF",
}
_LARGEST_TIFF = 0xF000_0000  # bytes of samples: offsets have 32 bits, and noise does not become smaller
_LONGEST_PNG_TEXT = 60_000_000  # bytes; Pillow, as other readers, refuses a little more
_LARGEST_SIDE = {"JPEG": 65535, "WEBP": 16383, "AVIF": 65536}


class Sink(ABC):
    """Takes the rows of an image from top to bottom, then `finish`."""

    @abstractmethod
    def write(self, rows: Samples) -> None:
        """Takes rows (n, W, C)."""

    @abstractmethod
    def finish(self, record: Record | None) -> None:
        """Ends the file, with the record in it."""


def format_of(path: Path) -> str:
    """PNG, JPEG, WEBP, AVIF or TIFF, after the suffix. Raises UserError for another one."""
    found = FORMATS.get(path.suffix.lower())
    if found is None:
        raise UserError(f"{path}: expected a name that ends in {', '.join(FORMATS)}, found {path.suffix or 'none'!r}")
    return found


def check_format(path: Path, size: tuple[int, int], channels: int, bits: int) -> None:
    """Refuses what the format of `path` cannot hold, before anything is computed. size: (height, width).

    Raises:
        UserError: 16 bits, alpha or a side that is too long.
    """
    kind = format_of(path)
    if bits == 16 and kind in ("JPEG", "WEBP", "AVIF"):
        raise UserError(f"{path}: {kind} holds 8 bits a channel, found 16; write PNG or TIFF, or give 8", "bits")
    if kind == "TIFF" and size[0] * size[1] * channels * bits // 8 > _LARGEST_TIFF:
        raise UserError(f"{path}: TIFF holds less than 4 GB, found {size[1]} x {size[0]}; write PNG")
    if channels == 4 and kind == "JPEG":
        raise UserError(f"{path}: JPEG has no alpha channel, which the source has; write PNG, WebP or TIFF")
    largest = _LARGEST_SIDE.get(kind)
    if largest is not None and max(size) > largest:
        raise UserError(f"{path}: {kind} allows {largest} pixels a side, found {size[1]} x {size[0]}; write PNG")


def open_sink(
    path: Path,
    file: IO[bytes],
    size: tuple[int, int],
    channels: int,
    bits: int,
    metadata: Metadata,
    coding: Coding,
) -> Sink:
    """Starts an image.

    Args:
        path: for messages. file: opened for binary writing. size: (height, width).
        metadata: already that of the result. coding: its kind as `format_of`; of lossy ones with a quality.
    """
    if coding.kind == "PNG":
        return _PngSink(path, file, size, channels, bits, metadata)
    return _WholeSink(path, file, size, channels, bits, metadata, coding)


class _PngSink(Sink):
    def __init__(
        self, path: Path, file: IO[bytes], size: tuple[int, int], channels: int, bits: int, metadata: Metadata
    ) -> None:
        chunks: list[tuple[bytes, bytes]] = []
        if metadata.icc:
            chunks.append((b"iCCP", b"ICC profile\0\0" + zlib.compress(metadata.icc)))
        if metadata.exif:
            chunks.append((b"eXIf", metadata.exif.removeprefix(b"Exif\0\0")))
        xmp = metadata.with_record(None).xmp
        if xmp and len(xmp) > _LONGEST_PNG_TEXT:
            raise UserError(f"{path}: PNG holds 60 MB of XMP, found {len(xmp) // 10**6} MB; write WebP or TIFF")
        if xmp:
            chunks.append((b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp))
        self._writer = PngWriter(file, size, channels, bits, chunks)

    def write(self, rows: Samples) -> None:
        self._writer.write(rows)

    def finish(self, record: Record | None) -> None:
        text = f"{KEYWORD}\0{record.to_text()}".encode("latin-1") if record else None
        self._writer.finish([(b"tEXt", text)] if text else [])


class _WholeSink(Sink):
    def __init__(
        self,
        path: Path,
        file: IO[bytes],
        size: tuple[int, int],
        channels: int,
        bits: int,
        metadata: Metadata,
        coding: Coding,
    ) -> None:
        self._path, self._kind, self._file, self._metadata, self._coding = path, coding.kind, file, metadata, coding
        try:
            self._samples: Samples = np.empty((*size, channels), f"u{bits // 8}")
        except MemoryError:
            raise UserError(f"{path}: not enough memory for {coding.kind} of this size; write PNG") from None
        self._row = 0

    def write(self, rows: Samples) -> None:
        self._samples[self._row : self._row + len(rows)] = rows
        self._row += len(rows)

    def finish(self, record: Record | None) -> None:
        metadata = self._metadata.with_record(record)
        if self._kind == "TIFF":
            write_tiff(self._file, self._samples, metadata)
            return
        options: dict[str, object] = {"icc_profile": metadata.icc, "exif": metadata.exif or b"", "xmp": metadata.xmp}
        if self._kind == "JPEG":
            options |= {"quality": self._coding.quality, "subsampling": self._coding.chroma}
            options |= {"xmp": None, "extra": xmp_segments(metadata.xmp) if metadata.xmp else b""}
        elif self._kind == "WEBP":
            lossless = {"lossless": True, "exact": True}
            options |= lossless if self._coding.lossless else {"quality": self._coding.quality}
            options |= {"method": 4, "xmp": metadata.xmp or b""}
        elif self._kind == "AVIF":
            options |= {"quality": self._coding.quality, "subsampling": self._coding.chroma}
        given = {name: value for name, value in options.items() if value not in (None, b"", {})}
        try:
            Image.fromarray(self._samples).save(self._file, self._kind, **given)
        except (
            ValueError,
            TypeError,
            RuntimeError,
            KeyError,
        ) as error:  # no encoder, or a block that does not fit into the format
            raise UserError(f"{self._path}: Pillow cannot write this as {self._kind}: {error}") from error
