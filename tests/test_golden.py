"""Golden figures: PyTorch and every lowering against numbers that a change of the code cannot move along."""

from __future__ import annotations

import json
import math

import golden
import numpy as np
import pytest
import torch
from exported import released
from ort_library import needs_library
from torch import Tensor

from dinn360.checkpoint import load_checkpoint
from dinn360.networks.flat import Function
from dinn360.networks.invertible import bounded
from dinn360.sphere import Frame, distortion_map
from engines.session import open_session
from engines.support.arrays import Image8, to_image, to_tensor
from engines.support.files import sha256_of

CLOSE = 0.01  # dB
MOVED = 0.001  # share of the LR image's 8-bit values that may differ, by one level: another order of the same sums
OURS = ("plugin", "cpu")
FIGURES = json.loads(golden.FIGURES.read_text(encoding="utf-8"))


def assert_golden(name: str, lr: Image8, quality: float) -> None:
    apart = np.abs(lr.astype(int) - golden.lr_image(name))
    assert apart.max() <= 1 and (apart > 0).mean() <= MOVED, (apart.max(), (apart > 0).mean())
    assert abs(quality - FIGURES[name]["ws_psnr_y"]) <= CLOSE, quality


@pytest.mark.parametrize("name", golden.NAMES)
def test_pytorch_gives_the_golden_figures(name: str) -> None:
    digest = sha256_of(golden.ROOT / "checkpoints" / f"{name}.pth")
    assert digest == FIGURES[name]["checkpoint_sha256"], "another checkpoint: run python tests/golden.py"
    assert_golden(name, *golden.in_torch(name))


@pytest.mark.parametrize("name", golden.NAMES)
@pytest.mark.parametrize(
    "ops",
    ["standard", "primitive", pytest.param("plugin", marks=needs_library), pytest.param("cpu", marks=needs_library)],
)
def test_every_lowering_gives_the_golden_figures(name: str, ops: str) -> None:
    folder = released(name, lowering=ops)
    with open_session(folder / "down.onnx") as session:
        lr = to_image(session.run(hr=to_tensor(golden.panorama()))["lr"])
    with open_session(folder / "up.onnx") as session:
        hr = to_image(session.run(lr=to_tensor(lr))["hr"])
    assert_golden(name, lr, golden.decibels(hr))


@pytest.mark.parametrize("name", ["x2", "x4"])
def test_released_networks_use_their_features(name: str) -> None:
    """Features that are zero everywhere compute nothing: ReLU left whole functions of earlier ones so."""
    network = load_checkpoint(golden.ROOT / "checkpoints" / f"{name}.pth").build()
    seen: list[Tensor] = []
    functions = [module for module in network.modules() if isinstance(module, Function)]
    assert len(functions) == 8
    for function in functions:
        function.last.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.inference_mode():
        network.downscale(torch.from_numpy(to_tensor(golden.panorama())))
    assert all((features.std(dim=(0, 2, 3)) > 1e-4).float().mean() > 0.9 for features in seen)


def test_the_bounded_log_scale_by_hand() -> None:
    """0.318 * atan(2x): atan(1) is a quarter of pi, and the limit is just below 1/2."""
    x = torch.tensor([0.0, 0.5, -0.5, 1e6])
    expected = [0.0, 0.318 * math.pi / 4, -0.318 * math.pi / 4, 0.4995]
    np.testing.assert_allclose(bounded(x).numpy(), expected, atol=5e-5)


POLE, EQUATOR = 0.38268343, 0.92387953  # cosines of 67.5 and 22.5 degrees: the latitudes of the rows of four


def test_latitudes_by_hand() -> None:
    like = torch.zeros(1, 3, 4, 8)
    np.testing.assert_allclose(Frame().latitude(like, 1).flatten(), [POLE, EQUATOR, EQUATOR, POLE], atol=1e-6)
    two = like[:, :, :2]
    crop = Frame(False, torch.tensor([2]), torch.tensor([4]))
    np.testing.assert_allclose(crop.latitude(two, 1).flatten(), [EQUATOR, POLE], atol=1e-6)
    np.testing.assert_allclose(crop.latitude(two[:, :, :1], 2).flatten(), [math.sqrt(0.5)], atol=1e-6)


@pytest.mark.parametrize(
    ("omitted", "expected"),
    [
        ([0, 2, 0, 0], [POLE, EQUATOR]),
        ([2, 0, 0, 0], [EQUATOR, POLE]),
        ([1, 1, 0, 0], [EQUATOR, EQUATOR]),
        ([0, 0, 2, 1], [POLE, POLE]),
    ],
    ids=["top", "bottom", "middle", "both caps"],
)
def test_latitudes_of_tiles_by_hand(omitted: list[int], expected: list[float]) -> None:
    """Two rows of four: above, below and between are missing."""
    found = distortion_map(torch.zeros(1, 3, 2, 8), torch.tensor(omitted), 1)
    np.testing.assert_allclose(found.flatten(), expected, atol=1e-6)
    of_tile = Frame.of_tile(torch.tensor(omitted), 4).latitude(torch.zeros(1, 3, 2, 8), 4)
    np.testing.assert_allclose(of_tile.flatten(), expected, atol=1e-6)
