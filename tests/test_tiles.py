"""How a panorama is cut: every pixel once, regions on the grid, poles and the circle respected."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from engines.panorama.tiles import MEMORY, automatic, plan

SIZES = st.tuples(st.integers(1, 400), st.integers(1, 400))
TILES = st.tuples(st.integers(1, 120), st.integers(1, 120))


@given(SIZES, TILES, st.integers(0, 40), st.sampled_from([1, 4, 8]))
def test_every_pixel_is_kept_once_and_regions_lie_on_the_grid(
    size: tuple[int, int], tile: tuple[int, int], halo: int, align: int
) -> None:
    height, width = size
    tiles = plan(height, width, tile, halo, align)
    kept = np.zeros(size, int)
    for band in tiles.bands:
        for columns in tiles.columns:
            for span in band:
                kept[span.start : span.stop, columns.start : columns.stop] += 1
    assert (kept == 1).all()
    for span in [*tiles.columns, *(span for band in tiles.bands for span in band)]:
        assert span.first % align == 0 and span.first <= span.start < span.stop <= span.last
    for span in tiles.columns:  # a region never overlaps itself around the circle
        assert span.length <= width
        assert (span.first, span.last) == (0, width) or min(span.start - span.first, span.last - span.stop) >= halo


@given(SIZES, TILES, st.integers(0, 40), st.sampled_from([1, 4, 8]))
def test_rows_see_their_halo_or_a_pole(size: tuple[int, int], tile: tuple[int, int], halo: int, align: int) -> None:
    height, width = size
    tiles = plan(height, width, tile, halo, align)
    for band in tiles.bands:
        above, below, between, at = tiles.omitted(band)
        rows = np.concatenate([np.arange(span.first, span.last) for span in band])
        assert len(rows) + above + below + between == height
        assert np.array_equal(rows, above + np.arange(len(rows)) + between * (np.arange(len(rows)) >= at))
        for span in band:
            assert span.start - span.first >= halo or span.first == 0
            assert span.last - span.stop >= halo or span.last == height
        if len(band) == 2:
            assert (band[0].first, band[1].last, at % align) == (0, height, 0)
        elif len(tiles.bands) > 1:  # a band in the middle stays off the poles, whose windows it does not have
            assert 0 < band[0].first and band[0].last < height


def test_automatic_tiles_stay_within_the_memory() -> None:
    assert automatic(256, 512, 1000, 16, 8) is None
    tile = automatic(8192, 16384, 1500, 16, 8)
    assert tile is not None
    assert (tile[0] + 32) * (tile[1] + 32) * 1500 <= MEMORY
    assert automatic(8192, 16383, 1500, 16, 8) == (8, 16383)  # full width, as the circle is no multiple of the window
    assert automatic(8192, 16384, 1500, 200, 8) == (118, 118)
