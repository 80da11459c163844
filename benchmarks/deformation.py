"""What a network's sampling offsets do, by latitude: python -m benchmarks.deformation --ckpt x4.pth --data DIR.

For each band of latitudes (both hemispheres together): its share of the sphere, which is what WS-PSNR counts, and of
the weighted squared error; how far the offsets of the deformable convolutions move a sample, in pixels of the layer;
WS-PSNR of Y with all offsets set to zero, DST's included, and what switching them on adds.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks import record
from benchmarks.record import Cell, Table
from dinn360.checkpoint import load_checkpoint
from dinn360.data.crops import read_folder
from dinn360.evaluation.evaluate import by_latitude
from dinn360.evaluation.metrics import latitude_weights, luma, ws_psnr
from dinn360.evaluation.validate import round_trip
from dinn360.networks import RescalingNetwork
from dinn360.networks.layers import DConv
from engines.support.arrays import Image8
from engines.support.progress import progress

Floats = NDArray[np.float64]
BANDS = 12  # from pole to pole
COLUMNS = {
    "latitude": "{}",
    "of the sphere": "{:.1%}",
    "of the error": "{:.1%}",
    "offset, rows": "{:.3f} px",
    "offset, columns": "{:.3f} px",
    "offsets off": "{:.3f} dB",
    "on adds": "{:+.3f} dB",
}


def folded(bands: Floats) -> Floats:
    """Mean of each band and its mirror image beyond the equator, from the equator to the poles."""
    half = len(bands) // 2
    return (bands[half:] + bands[:half][::-1]) / 2


@contextmanager
def offsets_of(network: nn.Module) -> Iterator[list[Floats]]:
    """Fills the list, while it is open, with each layer's mean offset (folded bands, (rows, columns)) in pixels."""
    found: list[Floats] = []
    hooks = []
    for layer in (module for module in network.modules() if isinstance(module, DConv)):

        def note(_head: nn.Module, _given: object, offset: Tensor, most: float = layer.max_offset) -> None:
            size = offset.clamp(-most, most).abs().mean(0).numpy().astype(np.float64)
            found.append(np.stack([folded(by_latitude(size[axis::2].mean(0), BANDS)) for axis in (0, 1)], axis=1))

        hooks.append(layer.offset_head.register_forward_hook(note))
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def error(network: RescalingNetwork, image: Image8) -> tuple[Floats, float]:
    """Of the round trip through an 8-bit LR image: mean squared error of Y by folded band, and WS-PSNR (dB)."""
    _, restored = round_trip(network, image)
    y, original = luma(restored), luma(image)
    return folded(by_latitude((y - original) ** 2, BANDS)), ws_psnr(y, original)


def decibel(mean_squares: Floats) -> Floats:
    """PSNR (bands,) of mean squared errors (panoramas, bands): the mean over the panoramas."""
    result: Floats = (10 * np.log10(255**2 / mean_squares)).mean(0)
    return result


def table(title: str, network: RescalingNetwork, images: dict[str, Image8]) -> Table:
    """A row for each band; decibels are means over the panoramas."""
    network = network.eval()
    network.freeze_inverses()
    on: list[tuple[Floats, float]] = []
    off: list[tuple[Floats, float]] = []
    with offsets_of(network) as offsets:
        for image in progress(images.values(), unit="image"):
            for deform, found in ((False, off), (True, on)):
                network.set_deformation(deform)
                found.append(error(network, image))
    share = shares()
    bands_on, bands_off = (np.array([bands for bands, _ in found]) for found in (on, off))
    of_error = bands_on * share / (bands_on * share).sum(1, keepdims=True)
    columns = (share, of_error.mean(0), *np.mean(offsets, axis=0).T, decibel(bands_off), decibel(bands_on))
    cells: list[list[Cell]] = []
    for band, (area, part, rows, across, plain, deformed) in enumerate(
        zip(*map(np.ndarray.tolist, columns), strict=True)
    ):
        bounds = f"{band * 180 // BANDS}° to {(band + 1) * 180 // BANDS}°"
        cells.append([bounds, area, part, rows, across, plain, deformed - plain])
    plain, deformed = (float(np.mean([psnr for _, psnr in found])) for found in (off, on))
    return Table(title, COLUMNS, [*cells, ["all", 1.0, 1.0, None, None, plain, deformed - plain]])


def shares(height: int = 1200) -> Floats:
    """Each folded band's share of the sphere's area."""
    band = (np.arange(height) * BANDS) // height
    areas: Floats = np.bincount(band, latitude_weights(height), BANDS).astype(np.float64)
    return folded(areas / areas.mean()) / (BANDS // 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ckpt", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True, help="folder of panoramas")
    parser.add_argument("--threads", type=int, default=1)
    record.add_option(parser)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    network = load_checkpoint(options.ckpt).build()
    images = read_folder(options.data, 8 * network.config.scale, "panoramas")
    title = f"{options.ckpt.name}, panoramas: {len(images)}"
    record.report([table(title, network, images)], [], options.save)


if __name__ == "__main__":
    main()
