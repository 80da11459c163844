"""Panoramas to read: rows of samples with what the file says beside them, streamed where the format allows."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from pathlib import Path

import numpy as np

from engines.panorama.coding import Coding, read_coding
from engines.panorama.metadata import Metadata, orientation, read_metadata
from engines.panorama.png import PngReader, read_text
from engines.panorama.record import KEYWORD, Digest, Record
from engines.support.arrays import Samples
from engines.support.errors import UserError
from engines.support.images import open_image, read_samples

RAW = Coding("raw")


class Source(ABC):
    """An image whose rows can be asked for in any order; forwards is fast.

    Attributes:
        height, width: pixels. channels: 3 (RGB) or 4 (RGB and alpha). bits: 8 or 16.
        metadata, record: what the file carries. coding: how it holds its samples.
        wraps: whether its last column is beside its first. eye: 0, or 1 for the second of a pair (stereo.py).
        written: how its LR image is going to be coded, for an encoder that asks.
    """

    path: Path
    height: int
    width: int
    channels: int
    bits: int
    metadata: Metadata
    record: Record | None
    coding: Coding
    wraps: bool = True
    eye: int = 0
    written: Coding = RAW

    @abstractmethod
    def rows(self, start: int, stop: int) -> Samples:
        """Rows start to stop: uint8 or uint16 (n, width, channels). Raises UserError for damaged files."""

    def digest(self) -> str:
        """SHA-256 of the colour samples, as `Record.pixels`."""
        digest = Digest()
        for start in range(0, self.height, 256):
            digest.update(self.rows(start, min(start + 256, self.height)))
        return digest.text()

    @abstractmethod
    def close(self) -> None:
        """Closes the file."""


class WholeSource(Source):
    """Any image, decoded into memory."""

    def __init__(self, path: Path, samples: Samples, metadata: Metadata, coding: Coding = RAW) -> None:
        self.path, self.metadata, self.record = path, metadata, metadata.record
        self.coding = coding.as_written(self.record.coding) if self.record else coding
        self._samples = samples
        self.height, self.width, self.channels = samples.shape
        self.bits = 8 * samples.itemsize

    def rows(self, start: int, stop: int) -> Samples:
        return self._samples[start:stop]

    def close(self) -> None:
        self._samples = self._samples[:0]


class StreamedPng(Source):
    """An RGB or RGBA PNG, decoded row by row; the rows of the latest request stay at hand, going back starts anew."""

    def __init__(self, reader: PngReader, metadata: Metadata) -> None:
        self._reader = reader
        self.path, self.metadata, self.coding = reader.path, metadata, Coding("PNG")
        self.height, self.width, self.channels, self.bits = reader.height, reader.width, reader.channels, reader.bits
        text = read_text(reader.path, KEYWORD)
        self.record = Record.from_text(text) if text else metadata.record
        self._start = 0
        self._held: Samples = np.empty((0, self.width, self.channels), f"u{self.bits // 8}")

    def rows(self, start: int, stop: int) -> Samples:
        if start < self._start:
            self._reader.close()
            self._reader = self._open_again()
            self._start, self._held = 0, self._held[:0]
        at = self._start + len(self._held)
        while at < start:  # rows that nobody wants, a few at a time
            count = min(start - at, 64)
            self._held, self._start = self._reader.read(count), at
            at += count
        held = self._held[start - self._start :]
        if stop > at:
            held = np.concatenate([held, self._reader.read(stop - at)])
        self._held, self._start = held, start
        return held[: stop - start]

    def _open_again(self) -> PngReader:
        try:
            reader = PngReader(self.path)
        except ValueError as error:
            raise UserError(f"{self.path}: changed while it was read ({error})") from None
        kept = (self.height, self.width, self.channels, self.bits)
        if (reader.height, reader.width, reader.channels, reader.bits) != kept:
            reader.close()
            raise UserError(f"{self.path}: changed while it was read")
        return reader

    def close(self) -> None:
        self._reader.close()


def open_source(path: Path) -> Source:
    """Opens an image file.

    PNG files of 8 or 16 bits in RGB or RGBA are streamed. All others are decoded whole: grey, palette and CMYK images
    become RGB, the EXIF orientation is applied, alpha and 16 bits stay. One `warnings.warn` line tells when something
    is lost.

    Raises:
        UserError: the file is missing, no image of a known format, truncated, corrupt or too large.
    """
    return _open_streamed(path) or _open_whole(path)


def _open_streamed(path: Path) -> Source | None:
    """The rows of an upright RGB or RGBA PNG; None for any other file."""
    try:
        reader = PngReader(path)
    except ValueError:
        return None
    try:
        with open_image(path, header_only=True) as image:
            if orientation(image) == 1:
                if getattr(image, "n_frames", 1) > 1:
                    warnings.warn(f"{path}: only the first frame is read", stacklevel=3)
                return StreamedPng(reader, read_metadata(image))
    except BaseException:
        reader.close()
        raise
    reader.close()
    return None


def _open_whole(path: Path) -> Source:
    with open_image(path) as image:
        metadata, coding = read_metadata(image), read_coding(image, path)
        samples, notes = read_samples(image, path)
        source = WholeSource(path, samples, metadata, coding)
        if image.mode == "CMYK":
            notes.append("CMYK is converted to RGB by formula, without its colour profile")
    text = read_text(path, KEYWORD) if source.record is None else None
    source.record = Record.from_text(text) if text else source.record
    for note in notes:
        warnings.warn(f"{path}: {note}", stacklevel=2)
    return source
