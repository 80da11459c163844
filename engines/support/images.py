"""Panoramas on disk, as 8-bit RGB arrays (H, W, 3).

Colour profiles are not applied: the numbers in the file are taken as sRGB, as every published dataset and
metric does.
"""

import logging
import os
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps, PngImagePlugin, UnidentifiedImageError

from engines.support.arrays import Image8, check_image8
from engines.support.chatter import hidden
from engines.support.errors import UserError
from engines.support.files import atomic_path, os_reason

# What these log goes to whoever listens; without any handler Python prints it to stderr.
for _library in ("PIL", "tifffile"):
    logging.getLogger(_library).addHandler(logging.NullHandler())

# A closed list: Pillow would also open EPS by starting Ghostscript on whatever the file says.
_FORMATS = ("PNG", "JPEG", "MPO", "TIFF", "WEBP", "BMP", "PPM", "GIF", "JPEG2000", "AVIF")
_GIF_PIXELS_PER_BYTE = 4096 * 8 / 12  # its longest string of pixels, behind a code of 12 bits
# Pillow's decoders raise all of these on damaged files (LookupError: TIFF tags; RuntimeError: AVIF).
_BROKEN = (
    OSError,
    RuntimeError,
    ValueError,
    SyntaxError,
    EOFError,
    TypeError,
    LookupError,
    OverflowError,
    struct.error,
)


def read_panorama(path: Path | str) -> Image8:
    """Read an image file as 8-bit RGB.

    Grey, palette and CMYK images become RGB, and the EXIF orientation is applied. One `warnings.warn` line
    tells when something is lost or unusual: an alpha channel is dropped, 16 bits become 8 (rounded, v / 257; grey
    with alpha, and TIFF without the package tifffile: the high byte), only the first frame of several is read, or
    the image is not 2:1 as a full 360 x 180 degree equirectangular panorama is (this is allowed: crops are useful
    too).

    Returns:
        uint8 (H, W, 3), writeable, C-contiguous.

    Raises:
        UserError: the file is missing, a folder, not an image of a known format, truncated or corrupt, of
            floating point or 32-bit samples, or larger than Pillow's limit (about 179 million pixels, 18900 x
            9450).
    """
    path = Path(path)
    with open_image(path) as image:
        notes = _describe_losses(image)
        rgb = _to_rgb8(read_samples(image, path)[0])
    height, width = rgb.shape[:2]
    if width != 2 * height:
        notes.append(f"expected a 2:1 equirectangular panorama, found {width} x {height}")
    for note in notes:
        warnings.warn(f"{path}: {note}", stacklevel=2)
    return rgb


@contextmanager
def open_image(path: Path, header_only: bool = False) -> Iterator[ImageFile.ImageFile]:
    """Open an image file with Pillow, pixels not yet decoded.

    header_only: it is a PNG that Pillow shall not decode, and which may therefore be larger than its limit.

    Raises:
        UserError: what goes wrong in opening, or in decoding inside the block, as `read_panorama`.
    """
    try:
        with warnings.catch_warnings():
            # Pillow warns from 89 million pixels on, which a 16384 x 8192 panorama has; its hard limit stays.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with PngImagePlugin.PngImageFile(path) if header_only else _open(path) as image:
                _check_canvas(path, image)
                with hidden() if image.format == "TIFF" else nullcontext():  # libtiff
                    yield image
    except Image.DecompressionBombError as error:
        limit = 2 * (Image.MAX_IMAGE_PIXELS or 0)
        raise UserError(f"{path}: expected at most {limit} pixels, found more") from error
    except UnidentifiedImageError as error:
        found = "an empty file" if path.stat().st_size == 0 else "something else"
        raise UserError(f"{path}: expected an image (PNG, JPEG, TIFF, WebP, ...), found {found}") from error
    except MemoryError as error:
        raise UserError(f"{path}: not enough memory to read this image") from error
    except _BROKEN as error:
        if isinstance(error, OSError) and error.errno is not None:  # the system's refusal, not the decoder's
            raise UserError(f"{path}: cannot read: {os_reason(error)}") from error
        raise UserError(f"{path}: the image is truncated or corrupt ({error})") from error


def _check_canvas(path: Path, image: ImageFile.ImageFile) -> None:
    """Refuses a GIF whose header says more pixels than its bytes can hold: its few are a corner of a huge empty canvas.

    A damaged header does that to a small file, and then the empty canvas is rescaled, for minutes.
    """
    pixels, size = image.width * image.height, path.stat().st_size
    if image.format == "GIF" and pixels > max(10**7, size * _GIF_PIXELS_PER_BYTE):
        raise UserError(f"{path}: expected an image, found {image.width} x {image.height} pixels in {size} bytes")


def _open(path: Path) -> ImageFile.ImageFile:
    Image.init()  # Pillow knows only six formats before this, and fails on the name of any other
    return Image.open(path, formats=[name for name in _FORMATS if name in Image.OPEN])


def _describe_losses(image: ImageFile.ImageFile) -> list[str]:
    """List what 8-bit RGB cannot keep of this file. To be asked before loading, which changes the mode."""
    notes = []
    if has_alpha(image):
        notes.append("the alpha channel is dropped")
    if image.mode.startswith("I") or ";16" in _raw_mode(image):
        notes.append("16 bits a channel are reduced to 8")
    if getattr(image, "n_frames", 1) > 1:
        notes.append("only the first frame is read")
    return notes


def _raw_mode(image: ImageFile.ImageFile) -> str:
    """Name the layout of the samples in the file, e.g. "RGB;16B"; empty where the decoder does not tell."""
    arguments = image.tile[0][3] if image.tile else ""
    return str(arguments[0] if isinstance(arguments, tuple) and arguments else arguments)


def read_samples(image: ImageFile.ImageFile, path: Path) -> tuple[NDArray[np.uint8 | np.uint16], list[str]]:
    """Decode an opened image as RGB, or RGBA where it has alpha, with 8 or 16 bits as in the file, upright.

    Returns:
        uint8 or uint16 (H, W, 3 or 4), and what was lost, in words: the low bytes of 16-bit samples in TIFF (without
        the package tifffile) and in grey with alpha; all frames but the first.

    Raises:
        UserError: floating point or 32-bit samples.
    """
    notes = ["only the first frame is read"] if getattr(image, "n_frames", 1) > 1 else []
    if image.mode == "F":
        raise UserError(f"{path}: expected 8- or 16-bit samples, found floating point; tone-map it to 8 bits first")
    if image.mode.startswith("I"):
        grey = np.asarray(ImageOps.exif_transpose(image)).astype(np.int64)
        if grey.min() < 0 or grey.max() > 65535:
            raise UserError(f"{path}: expected 8- or 16-bit samples, found 32-bit ones")
        return np.repeat(grey.astype(np.uint16)[..., None], 3, axis=2), notes
    if image.format == "PNG" and _raw_mode(image) in ("RGB;16B", "RGBA;16B"):
        return _read_png_16(image, path), notes
    if ";16" in _raw_mode(image):
        samples = _read_tiff_16(image, path) if image.format == "TIFF" else None
        if samples is not None:
            return samples, notes
        notes.append("16 bits a channel are reduced to 8")
    mode = "RGBA" if has_alpha(image) else "RGB"
    return np.array(ImageOps.exif_transpose(image).convert(mode)), notes


def has_alpha(image: Image.Image) -> bool:
    """Whether an image has transparency: a channel of it, or a colour or palette entries."""
    return image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info


def _read_png_16(image: ImageFile.ImageFile, path: Path) -> NDArray[np.uint16]:
    """Read a colour PNG of 16 bits a channel in full.

    Pillow keeps only the high byte. Decoding the same bytes as if they were little-endian gives the low byte, and the
    two together the sample.
    """
    with _open(path) as swapped:
        swapped.tile = [tile._replace(args=str(tile.args).replace("16B", "16L")) for tile in swapped.tile]
        low = np.asarray(ImageOps.exif_transpose(swapped))
    return np.asarray(ImageOps.exif_transpose(image)).astype(np.uint16) << 8 | low


def _read_tiff_16(image: ImageFile.ImageFile, path: Path) -> NDArray[np.uint16] | None:
    """Read a colour TIFF of 16 bits a channel in full; None where tifffile is missing or cannot."""
    try:
        import tifffile
    except ImportError:
        return None
    try:
        samples = tifffile.imread(path, key=0)
    except (ValueError, KeyError, tifffile.TiffFileError, ImportError):  # ImportError: a codec of imagecodecs
        return None
    upright = image.getexif().get(0x0112, 1) == 1
    fits = samples.dtype == np.uint16 and samples.shape in ((image.height, image.width, c) for c in (3, 4))
    return samples if upright and fits else None


def _to_rgb8(samples: NDArray[np.uint8 | np.uint16]) -> Image8:
    colour = samples[..., :3]
    if colour.dtype == np.uint16:
        return _round_to_8_bit(colour.astype(np.int64))
    return np.ascontiguousarray(colour, np.uint8)


def _round_to_8_bit(samples: NDArray[np.int64]) -> Image8:
    """Map 0..65535 onto 0..255 so that white stays white: round(v / 257), no ties possible (257 is odd)."""
    return ((samples + 128) // 257).astype(np.uint8)


def write_png(path: Path | str, image: Image8) -> None:
    """Write uint8 (H, W, 3) RGB as a PNG, whole or not at all.

    Only PNG is written: a low-resolution panorama must stay lossless, or the inverse pass cannot restore the
    detail.

    Raises:
        UserError: the name does not end in .png, or the file cannot be written.
        ValueError: `image` is not a non-empty uint8 (H, W, 3).
    """
    check_image8(image)
    if Path(path).suffix.lower() != ".png":
        raise UserError(f"{path}: expected a name that ends in .png (images are kept lossless)")
    with atomic_path(path) as temporary:
        Image.fromarray(np.ascontiguousarray(image)).save(os.fspath(temporary), format="PNG")
