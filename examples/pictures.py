"""A picture down and up again in PyTorch: python examples/pictures.py PANORAMA OUT."""

import sys
from pathlib import Path

from PIL import Image

import dinn360

panorama, out = Image.open(sys.argv[1]), Path(sys.argv[2])
out.mkdir(parents=True, exist_ok=True)

model = dinn360.load("x4")
lr = model.downscale(panorama)
dinn360.save(lr, out / "lr.png")  # like Pillow's save, and the file says what upscaling needs to know

hr = model.upscale(Image.open(out / "lr.png"))
hr.save(out / "hr.png")
print(f"{panorama.size} -> {lr.size} -> {hr.size}")
