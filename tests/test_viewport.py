"""Views of a panorama that is decoded where somebody looks: the pixels are those of the panorama decoded as a whole."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import ASSETS, GraphMaker
from exported import released
from hypothesis import given
from hypothesis import strategies as st
from networks import build, tiny
from PIL import Image
from scipy.ndimage import map_coordinates
from scipy.spatial.transform import Rotation

from dinn360.session import TorchSession
from engines.cli import main
from engines.panorama.camera import View
from engines.panorama.halo import choose_halo
from engines.panorama.metadata import Metadata
from engines.panorama.regions import Grid, regions
from engines.panorama.rescaler import Rescaler
from engines.panorama.sources import WholeSource
from engines.panorama.tile_cache import Pixels, TileCache
from engines.panorama.viewport import Viewports
from engines.session import open_session
from engines.support.arrays import Samples

VIEWS = (
    View(30, -10, 0, 100, 160, 90),
    View(180, 5, 10, 60, 160, 90),  # the seam
    View(150, 40, 0, 120, 160, 90),  # so wide that a region is the whole circle, from its own start on
    View(-75, 90, 0, 100, 160, 90),  # straight up
    View(10, -80, 30, 120, 90, 160),  # the south pole inside, upright
)


def expected(panorama: Samples, view: View) -> np.ndarray:
    """The view by other means: scipy's rotations and interpolation, on a panorama that is padded beyond its edges."""
    height, width = panorama.shape[:2]
    focal = view.width / 2 / np.tan(np.radians(view.fov / 2))
    row, column = np.mgrid[: view.height, : view.width]
    rays = np.stack(
        [column + 0.5 - view.width / 2, view.height / 2 - row - 0.5, np.full(row.shape, focal)], axis=-1
    ).reshape(-1, 3)  # right, up, forward
    turn = Rotation.from_euler("zxy", [-view.roll, -view.pitch, view.yaw], degrees=True)
    right, up, forward = (turn.apply(rays) / np.linalg.norm(rays, axis=1, keepdims=True)).T
    x = (np.arctan2(right, forward) / (2 * np.pi) + 0.5) * width - 0.5
    y = (0.5 - np.arcsin(up) / np.pi) * height - 0.5
    beyond = [np.roll(edge, width // 2, axis=1) for edge in (panorama[:1], panorama[-1:])]
    padded = np.concatenate([beyond[0], panorama, beyond[1]])
    padded = np.concatenate([padded[:, -1:], padded, padded[:, :1]], axis=1).astype(float)
    planes = [map_coordinates(padded[..., c], [y + 1, x + 1], order=1) for c in range(3)]
    return np.stack(planes, axis=-1).reshape(view.height, view.width, 3)


def decoded(rescaler: Rescaler, source: WholeSource) -> Samples:
    """The whole panorama, in one piece."""
    size = (rescaler.scale * source.height, rescaler.scale * source.width)
    return np.concatenate(list(rescaler.rescale(source, rescaler.plan(source, "none"), 8, size, lambda: None)))


def lr(name: str, height: int, width: int) -> WholeSource:
    """A shipped panorama as an LR picture."""
    with Image.open(ASSETS / f"{name}.png") as image:
        small = image.convert("RGB").resize((width, height), Image.Resampling.LANCZOS)
    return WholeSource(Path("lr.png"), np.asarray(small), Metadata())


@pytest.fixture(scope="module")
def rescaler() -> Iterator[Rescaler]:
    """The released x4 checkpoint."""
    with open_session(released("x4") / "up.onnx", threads=1) as session:
        yield Rescaler(session, "up")


def test_views_are_those_of_the_whole_panorama(rescaler: Rescaler) -> None:
    source = lr("courtyard", 128, 256)
    whole = decoded(rescaler, source)
    panorama = Viewports(rescaler, source, (whole.shape[0], whole.shape[1]))
    for view in VIEWS:
        before = panorama.decoded
        found = panorama.render(view)
        apart = np.abs(found - expected(whole, view))
        assert found.std() > 10 and apart.max() <= 1.51  # the other way is not rounded
        assert np.mean(np.abs(found.astype(int) - np.rint(expected(whole, view))) > 0) <= 0.01
        assert panorama.decoded > before or view is VIEWS[1]
    assert panorama.cached == sum(tile.nbytes for tile in panorama._cache._held.values()) > 0
    at_the_horizon = Viewports(rescaler, source, (whole.shape[0], whole.shape[1]))
    at_the_horizon.render(View(0, 0, 0, 60, 96, 54))
    assert at_the_horizon.decoded < 0.35 * at_the_horizon.lr_pixels


def test_a_short_halo_keeps_what_it_promises(rescaler: Rescaler) -> None:
    """On photographs, which the table was not measured on."""
    assert choose_halo(rescaler.session, exact=False) < choose_halo(rescaler.session, exact=True)
    for name in ("courtyard", "forest"):
        source = lr(name, 128, 256)
        size = (512, 1024)
        whole = decoded(rescaler, source).astype(int)
        tiles = rescaler.plan(source, (64, 64))
        assert len(tiles.bands) * len(tiles.columns) > 1
        apart = np.abs(np.concatenate(list(rescaler.rescale(source, tiles, 8, size, lambda: None))) - whole)
        assert apart.max() <= 1 and np.mean(apart > 0) <= 1e-4


def test_old_graphs_and_broken_tables(make_graph: GraphMaker) -> None:
    tiles = {"scale": "2", "tile_align": "8", "tile_halo": "32", "bytes_per_pixel": "100"}
    table = '{"8": [0.01, 0.1], "16": [0.00009, 0.0001], "24": [0, 0]}'
    for text, wanted in ((None, 32), (table, 16), ("{}", 32)):
        metadata = tiles if text is None else {**tiles, "tile_halo_errors": text}
        with open_session(make_graph("up", metadata=metadata), threads=1) as session:
            assert choose_halo(session, exact=False) == wanted and choose_halo(session, exact=True) == 32
    broken = make_graph("up", metadata={**tiles, "tile_halo_errors": '{"8": 3}'})
    command = ["upscale", str(ASSETS / "forest.png"), "x.png", "--model", str(broken), "--tile", "64x64"]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 2 and "tile_halo_errors: expected halos with two numbers" in result.stderr


def test_one_pole_without_the_other() -> None:
    """A network whose heads move queries by pixels: a view of one pole has the true mean of the windows that join it
    with the other."""
    rescaler = Rescaler(TorchSession(build(tiny(2), std=0.2), "up", Path("tiny.pth")), "up", exact=True)
    source = lr("forest", 450, 16)
    whole = decoded(rescaler, source)
    for pitch in (90, -90):
        panorama = Viewports(rescaler, source, (whole.shape[0], whole.shape[1]))
        view = View(0, pitch, 0, 40, 64, 64)
        apart = np.abs(panorama.render(view) - expected(whole, view))
        assert apart.max() <= 1.51 and np.mean(apart > 0.51) <= 0.01
        assert panorama.decoded < 0.9 * panorama.lr_pixels


@given(
    st.tuples(st.integers(1, 300), st.integers(1, 300)),
    st.integers(16, 80),
    st.integers(0, 40),
    st.sampled_from([1, 8]),
    st.randoms(use_true_random=False),
)
def test_regions_hold_the_tiles_and_their_halo(size, side, halo, align, random) -> None:  # type: ignore[no-untyped-def]
    grid = Grid.cut(*size, side, halo, align)
    every = [(row, column) for row in range(len(grid.rows) - 1) for column in range(grid.across)]
    wanted = random.sample(every, random.randint(1, min(len(every), 12)))
    found = regions(grid, wanted, most=20000)
    assert set(wanted) <= {tile for region in found for tile in grid.tiles(region)}
    for region in found:
        rows, columns = grid.spans(region)
        assert grid.area(region) <= 20000 or len(grid.tiles(region)) == 1
        assert columns.first % align == 0 and columns.length <= grid.width
        assert columns.length == grid.width or columns.start - columns.first == columns.last - columns.stop == grid.halo
        kept = [span for span in rows if span.stop > span.start]
        assert len(kept) == 1 and (kept[0].start, kept[0].stop) == (grid.rows[region.top], grid.rows[region.bottom])
        for span in rows:
            assert span.first % align == 0 and 0 <= span.first <= span.last <= grid.height
        near = kept[0]
        assert near.first == 0 or near.start - near.first >= halo
        assert near.last == grid.height or near.last - near.stop >= halo
        if align > 1 and (rows[0].first == 0) != (rows[-1].last == grid.height):
            raise AssertionError("a region at one pole without the other's halo")


def test_the_cache_keeps_its_limit_and_makes_nothing_twice() -> None:
    made: list[int] = []

    def make(keys: list[int]) -> dict[int, Pixels]:
        time.sleep(0.01)
        made.extend(keys)
        return {key: np.full(100, key, np.uint8) for key in keys}

    cache: TileCache[int] = TileCache(500)
    threads = [threading.Thread(target=cache.get, args=([1, 2, 3], make)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(made) == [1, 2, 3] and cache.bytes == 300
    assert [tile[0] for tile in cache.get(range(4, 8), make).values()] == [4, 5, 6, 7] and cache.bytes == 500
    cache.get([3], make)  # the oldest that is left
    cache.get([8], make)
    assert sorted(made) == [1, 2, 3, 4, 5, 6, 7, 8] and cache.bytes == 500
    assert set(cache.get(range(10, 20), make)) == set(range(10, 20)) and cache.bytes == 500  # more than it holds


def test_looking_ahead_leaves_nothing_to_do(rescaler: Rescaler) -> None:
    source = lr("forest", 64, 128)
    with Viewports(rescaler, source, (256, 512), side=16) as panorama:
        view = View(20, 0, 0, 70, 64, 48)
        panorama.look_ahead(View(15, 0, 0, 70, 64, 48))
        deadline = time.monotonic() + 60
        while not panorama.cached:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        before = panorama.decoded
        panorama.render(view)
        assert panorama.decoded == before > 0


def test_the_command(tmp_path: Path, rescaler: Rescaler) -> None:
    small, out = tmp_path / "lr.png", tmp_path / "view.png"
    Image.fromarray(lr("courtyard", 64, 128).rows(0, 64)).save(small)
    model = str(rescaler.session.path)
    base = ["view", str(small), str(out), "--model", model, "--threads", "1", "--size", "96x64", "--pitch", "20"]
    result = CliRunner().invoke(main, [*base, "--foreign"])
    assert result.exit_code == 0 and "of the panorama decoded" in result.stdout, result.output
    told = json.loads(CliRunner().invoke(main, [*base, "--foreign", "--overwrite", "--json"]).stdout)
    assert (told["width"], told["height"]) == (96, 64) and 0 < told["decoded"] < 1
    with Image.open(out) as picture:
        assert picture.size == (96, 64)
    for more, message in (
        ([], "view.png: is there already"),
        (["--overwrite", "--fov", "180"], "'--fov': 180.0 is not in the range 0<x<=170"),
        (["--overwrite", "--pitch", "91"], "'--pitch': 91.0 is not in the range -90<=x<=90"),
        (["--overwrite", "--model", str(rescaler.session.path.with_name("down.onnx"))], "expected an upscaling graph"),
    ):
        result = CliRunner().invoke(main, [*base, *more])
        assert result.exit_code == 2 and result.stderr.count("\n") == 1 and message in result.stderr, result.output
