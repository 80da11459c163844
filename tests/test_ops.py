"""The two deformable operators against their plain references; what exporters and autograd see of them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from dinn360 import ops
from dinn360.ops import attention, deform_conv
from dinn360.sphere import conv2d

DTYPES = [(torch.float32, 2e-5), (torch.float64, 1e-10)]
FAR = 1e6  # the operators take any offset; max_offset is a promise to lowerings, not a clamp


def normal(seed: int, *shape: int, dtype: torch.dtype = torch.float64, std: float = 1.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (std * torch.randn(shape, generator=generator, dtype=torch.float64)).to(dtype)


def conv_inputs(
    batch: int,
    channels: int,
    out: int,
    height: int,
    width: int,
    groups: int,
    kernel: int,
    reach: float,
    seed: int,
) -> dict[str, Any]:
    """Random arguments of deform_conv2d in fp64, with a mask."""
    taps = kernel * kernel
    return {
        "x": normal(seed, batch, channels, height, width),
        "offset": normal(seed + 1, batch, 2 * groups * taps, height, width, std=reach),
        "weight": normal(seed + 2, out, channels, kernel, kernel, std=channels**-0.5 / kernel),
        "bias": normal(seed + 3, out),
        "mask": normal(seed + 4, batch, groups * taps, height, width).sigmoid(),
    }


def attention_inputs(
    batch: int, heads: int, depth: int, height: int, width: int, window: int, reach: float, seed: int
) -> dict[str, Any]:
    """Random arguments of dst_attention in fp64, with scale and offset."""
    down, across = -(-height // window), -(-width // window)
    q, k, v = (normal(seed + i, batch, heads * depth, height, width) for i in range(3))
    return {
        "q": q,
        "k": k,
        "v": v,
        "scale": normal(seed + 3, batch, 2 * heads, down, across, std=0.4),
        "offset": normal(seed + 4, batch, 2 * heads, down, across, std=reach),
        "bias": normal(seed + 5, heads, window**2, window**2),
    }


def cast(arguments: dict[str, Any], dtype: torch.dtype) -> dict[str, Any]:
    return {name: None if value is None else value.to(dtype) for name, value in arguments.items()}


def assert_conv_agrees(arguments: dict[str, Any], wrap: bool, dtype: torch.dtype, tolerance: float) -> None:
    given_ = cast(arguments, dtype)
    got = ops.deform_conv2d(**given_, max_offset=FAR, wrap=wrap)
    expected = deform_conv.reference(**given_, max_offset=FAR, wrap=wrap)
    assert got.dtype == dtype and got.shape == expected.shape
    torch.testing.assert_close(got, expected, atol=tolerance, rtol=tolerance)


def assert_attention_agrees(
    arguments: dict[str, Any], window: int, shift: int, wrap: bool, dtype: torch.dtype, tolerance: float
) -> None:
    given_ = cast(arguments, dtype)
    got = ops.dst_attention(**given_, window=window, shift=shift, wrap=wrap)
    expected = attention.reference(**given_, window=window, shift=shift, wrap=wrap)
    assert got.dtype == dtype and got.shape == expected.shape
    torch.testing.assert_close(got, expected, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("wrap", [True, False])
@pytest.mark.parametrize(("dtype", "tolerance"), DTYPES)
@pytest.mark.parametrize(
    ("height", "width", "groups", "kernel", "reach"),
    [
        (5, 7, 1, 3, 2.0),
        (4, 6, 2, 3, 1.5),
        (3, 2, 1, 5, 1.0),  # narrower than the kernel
        (1, 1, 1, 3, 1.0),
        (4, 5, 1, 3, 40.0),  # many times around the circle, and far beyond the poles
        (4, 5, 2, 1, 3.0),
    ],
)
def test_deform_conv2d(
    height: int,
    width: int,
    groups: int,
    kernel: int,
    reach: float,
    wrap: bool,
    dtype: torch.dtype,
    tolerance: float,
) -> None:
    arguments = conv_inputs(2, 4, 3, height, width, groups, kernel, reach, seed=height)
    # far around the circle a coordinate has fewer digits left
    assert_conv_agrees(arguments, wrap, dtype, tolerance * max(1.0, reach / 4))
    assert_conv_agrees({**arguments, "mask": None}, wrap, dtype, tolerance * max(1.0, reach / 4))


@settings(max_examples=25)
@given(
    height=st.integers(1, 5),
    width=st.integers(1, 6),
    wrap=st.booleans(),
    reach=st.floats(0, 8),
    seed=st.integers(0, 99),
)
def test_deform_conv2d_at_any_size(height: int, width: int, wrap: bool, reach: float, seed: int) -> None:
    arguments = conv_inputs(1, 2, 2, height, width, 1, 3, reach, seed)
    assert_conv_agrees(arguments, wrap, torch.float64, 1e-10)


def test_deform_conv2d_offset_is_row_then_column() -> None:
    """A check of the reference itself: one tap moved by (1, 0) reads the pixel below, not the one beside."""
    x = torch.arange(12.0).reshape(1, 1, 3, 4)
    offset = torch.zeros(1, 2, 3, 4)
    offset[:, 0] = 1
    one, none = torch.ones(1, 1, 1, 1), torch.zeros(1)
    below = torch.tensor([[4.0, 5, 6, 7], [8, 9, 10, 11], [0, 0, 0, 0]])
    for convolve in (ops.deform_conv2d, deform_conv.reference):
        assert torch.equal(convolve(x, offset, one, none, None, 1.0, True)[0, 0], below)
        beside = convolve(x, offset.flip(1), one, none, None, 1.0, True)[0, 0]
        torch.testing.assert_close(beside, x[0, 0].roll(-1, 1), atol=1e-5, rtol=0)


@pytest.mark.parametrize("wrap", [True, False])
def test_zero_offset_is_a_plain_convolution(wrap: bool) -> None:
    a = conv_inputs(2, 4, 3, 6, 9, 1, 3, 0.0, seed=1)
    got = ops.deform_conv2d(a["x"], a["offset"], a["weight"], a["bias"], None, 3.0, wrap)
    torch.testing.assert_close(got, conv2d(a["x"], a["weight"], a["bias"], wrap), atol=1e-12, rtol=0)


@pytest.mark.parametrize("columns", [2, -3, 9 + 4])
def test_whole_offset_is_a_roll(columns: int) -> None:
    a = conv_inputs(1, 2, 2, 5, 9, 1, 3, 0.0, seed=2)
    offset = torch.zeros_like(a["offset"])
    offset[:, 1::2] = columns
    got = ops.deform_conv2d(a["x"], offset, a["weight"], a["bias"], None, FAR, True)
    expected = conv2d(a["x"].roll(-columns, 3), a["weight"], a["bias"], True)
    torch.testing.assert_close(got, expected, atol=1e-10, rtol=0)


@pytest.mark.parametrize("wrap", [True, False])
@pytest.mark.parametrize(("dtype", "tolerance"), DTYPES)
@pytest.mark.parametrize(
    ("height", "width", "heads", "window", "shift", "reach"),
    [
        (8, 8, 2, 4, 0, 1.5),
        (8, 8, 1, 4, 2, 1.5),
        (5, 7, 2, 4, 2, 2.0),
        (1, 1, 1, 4, 2, 1.0),
        (3, 9, 2, 2, 1, 50.0),  # far around the circle
    ],
)
def test_dst_attention(
    height: int,
    width: int,
    heads: int,
    window: int,
    shift: int,
    reach: float,
    wrap: bool,
    dtype: torch.dtype,
    tolerance: float,
) -> None:
    arguments = attention_inputs(1, heads, 3, height, width, window, reach, seed=width)
    assert_attention_agrees(arguments, window, shift, wrap, dtype, tolerance * max(1.0, reach / 4))
    plain = {**arguments, "scale": None, "offset": None}
    assert_attention_agrees(plain, window, shift, wrap, dtype, tolerance)


@settings(max_examples=12)
@given(
    height=st.integers(1, 6),
    width=st.integers(1, 7),
    window=st.sampled_from([2, 4]),
    displaced=st.booleans(),
    wrap=st.booleans(),
    seed=st.integers(0, 99),
)
def test_dst_attention_at_any_size(
    height: int, width: int, window: int, displaced: bool, wrap: bool, seed: int
) -> None:
    arguments = attention_inputs(1, 1, 2, height, width, window, 2.0, seed)
    assert_attention_agrees(arguments, window, displaced * window // 2, wrap, torch.float64, 1e-10)


def test_dst_attention_in_a_batch_is_each_image_by_itself() -> None:
    a = attention_inputs(3, 2, 2, 5, 6, 4, 1.0, seed=3)
    whole = ops.dst_attention(**a, window=4, shift=2, wrap=True)
    for i in range(3):
        one = {name: value if name == "bias" else value[i : i + 1] for name, value in a.items()}
        torch.testing.assert_close(ops.dst_attention(**one, window=4, shift=2, wrap=True), whole[i : i + 1])


def test_zero_scale_and_offset_are_plain_windows() -> None:
    a = attention_inputs(1, 2, 3, 8, 12, 4, 0.0, seed=4)
    a["scale"] = torch.zeros_like(a["scale"])
    plain = ops.dst_attention(**{**a, "scale": None, "offset": None}, window=4, shift=2, wrap=True)
    torch.testing.assert_close(ops.dst_attention(**a, window=4, shift=2, wrap=True), plain)


def test_displaced_windows_do_not_look_over_the_poles_or_over_the_edges_of_a_crop() -> None:
    a = attention_inputs(1, 1, 2, 8, 8, 4, 0.0, seed=5)
    a["scale"] = a["offset"] = None
    for wrap, axes in ((True, (2,)), (False, (2, 3))):
        before = ops.dst_attention(**a, window=4, shift=2, wrap=wrap)
        for axis in axes:
            changed = {**a, "v": a["v"].clone()}
            changed["v"].select(axis, 7).add_(5.0)
            after = ops.dst_attention(**changed, window=4, shift=2, wrap=wrap)
            # e^-100 of the changed values is all that may leak
            torch.testing.assert_close(after.select(axis, 0), before.select(axis, 0))
            assert not torch.allclose(after.select(axis, 7), before.select(axis, 7))


@pytest.mark.parametrize("wrap", [True, False])
@pytest.mark.parametrize("masked", [True, False])
def test_deform_conv2d_gradients(wrap: bool, masked: bool) -> None:
    a = conv_inputs(1, 2, 2, 3, 4, 2, 3, 0.9, seed=6)
    inputs = [a[name].requires_grad_() for name in ("x", "offset", "weight", "bias")]
    mask = a["mask"].requires_grad_() if masked else None

    def function(*tensors: Tensor) -> Tensor:
        return ops.deform_conv2d(*tensors[:4], tensors[4] if masked else None, FAR, wrap)

    assert torch.autograd.gradcheck(function, (*inputs, mask) if masked else tuple(inputs), fast_mode=True)


@pytest.mark.parametrize("wrap", [True, False])
def test_dst_attention_gradients(wrap: bool) -> None:
    a = attention_inputs(1, 2, 1, 3, 5, 2, 0.7, seed=7)
    inputs = tuple(value.requires_grad_() for value in a.values())
    assert torch.autograd.gradcheck(lambda *tensors: ops.dst_attention(*tensors, 2, 1, wrap), inputs, fast_mode=True)


class BothOperators(nn.Module):
    def forward(self, x: Tensor, offset: Tensor, weight: Tensor, bias: Tensor, scale: Tensor) -> Tensor:
        x = ops.deform_conv2d(x, offset, weight, weight[:, 0, 0, 0], None, 3.0, True)
        return ops.dst_attention(x, x, x, scale, scale, bias, 4, 2, True)


def test_torch_export_sees_one_node_an_operator() -> None:
    inputs = (
        normal(0, 1, 4, 8, 8, dtype=torch.float32),
        normal(1, 1, 18, 8, 8, dtype=torch.float32),
        normal(2, 4, 4, 3, 3, dtype=torch.float32),
        normal(3, 2, 16, 16, dtype=torch.float32),
        normal(4, 1, 4, 2, 2, dtype=torch.float32),
    )
    program = torch.export.export(BothOperators(), inputs)
    calls = [str(node.target) for node in program.graph.nodes if node.op == "call_function"]
    assert calls.count("dinn360.deform_conv2d.default") == 1
    assert calls.count("dinn360.dst_attention.default") == 1
    assert not [name for name in calls if "grid_sampl" in name or "softmax" in name]
    torch.testing.assert_close(program.module()(*inputs), BothOperators()(*inputs))


def test_sampling_positions_stay_exact_in_bf16() -> None:
    """On a map of 4096 columns a 16-bit position would be off by up to 16 pixels at the right end."""
    width = 4096
    ramp = (torch.arange(width) % 16).float().expand(1, 1, 2, width) / 16  # exact in bf16, steep for a position
    offset = torch.full((1, 18, 2, width), 0.5)
    weight, bias = torch.zeros(1, 1, 3, 3), torch.zeros(1)
    weight[..., 1, 1] = 1
    exact = ops.deform_conv2d(ramp.double(), offset.double(), weight.double(), bias.double(), None, 3.0, True)
    short = ops.deform_conv2d(ramp.bfloat16(), offset.bfloat16(), weight.bfloat16(), bias.bfloat16(), None, 3.0, True)
    assert short.dtype == torch.bfloat16
    error = (short.double() - exact).abs()
    left, right = error[..., : width // 4].max(), error[..., -width // 4 :].max()
    assert left < 0.005 and right <= left + 1e-3
