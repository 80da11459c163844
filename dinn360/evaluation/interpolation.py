"""Rescaling by interpolation, the figures that a learned network has to beat.

Two families, because published tables mix them: anti-aliased kernels that widen when shrinking (Pillow,
MATLAB) and fixed-size kernels that skip pixels (OpenCV). Without anti-aliasing Lanczos and bicubic fall
behind bilinear at 4x and 8x.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Image8 = NDArray[np.uint8]
Method = Literal["bicubic", "bilinear", "lanczos"]

# Pillow's filter and its half width in output pixels
_PILLOW = {
    "bilinear": (Image.Resampling.BILINEAR, 1.0),
    "bicubic": (Image.Resampling.BICUBIC, 2.0),
    "lanczos": (Image.Resampling.LANCZOS, 3.0),
}
_FIXED_TAPS = {"bilinear": 2, "bicubic": 4, "lanczos": 8}


def resize(
    image: Image8,
    size: tuple[int, int],
    method: Method = "bicubic",
    antialias: bool = True,
    wrap: bool = True,
) -> Image8:
    """Resize a panorama, with pixel centres aligned (x_in + 0.5 = (x_out + 0.5) * W_in / W_out).

    Args:
        image: uint8 (H, W, C), any C.
        size: (height, width) of the result.
        method: with `antialias`, Pillow's kernels: bicubic with a = -0.5, Lanczos of 3 lobes. Without,
            OpenCV's: bicubic with a = -0.75, Lanczos of 4 lobes (INTER_LANCZOS4); OpenCV's own 8-bit results
            differ from these by at most 1, since it rounds the weights to 11 bits.
        antialias: widen the kernel when shrinking.
        wrap: read across the left and right edge, where longitudes -180 and 180 degrees meet (our choice:
            ordinary resizing repeats or drops the edge pixel and leaves a seam). False gives the ordinary
            result.

    Returns:
        uint8 (*size, C), rounded and clipped.

    Raises:
        ValueError: `image` is not a non-empty uint8 (H, W, C), `size` has a side below 1, or the method is
            unknown.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.size == 0:
        raise ValueError(f"expected a non-empty uint8 image (H, W, C), found {image.dtype} {image.shape}")
    if min(size) < 1:
        raise ValueError(f"expected a size (height, width) of at least 1 x 1, found {size}")
    if method not in _PILLOW:
        raise ValueError(f"expected a method of {', '.join(_PILLOW)}, found {method!r}")
    return _resize_pillow(image, size, method, wrap) if antialias else _resize_fixed(image, size, method, wrap)


def bicubic_round_trip(image: Image8, scale: int, wrap: bool = True) -> Image8:
    """Shrink by `scale` with anti-aliased bicubic, round to 8 bits, and enlarge again with bicubic.

    The low resolution has ceil(H / scale) x ceil(W / scale) pixels, as the network's has.

    Returns:
        uint8 of the image's shape.

    Raises:
        ValueError: as `resize`, or `scale` is below 1.
    """
    if scale < 1:
        raise ValueError(f"expected a scale of at least 1, found {scale}")
    height, width = image.shape[:2]
    lr = resize(image, (-(-height // scale), -(-width // scale)), wrap=wrap)
    return resize(lr, (height, width), wrap=wrap)


def _resize_pillow(image: Image8, size: tuple[int, int], method: Method, wrap: bool) -> Image8:
    resampling, half_width = _PILLOW[method]
    height, width = image.shape[:2]
    # Pillow's kernel reads outside `box`: with columns beside the box nothing has to be cropped afterwards.
    pad = int(np.ceil(half_width * max(1.0, width / size[1]))) + 1 if wrap else 0
    padded = np.pad(image, ((0, 0), (pad, pad), (0, 0)), mode="wrap")
    box = (pad, 0, pad + width, height)
    planes = [Image.fromarray(np.ascontiguousarray(padded[..., c])) for c in range(image.shape[2])]
    return np.stack([np.asarray(p.resize(size[::-1], resampling, box=box)) for p in planes], axis=2)


def _resize_fixed(image: Image8, size: tuple[int, int], method: Method, wrap: bool) -> Image8:
    x = image.astype(np.float64)
    for axis in (0, 1):
        length = x.shape[axis]
        index, weight = _taps(length, size[axis], method)
        index = index % length if wrap and axis == 1 else index.clip(0, length - 1)
        shape = [-1 if i == axis else 1 for i in range(3)]
        x = sum(
            (x.take(i, axis=axis) * w.reshape(shape) for i, w in zip(index, weight, strict=True)),
            start=np.zeros(1),
        )
    return np.clip(np.rint(x), 0, 255).astype(np.uint8)


def _taps(length: int, new_length: int, method: Method) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the source index and the weight of each tap (rows) for each output pixel (columns)."""
    centre = (np.arange(new_length) + 0.5) * (length / new_length) - 0.5
    taps = _FIXED_TAPS[method]
    index = np.floor(centre).astype(np.int64) + np.arange(1 - taps // 2, 1 + taps // 2)[:, None]
    weight = _kernel(np.abs(index - centre), method)
    return index, weight / weight.sum(axis=0)


def _kernel(distance: NDArray[np.float64], method: Method) -> NDArray[np.float64]:
    d = distance
    if method == "bilinear":
        return np.maximum(0.0, 1 - d)
    if method == "bicubic":  # Keys 1981 with OpenCV's a
        a = -0.75
        near = ((a + 2) * d - (a + 3)) * d * d + 1
        far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
        return np.where(d <= 1, near, np.where(d < 2, far, 0.0))
    return np.where(d < 4, np.sinc(d) * np.sinc(d / 4), 0.0)
