"""What a program that works in tiles must know of a network: on what grid tiles lie and how far a pixel sees.

The receptive field is a bound: it adds up every radius on the longest path. Most of what lies inside it changes a pixel
by less than rounding does, and a tile that carries all of it computes several times its own area. So the distance that
counts is measured as well, once for each network; and what shorter ones would cost, so that a runtime may choose.
"""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass, field

import torch
from torch import Tensor

from dinn360.info import directions, peak_bytes
from dinn360.networks import RescalingNetwork, build_network
from dinn360.sphere import Frame

PRECISION = 1e-6  # a tenth of what a tile may differ by
FURTHEST = 64  # LR pixels that are measured to each side
THICK = 16  # LR pixels of the measured images along the border, at least
CONTRAST = 0.25  # standard deviation of the measured images: twice as hard as a photograph, for a bound
PHOTOGRAPH = 0.1  # the same, with neighbouring pixels as different as in a photograph of foliage
BESIDE = 32  # LR pixels beyond a halo over which its share of changed values is taken: half of a small tile


@dataclass(frozen=True)
class HaloError:
    """What a halo costs, measured: `share` of the 8-bit values of a tile differs from the untiled result, and none by
    more than `largest` (of a range of 1)."""

    share: float
    largest: float


@dataclass(frozen=True)
class Tiling:
    """How one direction of a network may be cut into tiles. Lengths are LR pixels.

    align: tiles start on multiples of it (RescalingNetwork.alignment).
    extension: the network extends an image to a multiple of it, and its latitudes are of that.
    receptive_field: no pixel further away can change a result.
    halo: none further away changes it by more than PRECISION, measured; a multiple of `align`.
    bytes_per_pixel: working memory for each HR pixel, fp32.
    halo_errors: what halos up to `halo` cost; empty where nothing was measured.
    """

    align: int
    extension: int
    receptive_field: int
    halo: int
    bytes_per_pixel: int
    halo_errors: dict[int, HaloError] = field(default_factory=dict)

    def metadata(self) -> dict[str, str]:
        """The pairs that a graph file carries."""
        pairs = {
            "tile_align": str(self.align),
            "tile_extension": str(self.extension),
            "tile_halo": str(self.halo),
            "receptive_field": str(self.receptive_field),
            "bytes_per_pixel": str(self.bytes_per_pixel),
        }
        if self.halo_errors:
            errors = {
                str(halo): [float(f"{error.share:.2g}"), float(f"{error.largest:.2g}")]
                for halo, error in self.halo_errors.items()
            }
            pairs["tile_halo_errors"] = json.dumps(errors)
        return pairs


def tiling(network: RescalingNetwork, direction: str, measure: bool = True) -> Tiling:
    """The tiling of one direction, "down" or "up"; without `measure`, the halo is the whole receptive field."""
    config = network.config
    name = {"down": "downscale", "up": "upscale"}[direction]
    align = network.alignment
    reach = -(-network.receptive_field()[name] // config.scale)
    size = (32 * config.scale, 256 * config.scale)  # wide, so that a margin around the circle counts for little
    with torch.device("meta"):
        shapes = build_network(config).eval()
        shapes.freeze_inverses()
    peak = peak_bytes(directions(shapes, *size)[name])
    halo, errors = reach, {}
    if measure and reach > align:
        measured = min(reach, FURTHEST)
        seen = changes_by_distance(network, direction, measured, CONTRAST).furthest(PRECISION)
        # Beyond FURTHEST nothing was measured: a network that still sees there keeps its whole receptive field.
        halo = reach if seen >= FURTHEST else min(seen + align // 2, reach)
        step = max(align, 4)
        # A change of 1e-7, which single precision loses, turns no 8-bit value into another.
        changes = changes_by_distance(network, direction, measured, PHOTOGRAPH, torch.float32)
        errors = {length: changes.error(length) for length in range(step, min(halo, changes.reach) + 1, step)}
    return Tiling(align, network.extension, reach, -(-halo // align) * align, peak // (size[0] * size[1]), errors)


@dataclass(frozen=True)
class Changes:
    """How much a border changes a result, by distance from it: float64 (reach,), LR pixels 0, 1, … away.

    largest: the largest change, of a range of 1. flipped: the share of 8-bit values that it turns into another level.
    """

    largest: Tensor
    flipped: Tensor

    @property
    def reach(self) -> int:
        """The distances that were measured."""
        return len(self.largest)

    def furthest(self, precision: float) -> int:
        """From which distance on nothing changes by more than `precision`."""
        far = torch.nonzero(self.largest > precision)
        return int(far.max()) + 1 if len(far) else 0

    def error(self, halo: int) -> HaloError:
        """What a halo of this length costs; 0 beyond what was measured."""
        if halo >= self.reach:
            return HaloError(0.0, 0.0)
        return HaloError(float(self.flipped[halo : halo + BESIDE].sum()) / BESIDE, float(self.largest[halo:].max()))


def changes_by_distance(
    network: RescalingNetwork, direction: str, reach: int, contrast: float, dtype: torch.dtype = torch.float64
) -> Changes:
    """Measures how much a change beyond a border alters the result, up to `reach` LR pixels away from the border.

    The images are noise with the spectrum of photographs, 1/f, and the standard deviation `contrast`; in white noise,
    which no camera makes, changes travel further. In double precision rounding is no change. A change flips an 8-bit
    value with a probability of 255 times its size, so that the share of flipped values is a mean and needs no luck.

    What changes has two borders to what is kept: displaced windows take their mean over both ends of an image.
    """
    network = copy.deepcopy(network).to(dtype).eval()
    align, scale = network.alignment, network.config.scale
    length, thick = -(-reach // align) * align, max(2 * align, THICK)
    generator = torch.Generator().manual_seed(0)
    unit = scale if direction == "down" else 1

    def noise(height: int, width: int) -> Tensor:
        white = torch.randn(1, 3, height * unit, width * unit, generator=generator, dtype=torch.float64)
        rows, columns = (torch.fft.fftfreq(n, dtype=torch.float64) for n in white.shape[2:])
        frequency = (rows[:, None] ** 2 + columns**2).sqrt().clamp(min=1 / max(white.shape))
        pink = torch.fft.ifft2(torch.fft.fft2(white) / frequency).real
        return (0.5 + contrast * pink / pink.std()).clamp(0, 1).to(dtype)

    def run(x: Tensor) -> Tensor:
        return (network.downscale if direction == "down" else network.upscale)(x, frame=Frame(wrap=False))

    measured: list[tuple[Tensor, Tensor]] = []
    for axis, height, width in ((3, thick, length), (2, length, thick)):
        kept = torch.cat([noise(height, width) for _ in range(2)], dim=axis)
        with torch.inference_mode():
            results = [run(torch.cat([kept, noise(height, width)], dim=axis)) for _ in range(2)]
        change = (results[0] - results[1]).abs().movedim(axis, 0).reshape(3 * length, -1)[: 2 * length]
        for values in (change.amax(1), (255 * change).clamp(max=1).mean(1)):
            ends = values.reshape(2, length)
            measured.append((ends[0], ends[1].flip(0)))  # nearest to a border first
    largest = torch.stack([*measured[0], *measured[2]]).amax(0)
    flipped = torch.stack([*measured[1], *measured[3]]).sum(0) / 2  # a pixel of a tile has a border in either axis
    return Changes(largest, flipped)
