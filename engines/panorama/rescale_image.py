"""Rescale one panorama in memory through an exported graph: 8-bit image in, 8-bit image out."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from engines.panorama.metadata import Metadata
from engines.panorama.rescaler import Rescaler, Tile
from engines.panorama.sources import WholeSource
from engines.runtimes.base import Session
from engines.support.arrays import Image8, Samples, check_image8
from engines.support.errors import UserError


def downscale_image(session: Session, image: Image8) -> Image8:
    """Make the low-resolution panorama, in one piece.

    Args:
        session: a downscaling graph, `hr` -> `lr`.
        image: uint8 (H, W, 3), any H and W of at least 1.

    Returns:
        uint8 (ceil(H / s), ceil(W / s), 3); store it losslessly.

    Raises:
        UserError: the graph is not a downscaling one, or cannot run at this size.
        ValueError: `image` is not a uint8 (H, W, 3).
    """
    check_image8(image)
    return rescale_samples(Rescaler(session, "down"), image, None, "none")


def upscale_image(session: Session, lr: Image8, size: tuple[int, int] | None = None) -> Image8:
    """Restore the high-resolution panorama, in one piece.

    Args:
        session: an upscaling graph, `lr` -> `hr`.
        lr: uint8 (h, w, 3), as `downscale_image` made it.
        size: the original (H, W); the result is cropped to it at the bottom and the right, where the
            downscaling graph had padded. None keeps all s*h x s*w pixels.

    Returns:
        uint8 (H, W, 3), or (s*h, s*w, 3) without `size`.

    Raises:
        UserError: the graph is not an upscaling one, cannot run at this size, or `size` does not belong to
            this image.
        ValueError: `lr` is not a uint8 (h, w, 3).
    """
    check_image8(lr)
    return rescale_samples(Rescaler(session, "up"), lr, size, "none")


def rescale_samples(rescaler: Rescaler, samples: Samples, size: tuple[int, int] | None, tile: Tile) -> Samples:
    """Rescale an image in memory; the result has the bits and channels of `samples`.

    Args:
        samples: uint8 or uint16 (H, W, 3 or 4).
        size: (height, width) of a restored original; None: all pixels that the graph gives.

    Raises:
        UserError: `size` does not belong to this image, or the graph cannot run at this size.
    """
    source = WholeSource(Path("image"), samples, Metadata())
    height, width = rescaler.lr_size(source)
    if rescaler.direction == "up":
        scale = rescaler.scale
        if size is not None and (-(-size[0] // scale), -(-size[1] // scale)) != (height, width):
            low = f"{scale * (width - 1) + 1} x {scale * (height - 1) + 1}"
            high = f"{scale * width} x {scale * height}"
            raise UserError(f"size: expected {low} to {high} (width x height), found {size[1]} x {size[0]}")
        height, width = size or (scale * height, scale * width)
    tiles = rescaler.plan(source, tile)
    blocks = rescaler.rescale(source, tiles, source.bits, (height, width), lambda: None)
    return np.concatenate(list(blocks))
