"""Tiles of a static scene are decoded once, and the frames are those that decoding every tile gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from conftest import GraphMaker

from engines.panorama.metadata import Metadata
from engines.panorama.rescaler import Rescaler, Tile
from engines.panorama.sources import WholeSource
from engines.panorama.still import StillRescaler
from engines.session import open_session
from engines.support.arrays import Image8, Samples


def frame(rescaler: Rescaler, image: Samples, tile: Tile) -> Samples:
    source = WholeSource(Path("frame"), image, Metadata())
    size = (2 * image.shape[0], 2 * image.shape[1])
    return np.concatenate(list(rescaler.rescale(source, rescaler.plan(source, tile), 8, size, lambda: None)))


def test_only_what_changes_is_decoded(make_graph: GraphMaker, forest: Image8) -> None:
    tiles = {"scale": "2", "tile_align": "8", "tile_halo": "8", "bytes_per_pixel": "100"}
    image = np.ascontiguousarray(forest[:64, :256])
    moved = image.copy()
    moved[10:12, 100:103] += 1
    with open_session(make_graph("up", metadata=tiles), threads=1) as session:
        plain, still = Rescaler(session, "up"), StillRescaler(session, "up")
        steps = ((image, 4, 0), (image, 0, 4), (moved, 1, 3), (image, 1, 3), (image[:32], 4, 0), (image, 4, 0))
        for picture, computed, reused in steps:
            before = still.computed, still.reused
            found = frame(still, picture, (64, 64))
            assert (still.computed - before[0], still.reused - before[1]) == (computed, reused)
            assert np.array_equal(found, frame(plain, picture, (64, 64)))
        inside_a_halo = image.copy()
        inside_a_halo[5, 66] ^= 1  # of the second tile, and in the halo of the first
        frame(still, image, (64, 64))
        before = still.computed
        frame(still, inside_a_halo, (64, 64))
        assert still.computed == before + 2
