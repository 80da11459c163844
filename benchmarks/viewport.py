"""What views of a panorama cost beside the whole of it: python -m benchmarks.viewport --model up.onnx.

Prints the share of the panorama that the graph computes for a view at several pitches, halos included, and the seconds
of its decoding and drawing, each from an empty cache.
"""

from __future__ import annotations

import time
from pathlib import Path

import click
import numpy as np
from PIL import Image

from engines.commands import Group
from engines.commands.types import SIZE
from engines.panorama.camera import View
from engines.panorama.metadata import Metadata
from engines.panorama.rescaler import Rescaler
from engines.panorama.sources import WholeSource
from engines.panorama.viewport import SIDE, Viewports
from engines.session import open_session
from engines.support.images import read_panorama
from engines.support.text import aligned

ROOT = Path(__file__).parents[1]
PITCHES = (0, 40, 60, 90)


@click.group(cls=Group, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--model", type=click.Path(path_type=Path), required=True, help="up.onnx.")
@click.option("--lr", type=SIZE, default="512x256", show_default=True, help="Of the LR panorama.")
@click.option("--size", type=SIZE, default="1920x1080", show_default=True, help="Of the views.")
@click.option("--fov", type=float, default=100.0, show_default=True)
@click.option("--tile", type=int, default=SIDE, show_default=True)
@click.option("--threads", type=int, default=2, show_default=True)
def main(model: Path, lr: tuple[int, int], size: tuple[int, int], fov: float, tile: int, threads: int) -> None:
    """A table of views: share of the panorama computed, and seconds, with the cheap and with the exact halo."""
    small = Image.fromarray(read_panorama(ROOT / "assets" / "citadella.png")).resize((lr[1], lr[0]))
    source = WholeSource(ROOT / "assets" / "citadella.png", np.asarray(small), Metadata())
    lines = [["view", "computed", "seconds", "computed, --exact", "seconds, --exact"]]
    with open_session(model, threads) as session:
        whole = Rescaler(session, "up")
        full = (whole.scale * lr[0], whole.scale * lr[1])
        for pitch in PITCHES:
            line = [f"pitch {pitch}"]
            for exact in (False, True):
                panorama = Viewports(Rescaler(session, "up", exact), source, full, side=tile)
                started = time.perf_counter()
                panorama.render(View(30, pitch, 0, fov, size[1], size[0]))
                seconds = time.perf_counter() - started
                line += [f"{100 * panorama.decoded / panorama.lr_pixels:.0f} %", f"{seconds:.2f}"]
            lines.append(line)
        started = time.perf_counter()
        tiles = whole.plan(source, "auto")
        for _ in whole.rescale(source, tiles, 8, full, lambda: None):
            pass
        lines.append(["the whole panorama", "100 %", f"{time.perf_counter() - started:.2f}", "", ""])
    click.echo(f"{model}: LR {lr[1]}x{lr[0]}, views {size[1]}x{size[0]}, {fov:g} degrees wide, tiles of {tile}")
    click.echo(aligned(lines))


if __name__ == "__main__":
    main()
