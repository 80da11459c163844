"""What views of a panorama cost beside the whole of it: python -m benchmarks.viewport --model up.onnx.

Prints the share of the panorama that the graph computes for a view at several pitches, halos included, and the CPU time
of its decoding and drawing beside that of decoding the whole, each from an empty cache.
"""

from __future__ import annotations

import time
from pathlib import Path

import click
import numpy as np
from PIL import Image

from benchmarks.record import SAVE, Cell, Table, report
from engines.commands import Group
from engines.commands.types import SIZE
from engines.panorama.camera import View
from engines.panorama.metadata import Metadata
from engines.panorama.rescaler import Rescaler
from engines.panorama.sources import WholeSource
from engines.panorama.viewport import SIDE, Viewports
from engines.session import open_session
from engines.support.images import read_panorama

ROOT = Path(__file__).parents[1]
PITCHES = (0, 40, 60, 90)
COLUMNS = {
    "view": "{}",
    "computed": "{:.0%}",
    "CPU time": "{:.0%}",
    "computed with `--exact`": "{:.0%}",
}


@click.group(cls=Group, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--model", type=click.Path(path_type=Path), required=True, help="up.onnx.")
@click.option("--lr", type=SIZE, default="512x256", show_default=True, help="Of the LR panorama.")
@click.option("--size", type=SIZE, default="1920x1080", show_default=True, help="Of the views.")
@click.option("--fov", type=float, default=100.0, show_default=True)
@click.option("--tile", type=int, default=SIDE, show_default=True)
@click.option("--threads", type=int, default=2, show_default=True)
@SAVE
def main(
    model: Path, lr: tuple[int, int], size: tuple[int, int], fov: float, tile: int, threads: int, save: str | None
) -> None:
    """A table of views: shares of the panorama computed, with either halo, and of its CPU time."""
    small = Image.fromarray(read_panorama(ROOT / "assets" / "citadella.png")).resize((lr[1], lr[0]))
    source = WholeSource(ROOT / "assets" / "citadella.png", np.asarray(small), Metadata())
    with open_session(model, threads) as session:
        whole = Rescaler(session, "up")
        full = (whole.scale * lr[0], whole.scale * lr[1])
        started = time.process_time()
        for _ in whole.rescale(source, whole.plan(source, "auto"), 8, full, lambda: None):
            pass
        whole_seconds = time.process_time() - started
        exact = Viewports(Rescaler(session, "up", exact=True), source, full, side=tile)
        rows: list[list[Cell]] = []
        for pitch in PITCHES:
            view = View(30, pitch, 0, fov, size[1], size[0])
            panorama = Viewports(whole, source, full, side=tile)
            started = time.process_time()
            panorama.render(view)
            seconds = time.process_time() - started
            shares = panorama.decoded / panorama.lr_pixels, exact.area(view) / panorama.lr_pixels
            rows.append([f"pitch {pitch}", shares[0], seconds / whole_seconds, shares[1]])
    told = f"LR {lr[1]}x{lr[0]}, views {size[1]}x{size[0]}, {fov:g} degrees wide, tiles of {tile}, {threads} threads"
    notes = [f"{told}; the whole panorama: {whole_seconds:.0f} s of CPU time."]
    report([Table("Views beside the whole panorama", COLUMNS, rows)], notes, save)


if __name__ == "__main__":
    main()
