"""Pixels and tensors: samples (H, W, C) of 8 or 16 bits as in a file, and what a graph takes, floats in [0, 1].

Every conversion between the two stands here, once: v / 255 or v / 65535 in, and out clipped and rounded half to even.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.support.errors import UserError

Array = NDArray[Any]
Image8 = NDArray[np.uint8]
Samples = NDArray[Any]  # uint8 or uint16 (rows, width, 3 or 4)


def to_unit(samples: Samples) -> NDArray[np.float32]:
    """uint8 or uint16 of any shape as float32 in [0, 1]."""
    return samples.astype(np.float32) / np.float32(np.iinfo(samples.dtype).max)


def to_samples(x: NDArray[np.floating], bits: int) -> Samples:
    """Floats in [0, 1] of any shape as uint8 (`bits` 8) or uint16 (16), rounded half to even and clipped.

    Raises:
        UserError: some values are NaN or infinite (a network's output that overflowed).
    """
    broken = x.size - np.count_nonzero(np.isfinite(x))
    if broken:
        raise UserError(f"expected finite pixel values, found {broken} of {x.size} NaN or infinite")
    largest = 2**bits - 1
    # float16 has 11 bits of precision: 255 * x must not be rounded twice
    scaled = np.rint(x.astype(np.float32, copy=False) * np.float32(largest))
    return np.clip(scaled, 0, largest, out=scaled).astype(f"u{bits // 8}")


def to_tensor(image: Image8) -> NDArray[np.float32]:
    """Turn uint8 (H, W, 3) into float32 (1, 3, H, W) in [0, 1], each value k / 255.

    Raises:
        ValueError: `image` is not a non-empty uint8 (H, W, 3).
    """
    check_image8(image)
    return to_unit(np.ascontiguousarray(image.transpose(2, 0, 1)[None]))


def to_image(x: NDArray[np.floating]) -> Image8:
    """Turn a floating (1, 3, H, W) or (3, H, W) tensor in [0, 1] into uint8 (H, W, 3).

    `to_image(to_tensor(a))` is `a`.

    Raises:
        UserError: some values are NaN or infinite.
        ValueError: the shape or dtype is another.
    """
    planes = x[0] if x.ndim == 4 and x.shape[0] == 1 else x
    if planes.ndim != 3 or planes.shape[0] != 3 or planes.size == 0 or not np.issubdtype(x.dtype, np.floating):
        raise ValueError(f"expected a floating tensor (1, 3, H, W) or (3, H, W), found {x.dtype} {x.shape}")
    return np.ascontiguousarray(to_samples(planes, 8).transpose(1, 2, 0))


def check_image8(image: NDArray[np.uint8]) -> None:
    """Raise ValueError when `image` is not a non-empty uint8 (H, W, 3)."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise ValueError(f"expected a non-empty uint8 image (H, W, 3), found {image.dtype} {image.shape}")
