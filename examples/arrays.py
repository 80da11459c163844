"""Arrays of 8 and 16 bits, of any size: python examples/arrays.py GRAPHS."""

import sys

import numpy as np

import engines

rows, columns = np.mgrid[0:101, 0:203]
wave = np.sin(columns * 2 * np.pi / 203) * np.cos(rows / 30)
with engines.load(sys.argv[1]) as model:
    for dtype in (np.uint8, np.uint16):
        top = np.iinfo(dtype).max
        image = np.repeat(((wave + 1) / 2 * top).astype(dtype)[..., None], 3, axis=2)
        lr = model.downscale(image)
        hr = model.upscale(lr, size=image.shape[:2])  # an array does not say how large the original was
        error = np.abs(hr.astype(float) - image).mean() / top
        print(f"{image.dtype} {image.shape} -> {lr.shape} -> {hr.shape}, mean error {error:.4f}")
