"""Which tiles of a panorama a view needs, and in which rectangles they are decoded. Lengths are LR pixels.

A grid cuts the panorama into tiles that a cache can hold. What is computed is a region: a rectangle of neighbouring
tiles with its halo. One region of four tiles costs less than four of one, so that missing tiles are put together where
that saves work, even when a tile comes along that nobody asked for.

Unlike the plan of a whole panorama (tiles.py), a region at one pole leaves out the other: of the far cap only the halo
is there, glued on, for the displaced windows that take their mean over both poles.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from engines.panorama.tiles import Span

Tile = tuple[int, int]  # row and column in the grid


@dataclass(frozen=True)
class Region:
    """Tiles that are decoded at once. The columns `left` to `right` go around the circle: right may exceed the grid."""

    top: int
    bottom: int
    left: int
    right: int


@dataclass(frozen=True)
class Grid:
    """The tiles of a panorama of `height` x `width`, `rows` and `columns` their edges, each on a multiple of `align`.

    halo: what a region computes beyond its tiles, a multiple of `align`. Where the width is no multiple of `align`
    there is one column of tiles, unless the picture does not go around the circle (`wraps`).
    """

    height: int
    width: int
    rows: tuple[int, ...]
    columns: tuple[int, ...]
    halo: int
    align: int
    wraps: bool = True

    @classmethod
    def cut(cls, height: int, width: int, side: int, halo: int, align: int, wraps: bool = True) -> Grid:
        """Tiles of about `side` x `side`."""
        side = max(_up(side, align), align)
        columns = _edges(width, side, align) if width % align == 0 or not wraps else (0, width)
        return cls(height, width, _edges(height, side, align), columns, _up(halo, align), align, wraps)

    @property
    def across(self) -> int:
        """Tiles in a row."""
        return len(self.columns) - 1

    def tiles(self, region: Region) -> list[Tile]:
        """The tiles of a region."""
        return [
            (row, column % self.across)
            for row in range(region.top, region.bottom)
            for column in range(region.left, region.right)
        ]

    def spans(self, region: Region) -> tuple[tuple[Span, ...], Span]:
        """What is computed for a region: its rows, in two pieces at a pole, and its columns."""
        return self._rows(self.rows[region.top], self.rows[region.bottom]), self._columns(region)

    def area(self, region: Region) -> int:
        """How many pixels are computed for it."""
        rows, columns = self.spans(region)
        return sum(span.length for span in rows) * columns.length

    def _rows(self, start: int, stop: int) -> tuple[Span, ...]:
        first, last = start - self.halo, stop + self.halo
        # The window at a pole is displaced across it: a region that comes near takes the pole along.
        top, bottom = first < self.align, last > (self.height - 1) // self.align * self.align
        # Without windows the poles know nothing of each other.
        far = max(self.halo, self.align) if self.align > 1 else 0
        below = (self.height - far) // self.align * self.align
        if top and (bottom or last > below):
            return (Span(start, stop, 0, self.height),)
        if bottom and first < far:
            return (Span(start, stop, 0, self.height),)
        if top:
            near = Span(start, stop, 0, last)
            return (near, Span(self.height, self.height, below, self.height)) if far else (near,)
        if bottom:
            near = Span(start, stop, first, self.height)
            return (Span(0, 0, 0, far), near) if far else (near,)
        return (Span(start, stop, first, last),)

    def _columns(self, region: Region) -> Span:
        start = self.columns[region.left % self.across]
        stop = start + sum(
            self.columns[column % self.across + 1] - self.columns[column % self.across]
            for column in range(region.left, region.right)
        )
        if not self.wraps:
            return Span(start, stop, start - self.halo, _up(stop, self.align) + self.halo)
        if stop - start + 2 * self.halo >= self.width:
            return Span(start, stop, start, start + self.width) if start else Span(0, stop, 0, self.width)
        return Span(start, stop, start - self.halo, stop + self.halo)


def regions(grid: Grid, tiles: Iterable[Tile], most: int) -> list[Region]:
    """Rectangles that together hold all of `tiles`, put together as long as that computes less.

    most: pixels that a region may compute; a single tile may need more.
    """
    found = [part for run in _runs(grid, set(tiles)) for part in _split(grid, run, most)]
    while True:
        best: tuple[int, int, int, Region] | None = None
        for index, one in enumerate(found):
            for other in range(index + 1, len(found)):
                if found[other].top > one.bottom:
                    continue  # with a row of tiles between them nothing is saved
                joined = _joined(grid, one, found[other])
                area = grid.area(joined)
                saved = grid.area(one) + grid.area(found[other]) - area
                if area <= most and saved > 0 and (best is None or saved > best[0]):
                    best = (saved, index, other, joined)
        if best is None:
            return found
        _, index, other, joined = best
        rest = [region for number, region in enumerate(found) if number not in (index, other)]
        found = sorted([*rest, joined], key=lambda region: (region.top, region.left))


def _runs(grid: Grid, tiles: set[Tile]) -> Iterable[Region]:
    """The tiles of each row that lie side by side, around the circle."""
    for row in sorted({row for row, _ in tiles}):
        wanted = {column for at, column in tiles if at == row}
        if len(wanted) == grid.across:
            yield Region(row, row + 1, 0, grid.across)
            continue
        for left in sorted(wanted):
            around = grid.wraps or left > 0
            if not (around and (left - 1) % grid.across in wanted):
                right = left
                while right % grid.across in wanted and (grid.wraps or right < grid.across):
                    right += 1
                yield Region(row, row + 1, left, right)


def _split(grid: Grid, run: Region, most: int) -> Iterable[Region]:
    """A run in pieces that compute at most `most` pixels."""
    middle = (run.left + run.right) // 2
    if middle == run.left or grid.area(run) <= most:
        yield run
        return
    for left, right in ((run.left, middle), (middle, run.right)):
        yield from _split(grid, Region(run.top, run.bottom, left, right), most)


def _joined(grid: Grid, one: Region, other: Region) -> Region:
    """The smallest rectangle around both, on the shorter way around the circle."""
    top, bottom = min(one.top, other.top), max(one.bottom, other.bottom)
    ways = []
    for turn in (-grid.across, 0, grid.across) if grid.wraps else (0,):
        left, right = min(one.left, other.left + turn), max(one.right, other.right + turn)
        ways.append((right - left, left, right))
    length, left, right = min(ways)
    if length >= grid.across:
        left, right = 0, grid.across
    return Region(top, bottom, left, right)


def _edges(length: int, side: int, align: int) -> tuple[int, ...]:
    """0, …, length in pieces of about `side`; all but the last are multiples of `align`."""
    cells = max(length // align, 1)
    count = max(1, min(round(length / side), cells))
    return (*(cells * number // count * align for number in range(count)), length)


def _up(length: int, align: int) -> int:
    return -(-length // align) * align
