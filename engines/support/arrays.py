"""Pixels as 8-bit arrays (H, W, 3) and as tensors: float (1, 3, H, W) in [0, 1]."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.support.errors import UserError

Array = NDArray[Any]
Image8 = NDArray[np.uint8]


def to_tensor(image: Image8) -> NDArray[np.float32]:
    """Turn uint8 (H, W, 3) into float32 (1, 3, H, W) in [0, 1], each value k / 255.

    Raises:
        ValueError: `image` is not a non-empty uint8 (H, W, 3).
    """
    check_image8(image)
    planes = np.ascontiguousarray(image.transpose(2, 0, 1)[None])
    return planes.astype(np.float32) / np.float32(255)


def to_image(x: NDArray[np.floating]) -> Image8:
    """Turn a floating (1, 3, H, W) or (3, H, W) tensor in [0, 1] into uint8 (H, W, 3).

    Values are scaled by 255, rounded half to even and clipped to 0..255; `to_image(to_tensor(a))` is `a`.

    Raises:
        UserError: some values are NaN or infinite (a network's output that overflowed).
        ValueError: the shape or dtype is another.
    """
    planes = x[0] if x.ndim == 4 and x.shape[0] == 1 else x
    if planes.ndim != 3 or planes.shape[0] != 3 or planes.size == 0 or not np.issubdtype(x.dtype, np.floating):
        raise ValueError(f"expected a floating tensor (1, 3, H, W) or (3, H, W), found {x.dtype} {x.shape}")
    broken = planes.size - np.count_nonzero(np.isfinite(planes))
    if broken:
        raise UserError(f"expected finite pixel values, found {broken} of {planes.size} NaN or infinite")
    # float16 has 11 bits of precision: 255 * x must not be rounded twice
    scaled = np.rint(planes.astype(np.float32, copy=False) * np.float32(255))
    return np.ascontiguousarray(np.clip(scaled, 0, 255).astype(np.uint8).transpose(1, 2, 0))


def check_image8(image: NDArray[np.uint8]) -> None:
    """Raise ValueError when `image` is not a non-empty uint8 (H, W, 3)."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise ValueError(f"expected a non-empty uint8 image (H, W, 3), found {image.dtype} {image.shape}")
