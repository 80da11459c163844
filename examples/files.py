"""Files of any size: python examples/files.py GRAPHS PANORAMA OUT."""

import sys
from pathlib import Path

import engines

graphs, source, out = sys.argv[1], sys.argv[2], Path(sys.argv[3])
out.mkdir(parents=True, exist_ok=True)
with engines.load(graphs) as model:
    small = model.downscale_file(source, out / "lr.webp")  # lossless
    large = model.upscale_file(small.target, out / "hr.png", tile=(64, 128))
print(f"{large.width}x{large.height} in {large.tiles} tiles, {large.seconds:.1f} s")
