"""Exported graphs, without torch: python examples/graphs.py GRAPHS PANORAMA OUT."""

import sys
from pathlib import Path

from PIL import Image

import engines

graphs, source, out = sys.argv[1:]
with engines.load(graphs, threads=2) as model:
    lr = model.downscale(Image.open(source))
    hr = model.upscale(lr)
Path(out).mkdir(parents=True, exist_ok=True)
engines.save(lr, Path(out) / "lr.png")
engines.save(hr, Path(out) / "hr.png")
print(f"x{model.scale}: {lr.size} -> {hr.size}")
