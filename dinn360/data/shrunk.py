"""Smaller copies of training images: sharper than the images are, as panoramas that were reduced for use are.

A camera's picture is soft at its own resolution, and a JPEG's noise lies there. Shrunk, without aliasing, it holds
detail up to its finest frequencies, which is what rescaling has to hide (our choice; docs/training.md has what it
gains).
"""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

from engines.support.arrays import Image8

STEP = 2**0.5


def shrunk(image: Image8, height: int, width: int, cyclic: bool) -> Image8:
    """image (H,W,3) as (height,width,3) by Lanczos' kernel, anti-aliased. cyclic: its columns go around the circle."""
    reach = math.ceil(3 * image.shape[1] / width) + 1  # of the kernel, in columns of the image
    beside = min(reach, image.shape[1]) if cyclic else 0
    wide = np.concatenate([image[:, -beside:], image, image[:, :beside]], axis=1) if beside else image
    box = (beside, 0, beside + image.shape[1], image.shape[0])
    return np.asarray(Image.fromarray(wide).resize((width, height), Image.Resampling.LANCZOS, box))


def with_shrunk(image: Image8, times: int, smallest: int, cyclic: bool) -> list[Image8]:
    """The image, and it shrunk by the square root of 2, 1 to `times` times, as long as `smallest` pixels a side stay.

    A panorama (cyclic) stays one: twice as wide as high where it was.
    """
    found, (height, width) = [image], image.shape[:2]
    for n in range(1, times + 1):
        rows = round(height / STEP**n)
        columns = round(width * rows / height)
        if min(rows, columns) < smallest:
            break
        found.append(shrunk(image, rows, columns, cyclic))
    return found
