"""Cuts a panorama into tiles such that the tiled result is the untiled one. Lengths are LR pixels.

Three things decide where a tile may lie:

* Attention windows. Regions start on multiples of `align`, so that each window of a tile is a window of the panorama.
* Longitude. A region's columns continue around the circle. Where the width is no multiple of `align`, the last window
  holds columns of both ends, which no narrower region can imitate: tiles then span the full width. A picture that
  does not go around the circle has a halo beyond its sides, too, so that the graph's own circle closes outside of it.
* A margin. A network that extends its image once around the circle (flat DINN360) does so in its graph, with a tile as
  with a panorama: by the tile's own other end, 2 * 16 working pixels that nobody needs. No halo can take their place:
  what they should hold is no part of the tile's input, and as far as they spoil the tile, so would zeros. To leave
  them out, the graph would need an input on which its sizes depend (in TensorRT a shape tensor in every profile), or
  a twin without the extension. At x4 they are 128 HR columns: 9 % of the work of a tile of 1024 HR columns with its
  halo, 5 % of 2048, 3 % of 3840. A tile that spans the circle needs them.
* The poles. Convolutions see zeros beyond the first and the last row, so regions at the poles end exactly there. (The
  mirrored row, turned by 180 degrees, would be the sphere's own; measured, it gains at most 0.003 dB.) And displaced
  windows of a DST take the mean of the last rows together with the first rows: both polar caps are one tile, glued
  where nothing but halo is lost. A network without a DST, as `flat-edge`, could do without; the glue costs it nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Bytes that the network's values may take with automatic tiles. ONNX Runtime holds about three times as much: its arena
# grows in steps, and DeformConv unrolls its input.
MEMORY = 384 * 2**20


@dataclass(frozen=True)
class Span:
    """A stretch of rows or columns: `start` to `stop` are kept, `first` to `last` are computed.

    first and last of columns may lie beyond the panorama: columns wrap, or the outer ones repeat.
    """

    start: int
    stop: int
    first: int
    last: int

    @property
    def length(self) -> int:
        """How many rows or columns are computed."""
        return self.last - self.first

    @property
    def kept(self) -> slice:
        """What is kept, counted from the first that is computed."""
        return slice(self.start - self.first, self.stop - self.first)


@dataclass(frozen=True)
class Plan:
    """Tiles of a panorama of `height` rows: each band of rows times each span of columns.

    bands: one span, or the two polar caps of a glued band, which come first.
    extension: the network extends an image's rows to a multiple of it, below the last one.
    """

    height: int
    bands: tuple[tuple[Span, ...], ...]
    columns: tuple[Span, ...]
    extension: int = 1

    @property
    def tiles(self) -> int:
        """How often the network runs."""
        return len(self.bands) * len(self.columns)

    def omitted(self, band: tuple[Span, ...]) -> NDArray[np.int64]:
        """The graph's input `omitted`: rows that the band leaves out above, below and between, and where.

        The latitudes of a network are those of the panorama that it has extended. A band that ends with the last row is
        extended likewise, every other one leaves that extension out.
        """
        first, last = band[0], band[-1]
        height = self.height if last.last == self.height else _up(self.height, self.extension)
        between = (last.first - first.last, first.length) if len(band) == 2 else (0, 0)
        return np.array([first.first, height - last.last, *between], np.int64)


def plan(
    height: int,
    width: int,
    tile: tuple[int, int] | None,
    halo: int,
    align: int,
    wraps: bool = True,
    extension: int = 1,
) -> Plan:
    """Plans the tiles of an LR image of `height` x `width`.

    Args:
        tile: rows and columns that a tile keeps, rounded up to `align`; None: one tile.
        halo: further rows and columns that it computes on each side, rounded up to `align`.
        align: the grid on which regions start.
        wraps: whether the last column is beside the first.
        extension: as of Plan.
    """
    halo = _up(halo, align)
    if tile is None:
        across = (Span(0, width, 0, width),) if wraps else _beside(width, _up(width, align), halo, align)
        return Plan(height, ((Span(0, height, 0, height),),), across, extension)
    rows, columns = (_up(max(length, 1), align) for length in tile)
    across = (_columns if wraps else _beside)(width, columns, halo, align)
    return Plan(height, _bands(height, rows, halo, align), across, extension)


def automatic(height: int, width: int, bytes_per_pixel: int, halo: int, align: int) -> tuple[int, int] | None:
    """The tile whose region needs about MEMORY bytes; None where the whole panorama needs no more.

    bytes_per_pixel: the network's working memory for each LR pixel.
    """
    area = MEMORY // bytes_per_pixel
    if height * width <= area:
        return None
    side = math.isqrt(area) - 2 * halo
    if width % align == 0 and side + 2 * halo < width:
        return max(side, align), max(side, align)
    return max(area // width - 2 * halo, align), width


def _bands(height: int, rows: int, halo: int, align: int) -> tuple[tuple[Span, ...], ...]:
    # A region beside a cap must not reach the pole, whose windows it cannot have: hence the least height of a cap.
    cap = max(_up(rows // 2, align), halo + align)
    top, bottom = cap, (height - cap) // align * align
    if top + halo > bottom - halo:
        return ((Span(0, height, 0, height),),)
    caps = (Span(0, top, 0, top + halo), Span(bottom, height, bottom - halo, height))
    return (caps, *((Span(a, b, a - halo, b + halo),) for a, b in _split(top, bottom, rows, align)))


def _columns(width: int, columns: int, halo: int, align: int) -> tuple[Span, ...]:
    pieces = _split(0, width, columns, align) if width % align == 0 else []
    if not pieces or max(b - a for a, b in pieces) + 2 * halo >= width:
        return (Span(0, width, 0, width),)
    return tuple(Span(a, b, a - halo, b + halo) for a, b in pieces)


def _beside(width: int, columns: int, halo: int, align: int) -> tuple[Span, ...]:
    """The columns of a picture that does not go around the circle."""
    pieces = _split(0, _up(width, align), columns, align)
    return tuple(Span(a, min(b, width), a - halo, b + halo) for a, b in pieces)


def _split(start: int, stop: int, length: int, align: int) -> list[tuple[int, int]]:
    """Pieces of nearly equal size of at most `length`, on the grid; start and stop lie on it."""
    count = -(-(stop - start) // length)
    cells = (stop - start) // align
    return [(start + cells * i // count * align, start + cells * (i + 1) // count * align) for i in range(count)]


def _up(length: int, align: int) -> int:
    return -(-length // align) * align
