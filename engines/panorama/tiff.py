"""TIFF files, compressed, with EXIF and its sub-directories: what Pillow writes only uncompressed.

Pillow's libtiff encoder refuses EXIF and GPS directories. Its directory writer takes them, so the strips are made here
(Deflate over the differences of neighbouring pixels, TIFF supplements 1 and 2) and the directory is left to Pillow.
"""

from __future__ import annotations

import zlib
from typing import IO

import numpy as np
from PIL import Image, TiffImagePlugin

from engines.panorama.metadata import Metadata
from engines.support.arrays import Samples

_STRIP = 1 << 20  # bytes before compression
_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _OFFSETS = 256, 257, 258, 259, 262, 273
_CHANNELS, _ROWS, _COUNTS, _PLANAR, _PREDICTOR, _EXTRA, _XMP, _ICC = 277, 278, 279, 284, 317, 338, 700, 34675
_DEFLATE, _RGB, _DIFFERENCES, _UNASSOCIATED_ALPHA = 8, 2, 2, 2


def write_tiff(file: IO[bytes], samples: Samples, metadata: Metadata) -> None:
    """Writes uint8 or uint16 (H, W, 3 or 4) into an empty file opened for binary writing."""
    height, width, channels = samples.shape
    rows = max(1, _STRIP // (width * channels * samples.itemsize))
    strips = [_packed(samples[top : top + rows]) for top in range(0, height, rows)]
    lengths = [len(strip) for strip in strips]
    tags = Image.Exif()
    tags.load(metadata.exif or b"")
    directory = TiffImagePlugin.ImageFileDirectory_v2(prefix=b"II")
    for tag in tags:
        sub = tags.get_ifd(tag) if tag in (0x8769, 0x8825) else None
        directory[tag] = tags[tag] if sub is None else sub
    if metadata.xmp:
        directory.tagtype[_XMP], directory[_XMP] = 1, metadata.xmp
    if metadata.icc:
        directory.tagtype[_ICC], directory[_ICC] = 7, metadata.icc
    if channels == 4:
        directory[_EXTRA] = _UNASSOCIATED_ALPHA
    directory[_WIDTH], directory[_HEIGHT], directory[_CHANNELS], directory[_ROWS] = width, height, channels, rows
    directory[_BITS] = (8 * samples.itemsize,) * channels
    directory[_COMPRESSION], directory[_PREDICTOR], directory[_PHOTOMETRIC] = _DEFLATE, _DIFFERENCES, _RGB
    directory[_PLANAR] = 1
    directory.tagtype[_OFFSETS] = directory.tagtype[_COUNTS] = 4
    directory[_COUNTS] = tuple(lengths)
    directory[_OFFSETS] = tuple(sum(lengths[:index]) for index in range(len(strips)))  # Pillow adds where they begin
    directory.save(file)
    for strip in strips:
        file.write(strip)


def _packed(rows: Samples) -> bytes:
    lines = rows.astype(rows.dtype.newbyteorder("<"))
    lines[:, 1:] -= rows[:, :-1]  # wraps around, as it does on the way back
    return zlib.compress(np.ascontiguousarray(lines).tobytes(), 6)
