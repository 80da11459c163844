"""Bytes that the CUDA kernels move per output pixel, counted by the SIMT emulator: no GPU, no clock, always the same.

python -m benchmarks.traffic            print the tables
python -m benchmarks.traffic --write    and write them to plugins/TRAFFIC.md
python -m benchmarks.traffic --save traffic    and to benchmarks/results/traffic.json
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import record
from benchmarks.record import Cell, Table
from engines.support.files import write_text
from plugins.testing.emulator.library import Report, deform_conv, dst_attention
from plugins.testing.native import HWC8, LINEAR, Array

HEIGHT, WIDTH = 64, 128
PIXELS = HEIGHT * WIDTH
SECTOR = 32
WINDOW = 8
CHANNELS = {"DeformConv2d": (16, 24, 32, 64), "DSTAttention": (32, 64)}
TABLE = Path(__file__).resolve().parents[1] / "plugins" / "TRAFFIC.md"

HEAD = """# Bytes that the kernels move

Written by `python -m benchmarks.traffic --write`, which runs the kernels' source on the SIMT emulator
(`plugins/testing/emulator`) and counts. Nothing here was timed, and nothing ran on a GPU.

All figures are bytes of global memory per output pixel, for one panorama of {width}×{height} pixels with as many output
as input channels, columns cyclic. Kernels of 3×3 with one offset group; windows of 8×8, displaced by 4, with heads of
16 channels. A load or store of a warp moves whole sectors of 32 bytes.

- **bound**: every input and output once. Weights, bias and scale/offset fields, whose share of a pixel vanishes in a
  large panorama, are left out.
- **im2col** (or **unfused**): the bound, and what the usual formulation writes and reads back: for the convolution the
  column buffer of 9·C values a pixel; for the attention the sampled queries and, before and after the softmax, the
  scores of window² keys for each head.
- **no cache**: the sectors of all requests. Served by L1 and L2 for the most part.
- **per block**: each distinct sector once for each thread block, as with an L1 that holds all that a block reads: what
  L2 has to serve.
- **per launch**: each distinct sector loaded, and each stored, once for each launch, as with an L2 that holds
  everything: what DRAM has to serve at least. The workspace (packed weights) is in it, written and read back.
- **conflicts**: shared memory wavefronts beyond those without bank conflicts, as a share of the latter.

Caches are not modelled beyond these three: a real L1 (128 to 256 KiB for all blocks of a multiprocessor) lies between
*no cache* and *per block*, a real L2 between *per block* and *per launch*. Stores count in every column; only *per
launch* joins those of two requests to one sector. Lanes that skip a turn of a loop are counted with an earlier one, so
at image borders a request may differ from the hardware's.
"""


def offsets(random: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Offsets as a trained network has them: smooth over the image, 1 pixel in root mean square, at most 3."""
    noise = np.fft.rfft2(random.normal(size=shape))
    rows, columns = np.fft.fftfreq(shape[-2])[:, None], np.fft.rfftfreq(shape[-1])
    smooth = np.fft.irfft2(noise * np.exp(-((rows**2 + columns**2) / (2 * 0.05**2))), s=shape[-2:])
    return np.clip(smooth / smooth.std(), -3, 3)


def run_deform_conv(channels: int, type_: Any, layout: int) -> Report:
    """One 3x3 deformable convolution, one offset group, no mask: the network's own form."""
    random = np.random.default_rng(0)
    arrays = (
        random.normal(size=(1, channels, HEIGHT, WIDTH)),
        offsets(random, (1, 18, HEIGHT, WIDTH)),
        random.normal(size=(channels, channels, 3, 3)),
        random.normal(size=channels),
    )
    return deform_conv(*(a.astype(type_) for a in arrays), None, wrap=True, layout=layout)[1]


def run_dst_attention(channels: int, type_: Any, layout: int) -> Report:
    """One window attention of 16 channels a head, windows of 8x8, shifted by 4, queries deformed."""
    random = np.random.default_rng(0)
    heads = channels // 16
    field = (1, 2 * heads, HEIGHT // WINDOW, WIDTH // WINDOW)
    arrays = (
        *(random.normal(size=(1, channels, HEIGHT, WIDTH)) for _ in range(3)),
        random.normal(size=(heads, WINDOW**2, WINDOW**2)),
        random.normal(size=field, scale=0.1),
        random.normal(size=field),
    )
    options: dict[str, Any] = dict(window=WINDOW, shift=4, wrap=True, layout=layout)
    return dst_attention(*(a.astype(type_) for a in arrays), **options)[1]


def figures(report: Report) -> tuple[float, float, float, float]:
    """Bytes per pixel without a cache, per block and per launch; conflicts as a share."""
    tensors = report.by_tensor().values()
    plain = report.load_sectors + report.store_sectors
    block = report.store_sectors + sum(tensor.block_sectors for tensor in tensors)
    launch = sum(tensor.launch_sectors + tensor.stored_sectors for tensor in tensors)
    ideal = report.shared_wavefronts - report.shared_conflicts
    plain, block, launch = (sectors * SECTOR / PIXELS for sectors in (plain, block, launch))
    return plain, block, launch, report.shared_conflicts / ideal if ideal else 0.0


def rows(operator: str, channels_list: Sequence[int]) -> Iterator[list[Cell]]:
    """The table's rows for one operator."""
    for channels in channels_list:
        for type_ in (np.float16, np.float32):
            size = np.dtype(type_).itemsize
            for layout, stored_layout in (("linear", LINEAR), ("hwc8", HWC8)):
                if operator == "DeformConv2d":
                    report = run_deform_conv(channels, type_, stored_layout)
                    stored = 18 if stored_layout == LINEAR else 24  # 2*3*3 offsets, filled up to a multiple of 8
                    bound = (2 * channels + stored) * size
                    unrolled = bound + 2 * 9 * channels * size
                else:
                    report = run_dst_attention(channels, type_, stored_layout)
                    bound = 4 * channels * size
                    unrolled = bound + (2 * channels + 4 * channels // 16 * WINDOW**2) * size
                plain, block, launch, conflicts = figures(report)
                ratios = (launch / bound, unrolled / launch, conflicts)
                yield [channels, np.dtype(type_).name, layout, bound, unrolled, plain, block, launch, *ratios]


def table(operator: str, other: str, channels_list: Sequence[int]) -> Table:
    """One operator's table. other: the name of the usual formulation."""
    whole = dict.fromkeys(("C", "type", "layout", "bound", other), "{}")
    counted = dict.fromkeys(("no cache", "per block", "per launch"), "{:.0f}")
    ratios = {"of the bound": "{:.2f}×", "less": "{:.1f}×", "conflicts": "{:.1%}"}
    return Table(operator, whole | counted | ratios, list(rows(operator, channels_list)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help=f"write {TABLE.parent.name}/{TABLE.name}")
    record.add_option(parser)
    arguments = parser.parse_args()
    others = {"DeformConv2d": "im2col", "DSTAttention": "unfused"}
    tables = [table(operator, other, CHANNELS[operator]) for operator, other in others.items()]
    record.report(tables, ["*of the bound*: per launch / bound; *less*: im2col (unfused) / per launch"], arguments.save)
    if arguments.write:
        sections = [
            f"## {table.title}\n\n{table.markdown()}\n\n"
            f"*of the bound*: per launch / bound; *less*: {others[table.title]} / per launch.\n"
            for table in tables
        ]
        write_text(TABLE, "\n".join([HEAD.format(width=WIDTH, height=HEIGHT), *sections]))


if __name__ == "__main__":
    main()
