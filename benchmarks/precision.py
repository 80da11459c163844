"""fp16 against fp32 PyTorch by the width of the panorama: LR values that move, and decibels that the round trip loses.

python -m benchmarks.precision --ckpt checkpoints/x4.pth --image assets/citadella.png
python -m benchmarks.precision --ckpt checkpoints/x4.pth --image … --widths 8192 --bands 3 --rows 64

The panorama is resized to each width and cut into bands that span the whole circle, each upscaled at its own latitude:
a whole 8192 x 4096 panorama takes tens of gigabytes at once. PyTorch and the graph get the same band. The fp16 graph
runs in ONNX Runtime with every fp16 tensor rounded (export/precision/rounding.py), as hardware stores it. Whole round
trips are compared: fp16 down, 8-bit LR image, fp16 up, against the same in fp32.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks import record
from dinn360.checkpoint import load_checkpoint
from dinn360.evaluation.interpolation import resize
from dinn360.evaluation.metrics import latitude_weights, luma
from dinn360.networks import RescalingNetwork
from engines.runtimes.base import Session
from engines.support.arrays import Image8, to_image, to_tensor
from engines.support.images import read_panorama
from engines.support.progress import progress
from export.config import ExportConfig
from export.graphs import Downscale, Upscale
from export.onnx import export_checkpoint
from export.parity import rounded_session

COLUMNS = {
    "panorama": "{}",
    "rows": "{}",
    "LR values moved": "{:.3%}",
    "LR pixels moved": "{:.3%}",
    "levels at most": "{}",
    "WS-PSNR Y, fp32": "{:.3f} dB",
    "loss": "{:+.4f} dB",
}


@dataclass
class Sums:
    """What is added up over the bands of one width. Squares are of luma in levels, weighted by area on the sphere."""

    values: int = 0
    moved: int = 0
    pixels_moved: int = 0
    levels: int = 0
    weights: float = 0.0
    square: float = 0.0
    square_fp16: float = 0.0

    def row(self, width: int, height: int, rows: int) -> list[record.Cell]:
        before, after = (10 * np.log10(255**2 * self.weights / s) for s in (self.square, self.square_fp16))
        return [
            f"{width}x{height}",
            rows,
            self.moved / self.values,
            3 * self.pixels_moved / self.values,
            self.levels,
            float(before),
            float(before - after),
        ]


def bands(height: int, rows: int, count: int | None) -> list[int]:
    """First rows of `count` bands (None: all) of `rows` rows, each in the middle of its share of the latitudes."""
    every = list(range(0, height - rows + 1, rows))
    if count is None or count >= len(every):
        return every
    return [every[(2 * i + 1) * len(every) // (2 * count)] for i in range(count)]


def compare(network: RescalingNetwork, down: Session, up: Session, image: Image8, tops: list[int], rows: int) -> Sums:
    """Round trips of the bands of `image` (H, W, 3) that start at `tops`."""
    scale, height = network.config.scale, image.shape[0]
    shrink, grow = Downscale(network).eval(), Upscale(network).eval()
    weights, sums = latitude_weights(height), Sums()
    for top in progress(tops, desc=f"{image.shape[1]} columns", unit="band"):
        band = np.ascontiguousarray(image[top : top + rows])
        omitted = np.array([top // scale, (height - top - rows) // scale, 0, 0])
        with torch.inference_mode():
            lr = to_image(shrink(torch.from_numpy(to_tensor(band))).numpy())
            hr = to_image(grow(torch.from_numpy(to_tensor(lr)), torch.from_numpy(omitted)).numpy())
        lr_fp16 = to_image(down.run(hr=to_tensor(band))["lr"])
        hr_fp16 = to_image(up.run(lr=to_tensor(lr_fp16), omitted=omitted)["hr"])
        apart = np.abs(lr_fp16.astype(np.int16) - lr)
        sums.values += apart.size
        sums.moved += int((apart > 0).sum())
        sums.pixels_moved += int((apart > 0).any(axis=2).sum())
        sums.levels = max(sums.levels, int(apart.max()))
        weight = weights[top : top + rows, None]
        sums.weights += float(weight.sum()) * band.shape[1]
        sums.square += float((weight * (luma(hr) - luma(band)) ** 2).sum())
        sums.square_fp16 += float((weight * (luma(hr_fp16) - luma(band)) ** 2).sum())
    return sums


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--ckpt", type=Path, required=True)
    parser.add_argument("--image", type=Path, required=True, help="a 2:1 panorama")
    parser.add_argument("--widths", type=int, nargs="+", default=[1024, 2048, 4096, 8192])
    parser.add_argument("--rows", type=int, default=128, help="HR rows of a band, a multiple of 8 x scale")
    parser.add_argument("--bands", type=int, help="bands of each width; default: all")
    parser.add_argument("--ops", choices=["standard", "primitive"], default="primitive")
    record.add_option(parser)
    options = parser.parse_args()
    network = load_checkpoint(options.ckpt).build()
    original = read_panorama(options.image)
    rows: list[list[record.Cell]] = []
    with tempfile.TemporaryDirectory() as folder:
        exported = export_checkpoint(options.ckpt, Path(folder), ExportConfig(options.ops, precision="fp16"))
        with rounded_session(exported.down) as down, rounded_session(exported.up) as up:
            for width in options.widths:
                height = width // 2
                image = original if original.shape[1] == width else resize(original, (height, width), "bicubic")
                tops = bands(height, options.rows, options.bands)
                sums = compare(network, down, up, image, tops, options.rows)
                rows.append(sums.row(width, height, len(tops) * options.rows))
    title = f"{options.ckpt.name}, {options.ops} graphs, {options.image.name}"
    record.report([record.Table(title, COLUMNS, rows)], [], options.save)


if __name__ == "__main__":
    main()
