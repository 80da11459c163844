"""Tiles: the tiled result is the untiled one, without seams, on real panoramas and real graphs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from conftest import ASSETS, GraphMaker
from exported import checkpoint, released
from networks import build, tiny
from onnx import TensorProto, helper
from PIL import Image

from dinn360.checkpoint import load_checkpoint
from dinn360.networks import build_network
from dinn360.session import TorchSession
from engines.panorama.graph import Direction
from engines.panorama.metadata import Metadata
from engines.panorama.rescaler import Rescaler, Tile
from engines.panorama.sources import WholeSource
from engines.panorama.tiles import Plan
from engines.session import open_session
from engines.support.arrays import Samples
from engines.support.errors import UserError

Picture = np.ndarray[Any, np.dtype[Any]]


@pytest.fixture(scope="module", params=["down", "up"])
def rescaler(request: pytest.FixtureRequest) -> Iterator[Rescaler]:
    """Both graphs of the released x2 checkpoint."""
    with open_session(released("x2") / f"{request.param}.onnx", threads=1) as session:
        yield Rescaler(session, request.param)


def picture(name: str, height: int, width: int) -> Samples:
    """A shipped panorama at another size."""
    with Image.open(ASSETS / f"{name}.png") as image:
        return np.asarray(image.convert("RGB").resize((width, height), Image.Resampling.LANCZOS))


def rescaled(rescaler: Rescaler, image: Samples, tile: Tile) -> tuple[Picture, Plan]:
    """The result before it is rounded, and its tiles."""
    source = WholeSource(Path("panorama.png"), image, Metadata())
    tiles = rescaler.plan(source, tile, 16)
    height, width = rescaler.lr_size(source)
    grown = rescaler.scale if rescaler.direction == "up" else 1
    blocks = list(rescaler.rescale(source, tiles, 16, (grown * height, grown * width), lambda: None))
    return np.concatenate(blocks).astype(np.float64) / 65535, tiles


@pytest.mark.parametrize(("height", "width"), [(128, 256), (123, 256), (124, 251)])
def test_tiles_change_nothing(rescaler: Rescaler, height: int, width: int) -> None:
    unit = rescaler.scale if rescaler.direction == "down" else 1
    image = picture("courtyard", unit * height - (unit - 1), unit * width)
    whole, one = rescaled(rescaler, image, "none")
    tiled, several = rescaled(rescaler, image, (32, 64))
    assert one.tiles == 1 and len(several.bands) > 2
    assert len(several.columns) == (4 if width % 8 == 0 else 1)
    assert np.abs(tiled - whole).max() <= 1e-5 + 1 / 65535  # 16-bit samples: one step of rounding


@pytest.mark.parametrize("direction", ["down", "up"])
def test_halos_are_shorter_than_receptive_fields(direction: Direction) -> None:
    with open_session(released("x2") / f"{direction}.onnx", threads=1) as session:
        rescaler = Rescaler(session, direction)
        halo, reach = (int(session.metadata[key]) for key in ("tile_halo", "receptive_field"))
        assert 8 <= halo <= reach * 2 / 3
        unit = rescaler.scale if direction == "down" else 1
        image = picture("courtyard", unit * 168, unit * 32)
        whole, _ = rescaled(rescaler, image, "none")
        tiled, several = rescaled(rescaler, image, (32, 32))
    assert len(several.bands) > 2
    assert np.abs(tiled - whole).max() <= 1e-5 + 1 / 65535


@pytest.mark.parametrize("direction", ["down", "up"])
def test_a_margin_shows_neither_in_tiles_nor_at_the_seam(direction: Direction) -> None:
    """Flat DINN360 extends whole panoramas and tiles around the circle by a margin, where others wrap every layer."""
    content = load_checkpoint(checkpoint("x4"))
    unit = content.config.scale if direction == "down" else 1
    image = picture("courtyard", unit * 96, unit * 192)

    def run(margin: int, tile: Tile) -> tuple[Picture, Plan]:
        network = build_network(replace(content.config, margin=margin))  # type: ignore[call-arg]
        network.load_state_dict(content.weights)
        return rescaled(Rescaler(TorchSession(network.eval(), direction, Path("flat.pth")), direction), image, tile)

    (whole, _), (short, _), (exact, _), (tiled, several) = (
        run(16, "none"),
        run(2, "none"),
        run(0, "none"),
        run(16, (32, 64)),
    )
    assert (len(several.bands), len(several.columns)) == (1, 3)
    for other in (exact, tiled):
        assert np.abs(other - whole).max() <= 1e-5 + 1 / 65535
    assert np.abs(short - exact).max() > 1 / 255  # the control


@pytest.mark.parametrize("direction", ["down", "up"])
def test_poles_that_depend_on_each_other(direction: Direction) -> None:
    """A network whose heads move the queries by pixels: the windows that join the poles must have their true mean."""
    network = build(tiny(2), std=0.2)
    rescaler = Rescaler(TorchSession(network, direction, Path("tiny.pth")), direction)
    unit = rescaler.scale if direction == "down" else 1
    image = picture("forest", unit * 450, unit * 16)
    whole, _ = rescaled(rescaler, image, "none")
    tiled, tiles = rescaled(rescaler, image, (32, 16))
    assert len(tiles.bands) > 1
    assert np.abs(tiled - whole).max() <= 1e-5 + 1 / 65535


def test_a_turned_panorama_gives_the_turned_result(rescaler: Rescaler) -> None:
    unit = rescaler.scale if rescaler.direction == "down" else 1
    image = picture("forest", unit * 96, unit * 192)
    turn = 64  # a multiple of the attention window
    straight, _ = rescaled(rescaler, image, (32, 64))
    turned, _ = rescaled(rescaler, np.roll(image, unit * turn, axis=1), (32, 64))
    out = rescaler.scale * turn if rescaler.direction == "up" else turn
    assert np.abs(np.roll(straight, out, axis=1) - turned).max() <= 1e-5 + 1 / 65535


@pytest.mark.parametrize("direction", ["down", "up"])
def test_graphs_with_8_bit_io(tmp_path: Path, direction: Direction) -> None:
    """A graph that takes and gives uint8 (B, H, W, 3), here one that drops or repeats pixels."""
    source, result = ("hr", "lr") if direction == "down" else ("lr", "hr")
    names = ["batch", "height", "width", 3]
    factor = 0.5 if direction == "down" else 2.0
    resize = helper.make_node(
        "Resize", [source, "", "scales"], [result], mode="nearest", coordinate_transformation_mode="asymmetric"
    )
    graph = helper.make_graph(
        [resize],
        direction,
        [helper.make_tensor_value_info(source, TensorProto.UINT8, names)],
        [helper.make_tensor_value_info(result, TensorProto.UINT8, ["batch", None, None, 3])],
        [helper.make_tensor("scales", TensorProto.FLOAT, [4], [1.0, factor, factor, 1.0])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=10)
    helper.set_model_props(model, {"scale": "2"})
    onnx.save(model, tmp_path / "graph.onnx")
    image = picture("forest", 16, 32)
    with open_session(tmp_path / "graph.onnx", threads=1) as session:
        found, _ = rescaled(Rescaler(session, direction), image, "none")
    expected = image[::2, ::2] if direction == "down" else image.repeat(2, axis=0).repeat(2, axis=1)
    assert np.array_equal(found * 255, expected)


def test_graphs_that_cannot_be_told_where_a_tile_lies(make_graph: GraphMaker) -> None:
    tile_data = {"tile_align": "8", "tile_halo": "8", "bytes_per_pixel": "1000000"}
    source = WholeSource(Path("panorama.png"), picture("forest", 128, 256), Metadata())
    with open_session(make_graph("up", metadata={"scale": "2", **tile_data}), threads=1) as session:
        rescaler = Rescaler(session, "up")
        assert rescaler.plan(source, "auto").tiles == 1
        assert rescaler.plan(source, (128, 64)).tiles == 4  # columns need no latitude
        with pytest.raises(UserError, match=r"up\.onnx: this graph cannot be told where a tile lies"):
            rescaler.plan(source, (32, 64))
    with open_session(make_graph("down", metadata={"scale": "2", **tile_data}), threads=1) as session:
        assert Rescaler(session, "down").plan(source, "auto").tiles > 1
