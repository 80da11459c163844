"""The parts by themselves, where the laws of the whole network are too weak to see a mistake."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from networks import tiny
from torch import Tensor, nn

from dinn360.networks.dinn360 import IDBlock
from dinn360.networks.invertible import ChannelMixing, Haar, IPBlock, Projection
from dinn360.networks.layers import DST, DConv, SphereConv2d
from dinn360.ops import window_mean
from dinn360.ops.attention import window_pixels
from dinn360.sphere import pad_to_multiple


def strong(module: nn.Module, seed: int = 0, std: float = 0.5) -> nn.Module:
    """Large seeded weights everywhere, fp64."""
    generator = torch.Generator().manual_seed(seed)
    module = module.double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(std * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return module


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(("width", "wrap"), [(12, True), (12, False), (10, True)])
@pytest.mark.parametrize("shift", [0, 2])
def test_the_mean_token_is_that_of_the_displaced_window(shift: int, width: int, wrap: bool) -> None:
    dst = DST(2, 1, 4, shift, 2, True)
    tokens = random(1, 2, 8, width)
    rows, columns = window_pixels(8, 4, shift, False), window_pixels(width, 4, shift, wrap)
    expected = torch.zeros(1, 2, 2, 3, dtype=torch.float64)
    for i, window_rows in enumerate(rows):
        for j, window_columns in enumerate(columns):
            places = [tokens[:, :, r[0], c[0]] for r in window_rows for c in window_columns]
            expected[:, :, i, j] = torch.stack(places).mean(0)
    torch.testing.assert_close(window_mean(tokens, dst.window, dst.shift, wrap), expected)


@pytest.mark.parametrize("shift", [0, 4])
def test_a_dst_module_rolls_with_its_windows(shift: int) -> None:
    dst = strong(DST(4, 2, 8, shift, 2, True))
    x = random(1, 4, 9, 24)
    with torch.no_grad():
        out = dst(x, True)
        torch.testing.assert_close(dst(x.roll(8, 3), True), out.roll(8, 3), atol=1e-9, rtol=0)
        assert not torch.allclose(dst(x.roll(4, 3), True), out.roll(4, 3), atol=0.01)
        assert not torch.allclose(dst(x.roll(8, 3), False), dst(x, False).roll(8, 3), atol=0.01)


def test_scale_and_offset_heads_move_the_queries() -> None:
    dst = strong(DST(4, 2, 8, 0, 2, True))
    assert isinstance(dst, DST)
    x = random(1, 4, 16, 16)
    with torch.no_grad():
        full = dst(x, True)
        for head in (dst.scale_head, dst.offset_head):
            weight, bias = head.weight.clone(), None if head.bias is None else head.bias.clone()
            head.weight.zero_()
            assert head.bias is not None and bias is not None
            head.bias.zero_()
            assert (dst(x, True) - full).abs().max() > 0.01
            head.weight.copy_(weight)
            head.bias.copy_(bias)


@given(st.integers(0, 1000))
def test_no_input_moves_a_query_further_than_its_reach(seed: int) -> None:
    dst = strong(DST(6, 2, 4, 0, 2, True), std=0.3)
    assert isinstance(dst, DST)
    with torch.no_grad():
        tokens = dst.norm_attention(10 ** (seed % 5 - 2) * random(1, 6, 8, 8, seed=seed))
        mean = F.leaky_relu(window_mean(tokens, dst.window, dst.shift, True), 0.2)
        scale, offset = dst.scale_head(mean).abs(), dst.offset_head(mean).abs()
        moved = float((1.5 * scale + 4 * offset).max())
    assert 0 < moved <= dst.query_reach()
    dst.deform = False
    assert dst.query_reach() == 0


def test_a_dconv_is_bounded_and_rolls_by_any_column() -> None:
    dconv = strong(DConv(4, 3, 2.0, True), std=3.0)
    x = random(1, 4, 5, 11)
    with torch.no_grad():
        out = dconv(x, True)
        torch.testing.assert_close(dconv(x.roll(3, 3), True), out.roll(3, 3), atol=1e-8, rtol=0)
        changed = x.clone()
        changed[..., 5] += 1
        differs = (dconv(changed, False) - dconv(x, False)).abs().amax((0, 1, 2)) > 1e-9
    # kernel 1 + max_offset 2 to each side
    assert differs.nonzero().min() >= 2 and differs.nonzero().max() <= 8


def test_offsets_on_the_sphere_cover_the_same_way_at_every_latitude() -> None:
    """Columns lie 1/cos apart: nothing on the equator, twice as far at 60 degrees, never more than the bound."""
    dconv = DConv(2, 1, 3.0, True, on_sphere=True)
    latitude = torch.tensor([0.01, math.cos(math.radians(80)), 0.5, 1.0]).reshape(1, 1, 4, 1)
    x = random(1, 2, 4, 7).float()
    with torch.no_grad():
        offset = dconv.offsets(x, True, latitude).reshape(3, 3, 2, 4, 7)
        assert not offset[:, :, 0].any() and not offset[:, 1].any()  # rows stay, and the middle column does
        for tap, sign in ((0, -1), (2, 1)):
            assert offset[0, tap, 1, :, 0].tolist() == pytest.approx([3 * sign, 3 * sign, sign, 0])
        assert torch.equal(dconv(x, True, latitude.new_ones(1, 1, 4, 1)), dconv(x, True))
        torch.testing.assert_close(dconv(x, True), dconv.conv(x, True))  # nobody said where x lies
        moved = dconv(x, True, latitude)
        assert (moved - dconv.conv(x, True)).abs().amax((0, 1, 3)).gt(1e-4).tolist() == [True, True, True, False]
        torch.testing.assert_close(dconv(x.roll(3, 3), True, latitude), moved.roll(3, 3), atol=1e-6, rtol=0)


def test_a_head_reads_the_latitude() -> None:
    dconv = DConv(2, 1, 3.0, True, reads_latitude=True)
    assert dconv.latitude_head is not None
    latitude = torch.tensor([0.5, 1.0]).reshape(1, 1, 2, 1)
    with torch.no_grad():
        dconv.latitude_head.weight[1] = 2.0
        offset = dconv.offsets(random(1, 2, 2, 3).float(), True, latitude)
    assert offset[0, 1].tolist() == [[1.0] * 3, [2.0] * 3] and not offset[0, 2:].any()


@pytest.mark.parametrize("shift", [0, 2])
def test_windows_on_the_sphere_are_wider_towards_the_poles(shift: int) -> None:
    dst = DST(4, 2, 4, shift, 2, True, spread=3.0)
    x = random(1, 4, 8, 8).float()
    latitude = torch.tensor([0.3] * 4 + [0.9] * 4).reshape(1, 1, 8, 1)
    with torch.no_grad():
        mean = window_mean(x, 4, shift, True)
        rows = dst.scale(mean, latitude, x).reshape(2, 2, 2, 2)
        assert not rows[:, 0].any()
        found = rows[0, 1, :, 0].tolist()  # 1.5 pixels from the middle to a side: at most twice further out
        assert found == pytest.approx([2.0, 1 / 9] if shift == 0 else [2 / 3, 2 / 3])
        assert dst.query_reach() == 3.0
        assert torch.equal(dst(x, True, torch.ones_like(latitude)), dst(x, True))
        assert (dst(x, True, latitude) - dst(x, True)).abs().max() > 1e-6


def test_a_convolution_sees_across_the_seam_and_zeros_beyond_the_poles() -> None:
    conv = SphereConv2d(1, 1)
    x = torch.zeros(1, 1, 3, 5)
    x[0, 0, 0, 0] = 1
    with torch.no_grad():
        conv.weight.fill_(1)
        seen = conv(x, True)[0, 0]
        assert seen.tolist() == [[1, 1, 0, 0, 1], [1, 1, 0, 0, 1], [0, 0, 0, 0, 0]]
        assert conv(x, False)[0, 0].tolist() == [[1, 1, 0, 0, 0], [1, 1, 0, 0, 0], [0, 0, 0, 0, 0]]


def test_haar_keeps_the_mean_and_comes_back() -> None:
    x = torch.tensor([[[[1.0, 2], [3, 6]]]])
    assert Haar()(x).flatten().tolist() == [3.0, -1.0, -1.5, 0.5]
    x = random(2, 3, 6, 8)
    bands = Haar()(x)
    torch.testing.assert_close(bands[:, :3], torch.nn.functional.avg_pool2d(x, 2))
    torch.testing.assert_close(Haar().inverse(bands), x)


@pytest.mark.parametrize("wrap", [True, False])
def test_each_block_is_inverted(wrap: bool) -> None:
    config = tiny(2)
    x, condition = random(1, 12, 6, 10), random(1, 5, 6, 10, seed=1)
    with torch.no_grad():
        for index in range(2):
            block = strong(IDBlock(12, config.levels[0], config, index), std=0.2)
            assert isinstance(block, IDBlock)
            assert (block(x, wrap) - x).abs().max() > 0.1
            torch.testing.assert_close(block.inverse(block(x, wrap), wrap), x, atol=1e-9, rtol=0)
        for part in (IPBlock(9, 5, 8), Projection(9, 5, 1, 8)):
            strong(part, std=0.3)
            z = part(x[:, :9], condition, wrap)
            assert (z - x[:, :9]).abs().max() > 0.1
            torch.testing.assert_close(part.inverse(z, condition, wrap), x[:, :9], atol=1e-8, rtol=0)
            assert (part(x[:, :9], condition + 1, wrap) - z).abs().max() > 0.01


def test_without_a_latent_the_projection_predicts_from_the_condition() -> None:
    part = strong(Projection(9, 5, 1, 8), std=0.3)
    assert isinstance(part, Projection)
    condition = random(1, 5, 6, 10)
    with torch.no_grad():
        zeros = torch.zeros(1, 9, 6, 10, dtype=torch.float64)
        torch.testing.assert_close(part.inverse(None, condition, True), part.inverse(zeros, condition, True))


def test_mixing_starts_as_a_rotation() -> None:
    mixing = ChannelMixing(7)
    torch.testing.assert_close(mixing.weight @ mixing.weight.T, torch.eye(7), atol=1e-5, rtol=0)


def test_padding_repeats_the_last_row_and_goes_on_around_the_circle() -> None:
    x = torch.arange(6.0).reshape(1, 1, 2, 3)
    assert pad_to_multiple(x, 4)[0, 0].tolist() == [[0, 1, 2, 0], [3, 4, 5, 3], [3, 4, 5, 3], [3, 4, 5, 3]]
    assert torch.equal(pad_to_multiple(x, 1), x)
    assert pad_to_multiple(x[..., :1, :1], 8).shape == (1, 1, 8, 8)
