"""Peak memory of rescaling a large panorama from the command line: python -m benchmarks.memory --model up.onnx.

Writes a panorama of the wanted size (a shipped one, enlarged row by row), runs `python -m engines` on it in a process
of its own, and prints what the system counted for that process.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click
import numpy as np
from PIL import Image

from benchmarks import record
from benchmarks.record import Cell, Table
from engines.commands import Group
from engines.commands.types import SIZE
from engines.onnx_file import read_onnx
from engines.panorama.png import PngWriter
from engines.support.errors import UserError
from engines.support.images import read_panorama

ROOT = Path(__file__).parents[1]
BAND = 64  # rows that are enlarged at a time


def write_panorama(path: Path, width: int, height: int) -> None:
    """Writes assets/citadella.png, enlarged to `width` x `height`, holding a band of rows only."""
    small = Image.fromarray(read_panorama(ROOT / "assets" / "citadella.png"))
    with path.open("wb") as file:
        writer = PngWriter(file, (height, width), 3, 8, [])
        for top in range(0, height, BAND):
            rows = min(BAND, height - top)
            box = (0, top / height * small.height, small.width, (top + rows) / height * small.height)
            writer.write(np.asarray(small.resize((width, rows), Image.Resampling.BICUBIC, box)))
        writer.finish([])


@click.group(cls=Group, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--model", type=click.Path(path_type=Path), required=True, help="down.onnx or up.onnx.")
@click.option("--size", type=SIZE, default="16384x8192", show_default=True, help="Of the panorama that goes in.")
@click.option("--tile", default="auto", show_default=True)
@record.SAVE
@click.option("--work", type=click.Path(path_type=Path), help="Folder for the files; default: a temporary one.")
def main(model: Path, size: tuple[int, int], tile: str, work: Path | None, save: str | None) -> None:
    """Print the peak resident memory and the time of one run."""
    direction = read_onnx(model).metadata.get("direction")
    if direction not in ("down", "up"):
        raise UserError(f"--model {model}: expected an exported graph, found no direction in its metadata")
    command = "downscale" if direction == "down" else "upscale"
    with tempfile.TemporaryDirectory(dir=work) as folder:
        source, target = Path(folder) / "in.png", Path(folder) / "out.png"
        write_panorama(source, size[1], size[0])
        options = ["--model", str(model), "--tile", tile, *(["--foreign"] if direction == "up" else [])]
        started = time.perf_counter()
        subprocess.run([sys.executable, "-m", "engines", command, str(source), str(target), *options], check=True)
        seconds = time.perf_counter() - started
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
        Image.MAX_IMAGE_PIXELS = None  # it is ours, and only its head is read
        with Image.open(target) as image:
            result = f"{image.width}x{image.height}"
    columns = {"": "{}", "from": "{}", "to": "{}", "tile": "{}", "peak, resident": "{:.2f} GiB", "time": "{:.0f} s"}
    row: list[Cell] = [command, f"{size[1]}x{size[0]}", result, tile, peak, seconds]
    record.report([Table(f"{model.name}, one process", columns, [row])], [], save)


if __name__ == "__main__":
    main(prog_name="python -m benchmarks.memory")
