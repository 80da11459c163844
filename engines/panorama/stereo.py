"""The eyes of a picture or frame, each rescaled as a picture of its own.

Two panoramas in one frame touch where nothing touches in the world, and each continues around its own circle; a VR180
eye, which spans half of it, continues nowhere. So tiles, halos and wraps are those of an eye.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from engines.panorama.layout import Layout
from engines.panorama.rescaler import Rescaler, Tile
from engines.panorama.sources import Source
from engines.support.arrays import Samples
from engines.support.errors import UserError


class Eye(Source):
    """One eye of a picture, whose rows it takes its own from. Closing it closes nothing."""

    def __init__(self, picture: Source, layout: Layout, eye: int, kept: _Latest) -> None:
        self.path, self.channels, self.bits, self.coding = picture.path, picture.channels, picture.bits, picture.coding
        self.metadata, self.record, self.written = picture.metadata, None, picture.written
        self.height, self.width = layout.of_eye((picture.height, picture.width))
        self.wraps, self.eye = layout.wraps, eye
        self._kept = kept
        self._top = eye * self.height if layout.stereo == "top-bottom" else 0
        left = eye * self.width if layout.stereo == "side-by-side" else 0
        self._columns = slice(left, left + self.width)

    def rows(self, start: int, stop: int) -> Samples:
        return self._kept.rows(self._top + start, self._top + stop)[:, self._columns]

    def close(self) -> None:
        pass


class _Latest:
    """The rows of the latest requests: eyes side by side ask in turn for the same, two pieces of a band at most."""

    def __init__(self, picture: Source) -> None:
        self._picture = picture
        self._held: dict[tuple[int, int], Samples] = {}

    def rows(self, start: int, stop: int) -> Samples:
        if (start, stop) not in self._held:
            while len(self._held) > 1:
                del self._held[next(iter(self._held))]
            self._held[start, stop] = self._picture.rows(start, stop)
        return self._held[start, stop]


def eyes_of(picture: Source, layout: Layout) -> list[Source]:
    """The eyes of a picture as sources of their own; a plain panorama is its own only one.

    Raises:
        UserError: the picture cannot be cut into two equal eyes.
    """
    if layout == Layout():
        return [picture]
    if not layout.fits(picture.height, picture.width):
        found = f"{picture.width} x {picture.height}"
        raise UserError(f"{picture.path}: a {layout.stereo} pair has two eyes of one size, found {found}")
    kept = _Latest(picture)
    return [Eye(picture, layout, eye, kept) for eye in range(layout.eyes)]


def rescale_eyes(
    rescaler: Rescaler,
    picture: Source,
    layout: Layout,
    tile: Tile,
    bits: int,
    size: tuple[int, int],
    advance: Callable[[int, int], None] = lambda done, of: None,
) -> Iterator[Samples]:
    """Rescales each eye by itself; blocks of rows (n, W, C) of the whole picture, from top to bottom.

    Args:
        bits: 8 or 16, of the result. size: (height, width) of the result, both eyes.
        advance: called after each tile with the tiles done and the tiles in all.

    Raises:
        UserError: as `eyes_of`, `Rescaler.plan` and `Rescaler.rescale`.
    """
    eyes = eyes_of(picture, layout)
    tiles = rescaler.plan(eyes[0], tile, bits)
    done = 0

    def count() -> None:
        nonlocal done
        done += 1
        advance(done, tiles.tiles * len(eyes))

    results = [rescaler.rescale(eye, tiles, bits, layout.of_eye(size), count) for eye in eyes]
    if layout.stereo == "side-by-side":
        for blocks in zip(*results, strict=True):
            yield np.concatenate(blocks, axis=1)
    else:
        for result in results:
            yield from result
