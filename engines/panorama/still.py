"""A static camera: tiles whose LR pixels are those of the frame before are not decoded again."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.panorama.rescaler import Direction, Rescaler
from engines.panorama.sources import Source
from engines.runtimes.base import Session
from engines.support.arrays import Samples


class StillRescaler(Rescaler):
    """A `Rescaler` for one frame after another: a tile with exactly the pixels that it had last time keeps its result.

    The comparison is exact and includes the halo, so that the results are those of `Rescaler`. It holds the inputs and
    the results of one frame; a frame of another size, or other tiles, start anew.

    Attributes:
        computed, reused: tiles so far.
    """

    def __init__(self, session: Session, direction: Direction, exact: bool = False) -> None:
        super().__init__(session, direction, exact)
        self.computed = self.reused = 0
        self._size: tuple[int, ...] = ()
        self._last: dict[tuple[Any, ...], tuple[Samples, Samples]] = {}

    def _computed(self, source: Source, region: Samples, first: int, omitted: NDArray[np.int64], bits: int) -> Samples:
        place = (source.eye, first, *omitted.tolist())
        size = (source.width, omitted[0] + omitted[1] + omitted[2] + len(region), bits)
        if size != self._size:
            self._size = size
            self._last.clear()
        before = self._last.get(place)
        if before is not None and np.array_equal(before[0], region):
            self.reused += 1
            return before[1]
        result = super()._computed(source, region, first, omitted, bits)
        self.computed += 1
        self._last[place] = (region.copy(), result)
        return result
