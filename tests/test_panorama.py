"""Tiles: the tiled result is the untiled one, without seams, on real panoramas and real graphs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ASSETS
from exported import released
from networks import build, tiny
from PIL import Image

from dinn360.session import TorchSession
from engines.metadata import Metadata
from engines.panorama import Direction, Rescaler, Tile
from engines.session import open_session
from engines.sources import Samples, WholeSource
from engines.tiles import Plan

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
    tiles = rescaler.plan(source, tile)
    height, width = rescaler.lr_size(source)
    grown = rescaler.scale if rescaler.direction == "up" else 1
    blocks = list(rescaler.rescale(source, tiles, 16, (grown * height, grown * width), lambda: None))
    return np.concatenate(blocks).astype(np.float64) / 65535, tiles


@pytest.mark.parametrize(("height", "width"), [(128, 256), (123, 256), (124, 250)])
def test_tiles_change_nothing(rescaler: Rescaler, height: int, width: int) -> None:
    unit = rescaler.scale if rescaler.direction == "down" else 1
    image = picture("courtyard", unit * height - (unit - 1), unit * width)
    whole, one = rescaled(rescaler, image, "none")
    tiled, several = rescaled(rescaler, image, (32, 64))
    assert one.tiles == 1 and len(several.bands) > 2
    assert len(several.columns) == (4 if width % 8 == 0 else 1)
    assert np.abs(tiled - whole).max() <= 1e-5 + 1 / 65535  # 16-bit samples: one step of rounding


@pytest.mark.parametrize("direction", ["down", "up"])
def test_poles_that_depend_on_each_other(direction: Direction) -> None:
    """A network whose heads move the queries by pixels: the windows that join the poles must have their true mean."""
    network = build(tiny(2), std=0.3)
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
