"""Every runtime computes what PyTorch computes, from one exported file, at any size.

fp32 to 1e-4; fp16 to 0.05 dB of the reconstruction and one level on one per cent of the LR values.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from exported import Case, checkpoint, export_case, released, shallow
from numpy.typing import NDArray
from ort_library import needs_library

from dinn360.checkpoint import load_checkpoint
from dinn360.evaluation.interpolation import resize
from engines.session import open_session
from engines.support.arrays import Image8, to_image, to_tensor
from export.graphs import Downscale, Upscale
from export.parity import (
    LEVELS,
    LOSS,
    MOVED,
    TOLERANCE,
    Row,
    compare,
    difference,
    pixel_difference,
    rounded_session,
    table,
    within,
)

# Random weights, none of them zero, and the deformation strong; and the released checkpoints, with all their layers.
RANDOM = ["edge x2", "edge x4", "edge x8", "base x2"]
RELEASED = ["x2", "x4", "x8", "x2-codec"]
Array = NDArray[np.float32]


@pytest.fixture(scope="session", params=[*RANDOM, *RELEASED])
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    *name, scale = request.param.split()
    network = shallow(name[0], int(scale[1:])) if name else load_checkpoint(checkpoint(scale)).build()
    return export_case(network, tmp_path_factory.mktemp(scale))


def pieces(forest: Image8, courtyard: Image8, scale: int) -> list[Array]:
    """Real panoramas at several sizes: round ones, odd ones, smaller than a window, a batch of 2."""
    sizes = [(32 * scale, 64 * scale), (25 * scale + 1, 49 * scale - 1), (5 * scale - 1, 9 * scale + 1)]
    singles = [to_tensor(resize(forest, size)) for size in sizes]
    pair = [to_tensor(resize(image, (11 * scale + 2, 23 * scale + 1))) for image in (forest, courtyard)]
    return [*singles, np.concatenate(pair)]


@pytest.mark.parametrize(
    "ops", ["standard", "primitive", *(pytest.param(ops, marks=needs_library) for ops in ("plugin", "cpu"))]
)
def test_graphs_equal_torch_at_every_size(case: Case, ops: str, forest: Image8, courtyard: Image8) -> None:
    down, up = Downscale(case.network).eval(), Upscale(case.network).eval()
    folder = case.folder / ops
    with open_session(folder / "down.onnx", 2) as first, open_session(folder / "up.onnx", 2) as second:
        for x in pieces(forest, courtyard, case.scale):
            with torch.inference_mode():
                y = down(torch.from_numpy(x)).numpy()
                # Not the network's own LR image: with random weights its reconstruction would be clipped flat.
                lr = np.clip(x[..., :: case.scale, :: case.scale], 0, 1).astype(np.float32)
                restored = up(torch.from_numpy(lr)).numpy()
            assert difference(first.run(hr=x)["lr"], y)[0] <= TOLERANCE, x.shape
            assert difference(second.run(lr=np.ascontiguousarray(lr))["hr"], restored)[0] <= TOLERANCE, x.shape
            assert ((restored > 0) & (restored < 1)).mean() > 0.3, "a clipped output would hide differences"


@pytest.mark.parametrize("case", RANDOM, indirect=True)
def test_deformation_is_part_of_what_is_compared(case: Case, forest: Image8) -> None:
    """Without it the outputs differ by several times the tolerance, so that parity means something."""
    x = torch.from_numpy(to_tensor(resize(forest, (16 * case.scale, 32 * case.scale))))
    with torch.inference_mode():
        deformed = case.network.downscale(x)
        case.network.set_deformation(False)
        plain = case.network.downscale(x)
        case.network.set_deformation(True)
    assert (deformed - plain).abs().max() > 5 * TOLERANCE


def test_the_released_checkpoint_on_a_real_panorama(courtyard: Image8) -> None:
    """What `python -m export check` prints for checkpoints/x4.pth, on a panorama that it was not trained on."""
    folder = released("x4")
    rows = compare(checkpoint("x4"), folder, courtyard)
    assert {(row.graph, row.reference) for row in rows} == {(g, r) for g in ("down", "up") for r in (True, False)}
    assert within(rows), table(rows, TOLERANCE)
    reference = next(row for row in rows if row.reference)
    assert all(abs(row.ws_psnr_y - reference.ws_psnr_y) < 0.01 for row in rows)
    assert (folder / "down.onnx").stat().st_size < (folder / "up.onnx").stat().st_size


def test_a_foreign_image_is_upscaled_as_by_super_resolution(forest: Image8) -> None:
    """An LR image that bicubic made, not our downscale: the result is a plausible panorama, not noise."""
    from dinn360.evaluation.metrics import luma, ws_psnr
    from dinn360.evaluation.validate import round_trip
    from engines.support.arrays import to_image

    network = load_checkpoint(checkpoint("x4")).build()
    image = forest[:, :512]
    small = resize(image, (128, 128), wrap=False)
    with torch.inference_mode():
        x = to_image(network.upscale(torch.from_numpy(to_tensor(small))).numpy())
    foreign = ws_psnr(luma(x), luma(image))
    own = ws_psnr(luma(round_trip(network, image)[1]), luma(image))
    nearest = ws_psnr(luma(small.repeat(4, 0).repeat(4, 1)), luma(image))
    assert nearest - 3 < foreign < own


def test_differences_are_judged() -> None:
    good = np.zeros((1, 3, 2, 2), np.float32)
    assert difference(good, good) == (0.0, 0.0, np.inf)
    bad = good.copy()
    bad[0, 0, 0, 0] = 0.5
    worst, mean, psnr = difference(bad, good)
    assert (worst, mean) == (0.5, 0.5 / 12)
    assert psnr == pytest.approx(-10 * np.log10(0.25 / 12))
    bad[0, 0, 0, 0] = np.nan
    assert difference(bad, good)[0] == np.inf


@pytest.mark.parametrize("name", RELEASED)
def test_fp16_costs_neither_decibels_nor_levels(name: str, forest: Image8) -> None:
    """The released checkpoints, every fp16 tensor rounded, on a strip of a panorama that they were not trained on."""
    folder = released(name, lowering="primitive", precision="fp16")
    rows = compare(checkpoint(name), folder, np.ascontiguousarray(forest[192:320]))
    assert sum(row.runtime.endswith("fp16 rounded") for row in rows) == 2
    assert within(rows), table(rows, TOLERANCE)
    for row in rows:
        assert row.reference or row.worst > TOLERANCE / 5, "fp32 in disguise"


def test_the_error_of_fp16_does_not_grow_with_the_width(forest: Image8) -> None:
    """The same pixels again and again around the circle: a coordinate in fp16 would lose them from column 1024 on."""
    folder = released("x4", lowering="primitive", precision="fp16")
    network = load_checkpoint(checkpoint("x4")).build()
    down, up = Downscale(network).eval(), Upscale(network).eval()
    strip = np.ascontiguousarray(forest[240:272])
    errors: dict[int, tuple[float, float]] = {}
    with rounded_session(folder / "down.onnx", 1) as first, rounded_session(folder / "up.onnx", 1) as second:
        for width in (1024, 2048, 4096, 8192):
            image = np.tile(strip, (1, width // strip.shape[1], 1))
            with torch.inference_mode():
                lr = down(torch.from_numpy(to_tensor(image))).numpy()
                stored = to_tensor(to_image(lr))
                hr = up(torch.from_numpy(stored)).numpy()
            found = first.run(hr=to_tensor(image))["lr"]
            levels, moved = pixel_difference(to_image(found), to_image(lr))
            assert levels <= LEVELS and moved <= MOVED, (width, levels, moved)
            restored = second.run(lr=stored)["hr"]
            errors[width] = difference(found, lr)[1], difference(restored, hr)[1]
    for width, pair in errors.items():
        assert all(wide < 1.1 * narrow for wide, narrow in zip(pair, errors[1024], strict=True)), (width, errors)


def test_fp16_is_judged_by_decibels_and_levels() -> None:
    good = Row("down", "onnxruntime", 2e-3, 1e-5, 80.0, 1, 0.009, 30.0, 0.04, 1.0, by_pixels=True)
    assert good.fault() is None and within([good])
    assert replace(good, by_pixels=False).fault() == "beyond 0.0001"
    assert replace(good, levels=2).fault() == "beyond 1 level"
    assert replace(good, moved=0.011).fault() == "moves more than 1% of the values"
    assert replace(good, graph="up", levels=9, moved=1.0).fault() is None
    for loss in (LOSS + 0.01, np.inf, np.nan):
        assert replace(good, loss=loss).fault() == "loses more than 0.05 dB"
