"""The laws of the network, all with weights that leave no layer trivial."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from networks import build, picture, randomise, tiny
from torch import Tensor, nn

from dinn360.configs import config_from_dict
from dinn360.networks import DINN360, PRESETS, LevelConfig, build_network, preset
from dinn360.networks.errors import ConfigError
from dinn360.networks.layers import DST
from dinn360.sphere import Frame, wrap_columns
from engines.support.arrays import Image8

CROP = Frame(wrap=False)


@pytest.fixture(autouse=True)
def _no_gradients() -> None:
    torch.set_grad_enabled(False)


@pytest.fixture(autouse=True, scope="module")
def _gradients_afterwards() -> object:
    yield
    torch.set_grad_enabled(True)


def box_mean(x: Tensor, scale: int) -> Tensor:
    return torch.nn.functional.avg_pool2d(x, scale)


def round_trip_error(network: DINN360, x: Tensor, frame: Frame) -> float:
    """Largest error of split -> project -> upscale with the true z."""
    y, high, kept = network.split(x, frame)
    z = network.project(high, y, frame, kept)
    recovered = network.project(high, y, frame)  # the kept parts computed anew from y and h
    for a, b in zip(z, recovered, strict=True):
        assert (a - b).abs().max() < 1e-3
    return float((network.upscale(y, z, frame=frame) - x).abs().max())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [2, 4, 8])
def test_the_round_trip_with_the_true_latents_is_exact(scale: int, dtype: torch.dtype) -> None:
    network = build(preset("edge", scale)).to(dtype)
    x = picture(8 * scale, 16 * scale, dtype=dtype)
    y = network.split(x).y
    assert 0.05 < float((y - box_mean(x, scale)).abs().mean()) < 10  # the blocks do something, within reason
    assert round_trip_error(network, x, Frame()) < (1e-4 if dtype == torch.float32 else 1e-10)


@pytest.mark.parametrize("frame", [Frame(), CROP], ids=["panorama", "crop"])
def test_the_round_trip_at_a_size_that_fits_no_window(frame: Frame) -> None:
    network = build(preset("edge", 4)).double()
    assert round_trip_error(network, picture(20, 44, dtype=torch.float64), frame) < 1e-10


def test_the_round_trip_of_the_base_preset() -> None:
    network = build(preset("base", 2), std=0.02)
    x = picture(16, 32)
    assert float((network.split(x).y - box_mean(x, 2)).abs().mean()) > 0.02
    assert round_trip_error(network, x, Frame()) < 1e-4


@pytest.mark.parametrize("scale", [2, 4])
def test_rolling_the_panorama_rolls_both_images(scale: int) -> None:
    network = build(preset("edge", scale))
    period = scale * network.config.window
    x = picture(4 * scale, 3 * period)
    y = network.downscale(x)
    assert (network.downscale(x.roll(period, 3)) - y.roll(period // scale, 3)).abs().max() <= 1e-5
    z = network.upscale(y)
    assert (network.upscale(y.roll(period // scale, 3)) - z.roll(period, 3)).abs().max() <= 2e-5


def test_rolling_by_any_multiple_of_the_scale_without_dst() -> None:
    network = build(replace(preset("edge", 4), dst=False))
    x = picture(16, 44)
    y = network.downscale(x)
    for columns in (1, 2, 5):
        assert (network.downscale(x.roll(4 * columns, 3)) - y.roll(columns, 3)).abs().max() <= 1e-5


def test_rolling_a_crop_does_not_roll_the_result() -> None:
    """The control: without wrap there is a seam, and the law above sees it."""
    network = build(preset("edge", 4))
    x = picture(16, 96)
    y = network.downscale(x, CROP)
    assert (network.downscale(x.roll(32, 3), CROP) - y.roll(8, 3)).abs().max() > 1e-3


def test_an_axis_of_repeated_columns_stays_so() -> None:
    """Two turns around the circle give the same image twice: beside the last column lies the first."""
    network = build(preset("edge", 4))
    x = picture(16, 32)
    y = network.downscale(x)
    twice = network.downscale(torch.cat([x, x], dim=3))
    torch.testing.assert_close(twice, torch.cat([y, y], dim=3), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 3), (5, 9), (17, 33), (8, 64)])
@pytest.mark.parametrize("scale", [2, 4, 8])
def test_any_size(scale: int, height: int, width: int) -> None:
    network = build(tiny(scale))
    y = network.downscale(picture(height, width))
    assert y.shape == (1, 3, -(-height // scale), -(-width // scale)) and bool(y.isfinite().all())
    x = network.upscale(y)
    assert x.shape == (1, 3, y.shape[2] * scale, y.shape[3] * scale) and bool(x.isfinite().all())
    assert torch.equal(network.upscale(y, size=(height, width)), x[..., :height, :width])


def test_a_batch_is_each_image_by_itself() -> None:
    network = build(preset("edge", 4))
    x = torch.cat([picture(16, 36, seed) for seed in range(2)])
    y = network.downscale(x)
    torch.testing.assert_close(y[1:], network.downscale(x[1:]), atol=1e-5, rtol=0)
    torch.testing.assert_close(network.upscale(y)[1:], network.upscale(y[1:]), atol=2e-5, rtol=0)


@pytest.mark.parametrize("reduction", [1, 2, 4])
def test_a_crop_has_the_latitude_of_its_rows(reduction: int) -> None:
    whole = torch.zeros(1, 1, 256 // reduction, 8)
    crop = torch.zeros(2, 1, 32 // reduction, 8)
    latitude = Frame().latitude(whole, reduction)
    assert latitude.shape == (1, 1, 256 // reduction, 1)
    assert float(latitude.max()) > 0.999 and 0 < float(latitude.min()) < 0.03 * reduction
    frame = Frame(False, torch.tensor([96, 192]), torch.tensor([256, 256]))
    for got, top in zip(frame.latitude(crop, reduction), (96, 192), strict=True):
        rows = slice(top // reduction, (top + 32) // reduction)
        torch.testing.assert_close(got, latitude[0, :, rows], atol=1e-6, rtol=0)


def test_latitude_is_a_height_on_the_sphere_whatever_the_dtype() -> None:
    like = torch.zeros(1, 1, 64, 1)
    exact = Frame().latitude(like, 1)
    short = Frame().latitude(like.bfloat16(), 1)
    assert short.dtype == torch.bfloat16 and (short.float() - exact).abs().max() < 0.005


def test_upscaling_a_crop_depends_on_its_latitude() -> None:
    network = build(tiny(2))
    y = picture(8, 12)

    def at(top: int) -> Tensor:
        return network.upscale(y, frame=Frame(False, torch.tensor([top]), torch.tensor([256])))

    assert (at(0) - at(120)).abs().max() > 1e-4
    network = build(tiny(2, latitude_head=False))
    assert torch.equal(at(0), at(120))


def test_the_middle_of_a_tall_panorama_is_upscaled_as_within_it() -> None:
    """A crop far from its own edges gives what the whole panorama gives there, if its rows are declared."""
    network = build(tiny(2, dst=False, max_offset=1.0))
    network.set_deformation(False)
    y = picture(128, 24)
    whole = network.upscale(y)
    top = 40
    crop = wrap_columns(y, 24)[..., top : top + 64, :]
    frame = Frame(False, torch.tensor([2 * top]), torch.tensor([256]))
    inner = network.upscale(crop, frame=frame)[..., 56:72, 60:84]
    expected = whole[..., 2 * top + 56 : 2 * top + 72, 12:36]
    torch.testing.assert_close(inner, expected, atol=1e-5, rtol=0)
    undeclared = network.upscale(crop, frame=CROP)[..., 56:72, 60:84]
    assert (undeclared - expected).abs().max() > 1e-4


@pytest.mark.parametrize("scale", [2, 4])
def test_each_switch_changes_the_network(scale: int) -> None:
    config = preset("edge", scale)
    full = build(config)
    y = picture(8, 16)
    down, up = full.downscale(y), full.upscale(y)
    for name in ("deform", "dst", "latitude_head", "content_head"):
        other = DINN360(replace(config, **{name: False}))
        weights = full.state_dict()
        mine = other.state_dict()
        same = {n: t for n, t in weights.items() if n in mine and mine[n].shape == t.shape}
        other.load_state_dict(same, strict=False)
        randomise(other.eval(), seed=1)
        if name in ("deform", "dst"):
            assert (other.downscale(y) - down).abs().max() > 1e-4, name
        else:
            assert torch.equal(other.downscale(y), down), name  # the heads belong to the decoder
            assert len(mine) < len(weights)
        assert (other.upscale(y) - up).abs().max() > 1e-4, name


def test_switching_deformation_off_keeps_the_weights() -> None:
    config = preset("edge", 4)
    network = build(config)
    plain = DINN360(replace(config, deform=False)).eval()
    plain.load_state_dict(network.state_dict())
    x = picture(16, 32)
    deformed = network.downscale(x)
    network.set_deformation(False)
    assert torch.equal(network.downscale(x), plain.downscale(x))
    network.set_deformation(True)
    assert torch.equal(network.downscale(x), deformed)


def test_zero_offsets_are_no_deformation() -> None:
    network = build(preset("edge", 4)).double()
    for name, parameter in network.named_parameters():
        if "offset_head" in name or "scale_head" in name:
            parameter.zero_()
    x = picture(16, 40, dtype=torch.float64)
    deformed = network.downscale(x), network.upscale(x)
    network.set_deformation(False)
    for a, b in zip(deformed, (network.downscale(x), network.upscale(x)), strict=True):
        torch.testing.assert_close(a, b, atol=1e-10, rtol=0)


@pytest.mark.parametrize("name", PRESETS)
def test_a_fresh_network_downscales_by_the_box_mean(name: str) -> None:
    torch.manual_seed(0)
    network = build_network(preset(name, 4)).eval()
    x = picture(16, 32)
    torch.testing.assert_close(network.downscale(x), box_mean(x, 4), atol=1e-6, rtol=0)


@pytest.mark.parametrize("scale", (2, 4, 8))
def test_an_untrained_dst_does_not_drown_its_features(scale: int, courtyard: Image8) -> None:
    """It normalises its tokens, so what it adds has one size, whatever the size of the features that it is added to."""
    torch.manual_seed(0)
    network = build_network(preset("edge", scale))
    shares: list[float] = []

    def compare(_: nn.Module, given: tuple[Tensor, bool], returned: Tensor) -> None:
        shares.append(((returned - given[0]).square().mean() / given[0].square().mean()).sqrt().item())

    for module in network.modules():
        if isinstance(module, DST):
            module.register_forward_hook(compare)
    network.downscale(torch.from_numpy(courtyard[:256]).permute(2, 0, 1)[None] / 255)
    assert shares and max(shares) < 2  # with the gain of IRN, 0.1, it adds ten times as much


def test_frozen_inverses_change_nothing() -> None:
    network = build(preset("edge", 4))
    y = picture(8, 16)
    before = network.upscale(y)
    network.freeze_inverses()
    torch.testing.assert_close(network.upscale(y), before, atol=1e-5, rtol=0)
    assert not [name for name in network.state_dict() if "inverse_weight" in name]


def test_a_foreign_image_is_upscaled() -> None:
    """An image that no downscale made: finite, deterministic, steered by the latents when they are given."""
    network = build(preset("edge", 4))
    y = torch.rand(1, 3, 9, 18, generator=torch.Generator().manual_seed(0))
    x = network.upscale(y)
    assert x.shape == (1, 3, 36, 72) and bool(x.isfinite().all()) and torch.equal(x, network.upscale(y))
    zeros = [torch.zeros(1, 6, 18, 36), torch.zeros(1, 21, 9, 18)]
    torch.testing.assert_close(network.upscale(y, zeros), x, atol=1e-5, rtol=0)
    assert (network.upscale(y, [zeros[0], zeros[1] + 0.1]) - x).abs().max() > 1e-3


def level(**changes: object) -> LevelConfig:
    return replace(tiny(2).levels[0], **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: preset("edge", 3), ("scale: ", "2, 4, 8", "3")),
        (lambda: preset("huge", 2), ("name: ", "base", "'huge'")),
        (lambda: replace(tiny(2), scale=16), ("scale", "16")),
        (lambda: replace(tiny(2), scale=4), ("levels", "1")),
        (lambda: tiny(2, latitude_head=False, content_head=False), ("latitude_head", "content_head")),
        (lambda: tiny(2, dconvs=3), ("dconvs", "3")),
        (lambda: tiny(2, offset_kernel=2), ("offset_kernel", "2")),
        (lambda: tiny(2, window=5), ("window", "even", "5")),
        (lambda: tiny(2, max_offset=0.0), ("max_offset", "0.0")),
        (lambda: tiny(2, levels=(level(heads=3),)), ("levels[0]", "heads 3")),
        (lambda: tiny(2, levels=(level(dst="all"),)), ("levels[0].dst", "'all'")),
    ],
)
def test_a_wrong_config_is_refused_in_one_line(make: Callable[[], object], words: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError) as caught:
        make()
    message = str(caught.value)
    assert "\n" not in message and all(word in message for word in words)


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("scale", [2, 4, 8])
def test_a_config_survives_its_dictionary(name: str, scale: int) -> None:
    config = preset(name, scale)
    assert config_from_dict(config.to_dict()) == config
