"""Pictures in memory, Pillow's images and numpy arrays: as sources of rows, as results, and as a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps, JpegImagePlugin

from engines.panorama.coding import Coding, read_coding
from engines.panorama.metadata import Metadata, read_metadata
from engines.panorama.record import KEYWORD, Record
from engines.panorama.sinks import check_format, format_of, open_sink
from engines.panorama.sources import WholeSource
from engines.support.arrays import Samples
from engines.support.errors import UserError
from engines.support.files import atomic_path
from engines.support.images import has_alpha

LOSSLESS = ("PNG", "WEBP", "TIFF")


def source_of(picture: Image.Image | NDArray[Any]) -> WholeSource:
    """A picture as a source, with the record and the metadata that a Pillow image carries in `info`.

    Pillow's images become RGB, or RGBA where they have alpha, and upright.

    Raises:
        TypeError: it is neither a Pillow image nor an array.
        ValueError: an array that is not uint8 or uint16 (H, W, 3 or 4), a Pillow image of more than 8 bits, or an
            empty one.
    """
    if isinstance(picture, np.ndarray):
        right = picture.dtype in (np.uint8, np.uint16) and picture.ndim == 3 and picture.shape[2] in (3, 4)
        if not right or not picture.size:
            found = f"{picture.dtype} {picture.shape}"
            raise ValueError(f"expected a non-empty uint8 or uint16 array (H, W, 3 or 4), found {found}")
        return WholeSource(Path("array"), picture, Metadata())
    if not isinstance(picture, Image.Image):
        raise TypeError(f"expected a Pillow image or a numpy array, found {type(picture).__name__}")
    if picture.mode[0] in "IF" or not picture.width * picture.height:
        raise ValueError(
            f"expected a non-empty picture of 8 bits a channel, found mode {picture.mode}, {picture.width} x "
            f"{picture.height}; give 16 bits as a uint16 array (H, W, 3)"
        )
    path = Path(getattr(picture, "filename", None) or "image")
    upright = ImageOps.exif_transpose(picture)
    samples = np.array(upright.convert("RGBA" if has_alpha(upright) else "RGB"))
    source = WholeSource(path, samples, read_metadata(upright), _coding(picture, path))
    text = picture.info.get(KEYWORD)
    source.record = (Record.from_text(text) if isinstance(text, str) else None) or source.record
    return source


def _coding(picture: Image.Image, path: Path) -> Coding:
    """How the file was coded that the picture was opened from, as far as it is still known."""
    if isinstance(picture, JpegImagePlugin.JpegImageFile) or (
        isinstance(picture, ImageFile.ImageFile) and path.is_file()
    ):
        return read_coding(picture, path)
    return Coding("raw")


def image_of(samples: Samples, metadata: Metadata, record: Record | None) -> Image.Image:
    """uint8 (H, W, 3 or 4) as a Pillow image, with metadata and record in `info` under Pillow's names and "DINN360"."""
    image = Image.fromarray(np.ascontiguousarray(samples))
    blocks = {"exif": metadata.exif, "xmp": metadata.xmp, "icc_profile": metadata.icc}
    image.info.update({name: block for name, block in blocks.items() if block})
    if record is not None:
        image.info[KEYWORD] = record.to_text()
    return image


def save(picture: Image.Image | NDArray[Any], path: Path | str) -> None:
    """Write a picture, whole or not at all: without losses (PNG, WebP, TIFF by the suffix), or as the file that
    `downscale` was told of.

    The record that `downscale` gave a Pillow image goes into the file, with its EXIF, XMP and colour profile; Pillow's
    own `save` leaves the record out, and upscaling then knows neither the model nor the original size.

    Raises:
        UserError: another suffix, or the file cannot be written.
        TypeError, ValueError: as `source_of`.
    """
    path, source = Path(path), source_of(picture)
    kind, size = format_of(path), (source.height, source.width)
    made_for = Coding.from_text(source.record.coding) if source.record and source.coding.lossless else None
    if made_for is not None and kind != made_for.kind:
        raise UserError(f"{path}: expected {made_for}, the file that this picture was made for, found {kind}")
    if made_for is None and kind not in LOSSLESS:
        expected = "a lossless format (.png, .webp, .tif), or the file that `downscale` was told of"
        raise UserError(f"{path}: expected {expected}, found {kind}")
    check_format(path, size, source.channels, source.bits)
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        sink = open_sink(path, file, size, source.channels, source.bits, source.metadata, made_for or Coding(kind))
        sink.write(source.rows(0, source.height))
        sink.finish(source.record)
