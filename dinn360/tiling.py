"""What a program that works in tiles must know of a network: on what grid tiles lie and how far a pixel sees.

The receptive field is a bound: it adds up every radius on the longest path. Most of what lies inside it changes a pixel
by less than rounding does, and a tile that carries all of it computes several times its own area. So the distance that
counts is measured as well, once for each network.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor

from dinn360.info import directions, peak_bytes
from dinn360.networks import RescalingNetwork, build_network
from dinn360.sphere import Frame

PRECISION = 1e-6  # a tenth of what a tile may differ by
FURTHEST = 64  # LR pixels that are measured to each side
THICK = 16  # LR pixels of the measured images along the border, at least


@dataclass(frozen=True)
class Tiling:
    """How one direction of a network may be cut into tiles. Lengths are LR pixels.

    align: tiles start on multiples of it (RescalingNetwork.alignment).
    receptive_field: no pixel further away can change a result.
    halo: none further away changes it by more than PRECISION, measured; a multiple of `align`.
    bytes_per_pixel: working memory for each HR pixel, fp32.
    """

    align: int
    receptive_field: int
    halo: int
    bytes_per_pixel: int

    def metadata(self) -> dict[str, str]:
        """The pairs that a graph file carries."""
        return {
            "tile_align": str(self.align),
            "tile_halo": str(self.halo),
            "receptive_field": str(self.receptive_field),
            "bytes_per_pixel": str(self.bytes_per_pixel),
        }


def tiling(network: RescalingNetwork, direction: str, measure: bool = True) -> Tiling:
    """The tiling of one direction, "down" or "up"; without `measure`, the halo is the whole receptive field."""
    config = network.config
    name = {"down": "downscale", "up": "upscale"}[direction]
    align = network.alignment
    reach = -(-network.receptive_field()[name] // config.scale)
    size = (32 * config.scale, 64 * config.scale)
    with torch.device("meta"):
        shapes = build_network(config).eval()
        shapes.freeze_inverses()
    peak = peak_bytes(directions(shapes, *size)[name])
    halo = reach
    if measure and reach > align:
        seen = furthest_change(network, direction, min(reach, FURTHEST))
        # Beyond FURTHEST nothing was measured: a network that still sees there keeps its whole receptive field.
        halo = reach if seen >= FURTHEST else min(seen + align // 2, reach)
    return Tiling(align, reach, -(-halo // align) * align, peak // (size[0] * size[1]))


def furthest_change(network: RescalingNetwork, direction: str, reach: int, precision: float = PRECISION) -> int:
    """Measures how far away from a border, in LR pixels up to `reach`, a change beyond it alters the result by more
    than `precision`. The images are noise with the spectrum of photographs, 1/f; in white noise, which no camera makes,
    changes travel further. Computed in double precision, so that rounding is no change.

    What changes has two borders to what is kept: displaced windows take their mean over both ends of an image.
    """
    network = copy.deepcopy(network).double().eval()
    align, scale = network.alignment, network.config.scale
    length, thick = -(-reach // align) * align, max(2 * align, THICK)
    generator = torch.Generator().manual_seed(0)
    unit = scale if direction == "down" else 1

    def noise(height: int, width: int) -> Tensor:
        white = torch.randn(1, 3, height * unit, width * unit, generator=generator, dtype=torch.float64)
        rows, columns = (torch.fft.fftfreq(n, dtype=torch.float64) for n in white.shape[2:])
        frequency = (rows[:, None] ** 2 + columns**2).sqrt().clamp(min=1 / max(white.shape))
        pink = torch.fft.ifft2(torch.fft.fft2(white) / frequency).real
        return (0.5 + 0.25 * pink / pink.std()).clamp(0, 1)

    def run(x: Tensor) -> Tensor:
        return (network.downscale if direction == "down" else network.upscale)(x, frame=Frame(wrap=False))

    furthest = 0
    for axis, height, width in ((3, thick, length), (2, length, thick)):
        kept = torch.cat([noise(height, width) for _ in range(2)], dim=axis)
        with torch.inference_mode():
            results = [run(torch.cat([kept, noise(height, width)], dim=axis)) for _ in range(2)]
        change = (results[0] - results[1]).abs().amax([d for d in range(4) if d != axis])
        ends = change.reshape(3 * length, -1).amax(1)[: 2 * length].reshape(2, length)
        per_pixel = torch.maximum(ends[0], ends[1].flip(0))  # nearest to a border first
        far = torch.nonzero(per_pixel > precision)
        furthest = max(furthest, int(far.max()) + 1 if len(far) else 0)
    return furthest
