"""Flat DINN360: what it shares with no other architecture. The laws of all networks are in test_architectures.py."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from networks import build, picture, randomise, tiny_flat
from torch import Tensor, nn

from dinn360.configs import config_from_dict
from dinn360.info import describe
from dinn360.networks import FlatConfig, FlatDINN360, build_network, preset
from dinn360.networks.colour import LUMA, LumaDetailConv2d
from dinn360.networks.errors import ConfigError
from dinn360.networks.flat import Function, haar_bands, squeeze, unsqueeze
from dinn360.networks.layers import DST, DConv, SphereConv2d
from dinn360.networks.untied import Untied
from dinn360.ops import haar
from dinn360.sphere import Frame


@pytest.mark.parametrize("scale", [2, 4, 8])
def test_a_fresh_network_is_a_box_mean_down_and_a_box_up(scale: int) -> None:
    network = build_network(tiny_flat(scale)).eval()
    x = picture(32, 64, dtype=torch.float64).float()
    box = torch.nn.functional.avg_pool2d(x, scale)
    torch.testing.assert_close(network.downscale(x), box, atol=1e-6, rtol=0)
    up = box.repeat_interleave(scale, 2).repeat_interleave(scale, 3)
    torch.testing.assert_close(network.upscale(box), up, atol=1e-6, rtol=0)


@pytest.mark.parametrize(("factor", "scale"), [(4, 2), (4, 4), (8, 8), (2, 1)])
def test_the_squeeze_is_haar_steps(factor: int, scale: int) -> None:
    x, kernel = picture(16, 32, dtype=torch.float64), haar_bands(factor, scale).double()

    def steps(x: Tensor, factor: int) -> Tensor:
        return x if factor == 1 else steps(haar(x), factor // 2)

    first = steps(x, scale)
    expected = torch.cat([steps(first[:, :3], factor // scale), steps(first[:, 3:], factor // scale)], dim=1)
    torch.testing.assert_close(squeeze(x, kernel), expected, atol=1e-12, rtol=0)
    torch.testing.assert_close(unsqueeze(expected, kernel), x, atol=1e-12, rtol=0)
    torch.testing.assert_close(unsqueeze(expected, kernel, 1), x[..., factor:-factor], atol=1e-12, rtol=0)


def test_the_squeeze_keeps_8_bits_where_16_bit_training_would_not() -> None:
    x, kernel = picture(8, 16), haar_bands(4, 4)
    with torch.autocast("cpu", torch.bfloat16):
        bands = squeeze(x, kernel)
        again = unsqueeze(bands, kernel)
        assert torch.nn.functional.conv2d(x, kernel, stride=4).dtype == torch.bfloat16  # the control
    assert bands.dtype == again.dtype == torch.float32 and (again - x).abs().max() < 1e-6


@pytest.mark.parametrize(("scale", "down", "up"), [(2, 24, 32), (4, 24, 32), (8, 24, 32)])
def test_edge_keeps_its_budget(scale: int, down: int, up: int) -> None:
    """kMAC per HR pixel; what 4K video at 30 frames a second leaves on an embedded GPU."""
    info = describe(preset("flat-edge", scale), size=(256, 128))
    assert info.macs["downscale"] <= 1e3 * down and info.macs["upscale"] <= 1e3 * up


@pytest.mark.parametrize("scale", [2, 4, 8])
def test_edge_suits_tensor_cores_and_works_at_one_resolution(scale: int) -> None:
    """Widths are multiples of 16, but for y and h themselves, and no layer sees more than a sixteenth of the pixels."""
    config = preset("flat-edge", scale)
    assert isinstance(config, FlatConfig)
    with torch.device("meta"):
        network = build_network(config)
    assert isinstance(network, FlatDINN360)
    total, kept = config.channels
    others = {kept, total - kept, 18, 1}  # y, h, the offsets of nine taps, the distortion map
    sizes = set()
    for module in network.modules():
        if isinstance(module, SphereConv2d):
            module.register_forward_hook(lambda _, given, __: sizes.add(tuple(given[0].shape[2:])))
            widths = {module.weight.shape[0], module.weight.shape[1]}
            assert all(width % 16 == 0 for width in widths - others), widths
    x = torch.empty(1, 3, 64, 128, device="meta")
    network.upscale(network.downscale(x))
    pixel = max(4, scale)
    assert sizes - {(64 // pixel, 1)} == {(64 // pixel, 128 // pixel + 2 * config.margin)}


def test_each_switch_changes_the_network() -> None:
    config = tiny_flat(4)
    full = build(config)
    y = picture(16, 32)
    down, up = full.downscale(y), full.upscale(y)
    for name in ("deform", "dst", "latitude_head", "content_head"):
        other = build_network(replace(config, **{name: False}))  # type: ignore[arg-type]
        mine = other.state_dict()
        same = {n: t for n, t in full.state_dict().items() if n in mine and mine[n].shape == t.shape}
        other.load_state_dict(same, strict=False)
        randomise(other.eval(), seed=1)
        if name in ("deform", "dst"):
            assert (other.downscale(y) - down).abs().max() > 1e-5, name
        else:
            assert torch.equal(other.downscale(y), down), name  # the heads belong to the decoder
        assert (name == "deform") == (len(mine) == len(full.state_dict())), name
        assert (other.upscale(y) - up).abs().max() > 1e-5, name


def test_rectifiers_let_something_through_but_in_older_configs() -> None:
    config = preset("flat-edge", 4)
    assert isinstance(config, FlatConfig) and config.negative_slope == 0.2
    older = {name: value for name, value in config.to_dict().items() if name != "negative_slope"}
    assert config_from_dict(older) == replace(config, negative_slope=0.0)
    for slope in (0.0, 0.2):
        function = Function(3, 5, replace(config, negative_slope=slope), False, None)
        nn.init.normal_(function.last.weight)
        x = torch.randn(1, 3, 6, 8)
        features = F.leaky_relu(function.first(x, True), slope)
        expected = function.last(F.leaky_relu(features + function.middle(features, True), slope), True)
        assert torch.equal(function(x, True), expected)


def test_deformation_stands_next_to_the_lr_image_only() -> None:
    network = build_network(tiny_flat(4, blocks=3, deformable=2))
    assert isinstance(network, FlatDINN360)
    found = [[sum(isinstance(m, kind) for m in block.modules()) for kind in (DConv, DST)] for block in network.blocks]
    assert found == [[0, 0], [2, 1], [2, 1]]


def test_upscaling_depends_on_the_latitude_of_a_crop() -> None:
    network = build(tiny_flat(4))
    y = picture(4, 8)
    top, middle = (Frame(False, torch.tensor([row]), torch.tensor([160])) for row in (0, 72))
    assert (network.upscale(y, frame=top) - network.upscale(y, frame=middle)).abs().max() > 1e-4
    without = build(tiny_flat(4, latitude_head=False))
    assert torch.equal(without.upscale(y, frame=top), without.upscale(y, frame=middle))


@pytest.mark.parametrize("scale", [2, 4, 8])
def test_a_margin_of_the_receptive_field_is_as_good_as_a_wrap_in_every_layer(scale: int) -> None:
    exact = build(tiny_flat(scale)).double()
    pixel = max(4, scale)
    reach = max(exact.receptive_field().values()) // pixel + 1
    margin = -(-reach // 4) * 4  # whole windows
    wide, none = (build_network(tiny_flat(scale, margin=margin)).double().eval() for margin in (margin, 4))
    for network in (wide, none):
        network.load_state_dict(exact.state_dict())
    x = picture(3 * pixel, 8 * pixel, dtype=torch.float64)  # narrower than the margin
    with torch.no_grad():
        y = exact.downscale(x)
        for run, given in (("downscale", x), ("upscale", y)):
            expected, found, short = (getattr(network, run)(given) for network in (exact, wide, none))
            torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)
            assert short.shape == expected.shape and (short - expected).abs().max() > 1e-9  # the control


@pytest.mark.parametrize("scale", [2, 4, 8])
def test_a_panorama_may_be_turned_by_whole_working_pixels(scale: int) -> None:
    """A margin extends by the panorama itself, so that the seam is only as visible as what lies beyond the margin."""
    network = build(replace(preset("flat-edge", scale), content_width=16, width=16, heads=1), std=0.02)
    pixel = max(4, scale)
    x = picture(4 * pixel, 48 * pixel)
    with torch.no_grad():
        y = network.downscale(x)
        for run, given, unit in ((network.downscale, x, pixel), (network.upscale, y, pixel // scale)):
            out = run(given)
            turn = 20 * pixel * out.shape[3] // x.shape[3]
            turned = run(given.roll(20 * unit, 3)).roll(-turn, 3)
            assert (turned - out).abs().max() < 1e-4 < out.std() / 100


def test_a_margin_leaves_odd_sizes_crops_and_latents_alone() -> None:
    network, exact = (build(tiny_flat(4, margin=margin)) for margin in (8, 0))
    x = picture(9, 13)
    y = network.downscale(x)
    assert y.shape == (1, 3, 3, 4) and network.upscale(y, size=(9, 13)).shape == x.shape
    crop = Frame(False, torch.tensor([4]), torch.tensor([64]))
    assert torch.equal(network.upscale(y, frame=crop), exact.upscale(y, frame=crop))
    assert torch.equal(network.downscale(x, frame=crop), exact.downscale(x, frame=crop))
    split = network.split(picture(8, 16))
    z = network.project(split.high, split.y)
    torch.testing.assert_close(network.upscale(split.y, z), picture(8, 16), atol=1e-5, rtol=0)


SPHERE = {"sphere_offsets": True, "latitude_offsets": True, "sphere_windows": True}


def test_deformation_from_the_sphere_is_off_by_default_and_part_of_both_directions() -> None:
    plain = build(tiny_flat(4))
    x = picture(32, 64)
    y = plain.downscale(x)
    for name in SPHERE:
        network = build_network(tiny_flat(4, **{name: True})).eval()
        missing, unexpected = network.load_state_dict(plain.state_dict(), strict=False)
        assert not unexpected and all("latitude_head" in key for key in missing)
        assert bool(missing) == (name == "latitude_offsets")
        randomise(network, seed=1)
        assert (network.downscale(x) - y).abs().max() > 1e-5, name
        assert (network.upscale(y) - plain.upscale(y)).abs().max() > 1e-5, name
        network.set_deformation(False)
        flattened = build(tiny_flat(4))
        flattened.set_deformation(False)
        assert torch.equal(network.downscale(x), flattened.downscale(x))


def test_deformation_from_the_sphere_turns_with_the_panorama_and_knows_tiles() -> None:
    network = build(tiny_flat(4, **SPHERE)).double()
    x = picture(32, 64, dtype=torch.float64)
    turned = network.downscale(x.roll(16, 3))  # whole windows
    torch.testing.assert_close(turned.roll(-4, 3), network.downscale(x), atol=1e-12, rtol=0)
    split = network.split(x)
    z = network.project(split.high, split.y)
    torch.testing.assert_close(network.reconstruct(split.y, z).x, x, atol=1e-9, rtol=0)
    far = Frame.of_tile(torch.tensor([8, 16, 0, 0]), 4)
    assert (network.downscale(x, far) - network.downscale(x)).abs().max() > 1e-6
    crop = Frame(False, torch.tensor([32]), torch.tensor([128]))
    tile = Frame(False, omitted=torch.tensor([32, 64, 0, 0]))
    torch.testing.assert_close(network.downscale(x, crop), network.downscale(x, tile), atol=1e-7, rtol=0)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: tiny_flat(4, blocks=0), ("blocks", "whole number", "0")),
        (lambda: tiny_flat(4, deformable=3), ("deformable", "0 to 2", "3")),
        (lambda: tiny_flat(4, heads=3), ("width", "3 heads", "8")),
        (lambda: tiny_flat(4, content_head=False, latitude_head=False), ("at least one head",)),
        (lambda: tiny_flat(4, window=3), ("window", "even", "3")),
        (lambda: tiny_flat(4, margin=-4), ("margin", "0 to", "-4")),
        (lambda: tiny_flat(4, margin=6), ("margin", "window of 4", "6")),
        (lambda: tiny_flat(4, negative_slope=1.0), ("negative_slope", "less than 1", "1.0")),
        (lambda: tiny_flat(3), ("scale", "3")),
    ],
)
def test_a_wrong_config_is_refused_in_one_line(make: Callable[[], object], words: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError) as caught:
        make()
    assert all(word in str(caught.value) for word in words) and "\n" not in str(caught.value)


def _chroma(bands: Tensor) -> Tensor:
    """(B,3 n,H,W), n bands of R, G and B, as R - Y and B - Y of each: zero with Cb and Cr, (B,n,2,H,W)."""
    colours = bands.unflatten(1, (-1, 3))
    luma = (colours * torch.tensor(LUMA).to(bands)[:, None, None]).sum(2, keepdim=True)
    return colours[:, :, ::2] - luma


@pytest.mark.parametrize("untie", [False, True])
def test_with_luma_details_no_weights_can_change_fine_colours_at_x2(untie: bool) -> None:
    x = picture(32, 64, dtype=torch.float64)
    plain, held = (build(tiny_flat(2, untie=untie, luma_details=on)).double() for on in (False, True))
    held.load_state_dict(plain.state_dict())  # the same weights: the switch alone decides
    of_haar = _chroma(haar(haar(x)[:, :3]))
    free, bound = (_chroma(haar(network.downscale(x))) - of_haar for network in (plain, held))
    assert free[:, 1:].abs().max() > 1e-2 and bound[:, 0].abs().max() > 1e-2  # the control; LL stays free
    assert bound[:, 1:].abs().max() < 1e-7  # fp32 constants
    luma = (haar(held.downscale(x)) - haar(haar(x)[:, :3])).unflatten(1, (4, 3)).mean(2)
    assert luma.abs().amax((0, 2, 3)).min() > 1e-2  # details of luma move


def test_with_luma_details_colours_move_through_a_low_pass_where_the_lr_image_is_no_finer() -> None:
    network = build(tiny_flat(4, luma_details=True))
    assert isinstance(network, FlatDINN360)
    last = network.blocks[0].phi.last
    assert isinstance(last, LumaDetailConv2d)
    torch.nn.init.zeros_(last.bias)
    stripes = torch.tensor([1.0, -1.0]).repeat(8)  # at Nyquist
    for waves in (stripes[:, None], stripes[None], stripes[:, None] * stripes):
        moved = last(torch.ones(1, 8, 16, 16) * waves, True)[..., 1:-1, :]
        assert _chroma(moved).abs().max() < 1e-6 and moved.abs().max() > 1e-2
    flat = last(torch.ones(1, 8, 16, 16), True)[..., 1:-1, :]
    assert _chroma(flat).abs().max() > 1e-2  # coarse colours do move


@pytest.mark.parametrize("scale", [2, 4])
@pytest.mark.parametrize("untie", [False, True])
def test_with_luma_details_the_way_back_begins_exact(scale: int, untie: bool) -> None:
    config = tiny_flat(scale, luma_details=True, untie=untie)
    tied = build(replace(config, untie=False, luma_details=False))
    network = build_network(config).eval()
    if isinstance(network, Untied):
        network.load_tied(tied.state_dict())  # a lossless checkpoint, taken up with the switch on
        mine, of_tied = network.encoder.state_dict(), tied.state_dict()
        assert all(torch.equal(tensor, of_tied[name]) for name, tensor in mine.items())
    else:
        network.load_state_dict(tied.state_dict())
    network = network.double()
    x = picture(16, 32, dtype=torch.float64)
    split = network.split(x)
    z = network.project(split.high, split.y)
    torch.testing.assert_close(network.reconstruct(split.y, z).x, x, atol=1e-6, rtol=0)
