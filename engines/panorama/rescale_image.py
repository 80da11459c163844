"""Rescale one panorama in memory through an exported graph: 8-bit image in, 8-bit image out."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from engines.panorama.coding import Coding
from engines.panorama.metadata import Metadata
from engines.panorama.rescale_file import Options, examine
from engines.panorama.rescaler import Rescaler
from engines.panorama.sources import RAW, WholeSource
from engines.runtimes.base import Session
from engines.support.arrays import Image8, check_image8


def downscale_image(session: Session, image: Image8, written: Coding = RAW) -> Image8:
    """Make the low-resolution panorama, in one piece.

    Args:
        session: a downscaling graph, `hr` -> `lr`.
        image: uint8 (H, W, 3), any H and W of at least 1.
        written: how it is going to be stored, for graphs that ask; default: losslessly.

    Returns:
        uint8 (ceil(H / s), ceil(W / s), 3); store it losslessly, or as `written` says.

    Raises:
        UserError: the graph is not a downscaling one, or cannot run at this size.
        ValueError: `image` is not a uint8 (H, W, 3).
    """
    check_image8(image)
    return _rescale(Rescaler(session, "down"), image, None, RAW, written)


def upscale_image(session: Session, lr: Image8, size: tuple[int, int] | None = None, coding: Coding = RAW) -> Image8:
    """Restore the high-resolution panorama, in one piece.

    Args:
        session: an upscaling graph, `lr` -> `hr`.
        lr: uint8 (h, w, 3), as `downscale_image` made it.
        size: the original (H, W); the result is cropped to it at the bottom and the right, where the
            downscaling graph had padded. None keeps all s*h x s*w pixels.
        coding: how the file held it that it comes from, for graphs that ask; default: lossless.

    Returns:
        uint8 (H, W, 3), or (s*h, s*w, 3) without `size`.

    Raises:
        UserError: the graph is not an upscaling one, cannot run at this size, or `size` does not belong to
            this image.
        ValueError: `lr` is not a uint8 (h, w, 3).
    """
    check_image8(lr)
    return _rescale(Rescaler(session, "up"), lr, size, coding)


def _rescale(
    rescaler: Rescaler, image: Image8, size: tuple[int, int] | None, coding: Coding, written: Coding = RAW
) -> Image8:
    source = WholeSource(Path("image"), image, Metadata(), coding)
    source.written = written
    task = examine(rescaler, source, Options(size=size, foreign=True))
    blocks = rescaler.rescale(source, rescaler.plan(source, "none"), 8, task.size, lambda: None)
    return np.concatenate(list(blocks))
