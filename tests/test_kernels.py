"""The CUDA kernels' source on the SIMT emulator against PyTorch and the plain references; any fault it finds fails.

The expected values are computed in fp64 from the very numbers that the kernel was given. fp32 kernels may differ by
1e-5 of the largest expected value. For fp16 kernels the measure is an ideal fp16 implementation: all in fp64, but what
the tensor cores take (bilinear samples, sampled queries, attention weights) and the output are rounded to fp16 once.
That much rounding is the price of fp16 storage and fp16 matrix operands; it is independent from element to element, so
its size is well known from its root mean square and its largest value. A kernel may have twice as much of either: room
for products in another order and for a rounding more, none for fp16 sums or fp16 coordinates.
"""

from __future__ import annotations

import ctypes
import math
from typing import Any

import numpy as np
import pytest
import torch
from kernels_expected import expected_deform_conv, expected_dst_attention, to_half
from kernels_native import Array, needs_compiler

from dinn360 import ops, reference
from plugins.emulator.library import Report, deform_conv, dst_attention, load
from plugins.native import HWC8, LINEAR, dst_attention_params

pytestmark = needs_compiler

TYPES = [np.float32, np.float16]
LAYOUTS = {"linear": LINEAR, "hwc8": HWC8}


def assert_close(got: Array, expected: Array, ideal: Array, what: str) -> None:
    """Holds `got` to this file's tolerance; `ideal` is the ideal fp16 implementation's result."""
    assert got.shape == expected.shape
    error = np.abs(got.astype(np.float64) - expected)
    if got.dtype == np.float32:
        assert error.max() <= 1e-5 * np.abs(expected).max(), f"{what}: {error.max() / np.abs(expected).max():.2e}"
        return
    price = np.abs(ideal - expected)
    for name, mine, allowed in (
        ("root mean square", np.sqrt((error**2).mean()), 2 * np.sqrt((price**2).mean())),
        ("largest", error.max(), 2 * price.max()),
    ):
        assert mine <= allowed, f"{what}, {name} error: {mine:.2e}, twice the ideal one is {allowed:.2e}"


# ---- deformable convolution

CONVOLUTIONS: dict[str, dict[str, Any]] = {
    "plain": dict(channels=16, out=16, size=(7, 13)),
    "wrap": dict(channels=16, out=16, size=(7, 13), wrap=True),
    "mask": dict(channels=8, out=24, size=(6, 11), mask=True, wrap=True),
    "odd channels": dict(channels=5, out=3, size=(5, 9), wrap=True),
    "one channel": dict(channels=1, out=1, size=(3, 3)),
    "one pixel": dict(channels=8, out=8, size=(1, 1), wrap=True),
    "one row": dict(channels=8, out=8, size=(1, 37), wrap=True, mask=True),
    "batch": dict(batch=3, channels=8, out=8, size=(5, 7), wrap=True),
    "wide": dict(channels=32, out=32, size=(3, 70), wrap=True),
    "many channels": dict(channels=64, out=72, size=(3, 9), wrap=True),
    "beyond 128": dict(channels=136, out=130, size=(2, 5), wrap=True),
    "offset groups": dict(channels=16, out=8, size=(5, 9), fields=2, mask=True, wrap=True),
    "narrow offset groups": dict(channels=12, out=8, size=(5, 9), fields=4),
    "groups": dict(channels=16, out=24, size=(5, 9), groups=2, wrap=True),
    "depthwise": dict(channels=6, out=12, size=(5, 9), groups=6, fields=2),
    "stride": dict(channels=8, out=8, size=(9, 14), stride=(2, 3), wrap=True),
    "dilation": dict(channels=8, out=8, size=(9, 14), dilation=(2, 3), wrap=True),
    "1x1": dict(channels=16, out=8, size=(5, 9), kernel=(1, 1), mask=True),
    "5x5": dict(channels=8, out=8, size=(6, 7), kernel=(5, 5), wrap=True),
    "3x1": dict(channels=8, out=8, size=(6, 7), kernel=(3, 1)),
    "even kernel, no pad": dict(channels=8, out=8, size=(6, 9), kernel=(2, 4), pad=(0, 0)),
    "all at once": dict(batch=2, channels=24, out=16, size=(11, 9), kernel=(3, 5), stride=(2, 1), dilation=(1, 2),
                        pad=(2, 1), groups=2, fields=3, mask=True, wrap=True),
}  # fmt: skip


def convolution(
    type_: Any,
    *,
    channels: int,
    out: int,
    size: tuple[int, int],
    batch: int = 1,
    kernel: tuple[int, int] = (3, 3),
    groups: int = 1,
    fields: int = 1,
    mask: bool = False,
    wrap: bool = False,
    stride: tuple[int, int] = (1, 1),
    dilation: tuple[int, int] = (1, 1),
    pad: tuple[int, int] | None = None,
    reach: float = 2.0,
    seed: int = 0,
) -> tuple[list[Array | None], dict[str, Any]]:
    """Random arrays and options of a call; offsets have a standard deviation of `reach` pixels."""
    random = np.random.default_rng(seed)
    pads = tuple(d * (k // 2) for d, k in zip(dilation, kernel, strict=True)) if pad is None else pad
    spans = zip(size, pads, dilation, kernel, stride, strict=True)
    out_size = [(n + 2 * p - d * (k - 1) - 1) // s + 1 for n, p, d, k, s in spans]
    taps = kernel[0] * kernel[1]
    inner = channels // groups
    arrays = [
        random.normal(size=(batch, channels, *size)),
        random.normal(size=(batch, 2 * fields * taps, *out_size), scale=reach),
        random.normal(size=(out, inner, *kernel)) / math.sqrt(inner * taps),
        random.normal(size=out),
        random.uniform(size=(batch, fields * taps, *out_size)) if mask else None,
    ]
    options = dict(wrap=wrap, stride=stride, dilation=dilation, pad=pads, groups=groups)
    return [None if a is None else a.astype(type_) for a in arrays], options


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("type_", TYPES)
@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_deform_conv(case: str, type_: Any, layout: str) -> None:
    arrays, options = convolution(type_, **CONVOLUTIONS[case])
    got, report = deform_conv(*arrays, **options, layout=LAYOUTS[layout])
    expected = expected_deform_conv(*arrays, **options)  # type: ignore[arg-type]
    ideal = expected_deform_conv(*arrays, **options, rounded=to_half)  # type: ignore[arg-type]
    assert got.dtype == type_
    assert_close(got, expected, ideal, case)
    assert report.blocks > 0


@pytest.mark.parametrize("case", ["odd channels", "groups", "offset groups", "all at once"])
def test_the_expected_convolution_is_the_plain_reference(case: str) -> None:
    arrays, options = convolution(np.float64, **CONVOLUTIONS[case])
    tensors = [None if a is None else torch.from_numpy(a) for a in arrays]
    plain: Any = reference.deform_conv2d
    got = expected_deform_conv(*arrays, **options)  # type: ignore[arg-type]
    expected = plain(*tensors, math.inf, options.pop("wrap"), **options)
    assert np.allclose(got, expected.numpy(), atol=1e-10)


@pytest.mark.parametrize("wrap", [True, False])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_deform_conv_is_that_of_pytorch(layout: str, wrap: bool) -> None:
    """The network's own form at fp32 against the composed definition that training runs."""
    arrays, options = convolution(np.float32, channels=32, out=32, size=(9, 21), mask=True, wrap=wrap)
    got, _ = deform_conv(*arrays, **options, layout=LAYOUTS[layout])
    x, offset, weight, bias, mask = (torch.from_numpy(a) for a in arrays if a is not None)
    expected = ops.deform_conv2d(x, offset, weight, bias, mask, math.inf, wrap).numpy()
    assert np.abs(got - expected).max() <= 2e-5 * np.abs(expected).max()  # both have rounded in fp32


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("type_", TYPES)
@pytest.mark.parametrize("wrap", [True, False])
def test_extreme_offsets(wrap: bool, type_: Any, layout: str) -> None:
    """A sample at infinity or NaN is zero; far rows are zero; far columns are zero or somewhere around the circle."""
    arrays, options = convolution(type_, channels=8, out=8, size=(6, 17), wrap=wrap, mask=True)
    far = 65504.0 if type_ == np.float16 else 1e6  # exact in T, and so is every coordinate
    extremes = np.array([far, -far, np.inf, -np.inf, np.nan, 0.0, -1.0, 16.0, 17.0, -17.0], type_)
    offset = arrays[1]
    assert offset is not None
    random = np.random.default_rng(1)
    chosen = random.uniform(size=offset.shape) < 0.5
    offset[chosen] = random.choice(extremes, size=int(chosen.sum()))
    got, _ = deform_conv(*arrays, **options, layout=LAYOUTS[layout])
    expected = expected_deform_conv(*arrays, **options)  # type: ignore[arg-type]
    ideal = expected_deform_conv(*arrays, **options, rounded=to_half)  # type: ignore[arg-type]
    assert_close(got, expected, ideal, "extreme offsets")


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("wrap", [True, False])
def test_offsets_beyond_every_integer(wrap: bool, layout: str) -> None:
    """Coordinates that no int32 and no int64 holds: rows are zero, columns finite."""
    arrays, options = convolution(np.float32, channels=8, out=8, size=(3, 9), wrap=wrap)
    assert arrays[1] is not None
    arrays[1][:, 0::2] = np.float32(3e38)
    arrays[1][:, 1::4] = np.float32(-3e38)
    got, _ = deform_conv(*arrays, **options, layout=LAYOUTS[layout])
    assert np.allclose(got, np.broadcast_to(arrays[3][None, :, None, None], got.shape))  # type: ignore[index]
    arrays[1][:, 0::2] = 0
    got, _ = deform_conv(*arrays, **options, layout=LAYOUTS[layout])
    assert np.isfinite(got).all()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("type_", TYPES)
@pytest.mark.parametrize("wrap", [True, False])
def test_nan_goes_where_it_was_sampled(wrap: bool, type_: Any, layout: str) -> None:
    arrays, options = convolution(type_, channels=16, out=8, size=(7, 19), wrap=wrap, reach=1.0)
    clean, _ = deform_conv(*arrays, **options, layout=LAYOUTS[layout])
    x, offset = arrays[0], arrays[1]
    assert x is not None and offset is not None
    spoilt = np.zeros(x.shape[2:], bool)
    for row, column in ((0, 0), (6, 18), (0, 9), (3, 5)):  # corners and borders: where clamped addresses go
        spoilt[row, column] = True
        x[:, 3, row, column] = np.nan
    got, _ = deform_conv(*arrays, **options, layout=LAYOUTS[layout])
    # A channel that is 1 at the spoilt pixels, widened: who may see them, and who must.
    one = np.ones((1, 1, 3, 3))
    seen = expected_deform_conv(spoilt[None, None].astype(np.float64), offset, one, np.zeros(1), None, **options)[0, 0]
    touched = np.zeros(seen.shape, bool)
    move = offset.astype(np.float64).reshape(9, 2, *seen.shape)
    for tap, i, j in np.ndindex(9, *seen.shape):
        top, left = math.floor(i + tap // 3 - 1 + move[tap, 0, i, j]), math.floor(j + tap % 3 - 1 + move[tap, 1, i, j])
        for r, c in ((top, left), (top + 1, left), (top, left + 1), (top + 1, left + 1)):
            c = c % 19 if wrap else c
            touched[i, j] |= 0 <= r < 7 and 0 <= c < 19 and spoilt[r, c]
    assert np.isnan(got[:, :, seen > 1e-3]).all()
    assert np.array_equal(got[:, :, ~touched], clean[:, :, ~touched])
    assert 0 < (seen > 1e-3).sum() and touched.sum() < touched.size / 2


@pytest.mark.parametrize("type_", TYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_deform_conv_is_deterministic(layout: str, type_: Any) -> None:
    """Equal images give equal bits, whatever their place in the batch and whatever ran before."""
    arrays, options = convolution(type_, batch=2, channels=16, out=16, size=(5, 23), wrap=True)
    for array in (arrays[0], arrays[1]):
        assert array is not None
        array[1] = array[0]
    first, _ = deform_conv(*arrays, **options, layout=LAYOUTS[layout])
    second, _ = deform_conv(*arrays, **options, layout=LAYOUTS[layout])
    assert first[0].tobytes() == first[1].tobytes()
    assert first.tobytes() == second.tobytes()


def snr(got: Array, expected: Array) -> float:
    """Signal to noise in dB."""
    return float(10 * np.log10((expected**2).mean() / ((got - expected) ** 2).mean()))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_coordinates_of_wide_panoramas_deform_conv(layout: str) -> None:
    """In fp16 the error does not grow with the width.

    Offsets are multiples of 1/64, which fp16 and the fp32 coordinate of any column hold exactly: what is left is the
    rounding of data. A coordinate rounded to fp16 would lose 25 dB on the way. Wide ones are strided to stay small.
    """
    found = {}
    for width in (64, 256, 1024, 4096, 16384):
        stride = (1, max(1, width // 256))
        arrays, options = convolution(np.float16, channels=8, out=8, size=(8, width), wrap=True, stride=stride)
        assert arrays[1] is not None
        arrays[1] = (np.round(arrays[1].astype(np.float64) * 64) / 64).astype(np.float16)
        got, _ = deform_conv(*arrays, **options, layout=LAYOUTS[layout])
        found[width] = snr(got.astype(np.float64), expected_deform_conv(*arrays, **options))  # type: ignore[arg-type]
    assert min(found.values()) > max(65.0, found[64] - 1.0), found


# ---- DST attention

ATTENTIONS: dict[str, dict[str, Any]] = {
    "plain": dict(heads=2, depth=8, size=(8, 16), deformed=False),
    "deformed": dict(heads=2, depth=8, size=(8, 16)),
    "deformed, no wrap": dict(heads=2, depth=8, size=(8, 16), wrap=False),
    "shift": dict(heads=2, depth=8, size=(16, 16), shift=4),
    "shift, no wrap": dict(heads=1, depth=16, size=(16, 16), shift=4, wrap=False),
    "shift by three": dict(heads=1, depth=8, size=(16, 24), shift=3),
    "plain, shift": dict(heads=1, depth=8, size=(16, 16), shift=4, deformed=False),
    "partial windows": dict(heads=2, depth=8, size=(11, 19)),
    "partial windows, shift": dict(heads=2, depth=8, size=(11, 19), shift=4),
    "partial windows, shift, no wrap": dict(heads=1, depth=8, size=(11, 19), shift=4, wrap=False),
    "smaller than a window": dict(heads=1, depth=8, size=(3, 5), shift=4),
    "one pixel": dict(heads=1, depth=8, size=(1, 1)),
    "batch": dict(batch=3, heads=1, depth=8, size=(8, 8)),
    "four heads": dict(heads=4, depth=8, size=(8, 8), shift=4),
    "three heads, five windows": dict(heads=3, depth=8, size=(8, 35)),
    "depth 4": dict(heads=2, depth=4, size=(8, 8)),
    "depth 5": dict(heads=3, depth=5, size=(8, 9)),
    "depth 12": dict(heads=2, depth=12, size=(8, 8)),
    "depth 24": dict(heads=1, depth=24, size=(8, 8)),
    "depth 32": dict(heads=2, depth=32, size=(8, 8), shift=4),
    "depth 64": dict(heads=1, depth=64, size=(8, 8), shift=4, wrap=False),
    "window 4": dict(heads=2, depth=16, size=(9, 10), window=4, shift=2),
    "window 2": dict(heads=1, depth=8, size=(3, 5), window=2, shift=1),
    "window 6": dict(heads=2, depth=8, size=(5, 13), window=6, shift=3, wrap=False),
    "window 10": dict(heads=1, depth=16, size=(10, 9), window=10, shift=5),
    "window 16": dict(heads=2, depth=8, size=(16, 16), window=16, shift=8, wrap=False),
    "far": dict(heads=1, depth=8, size=(8, 16), reach=30.0),
    "far, no wrap": dict(heads=1, depth=8, size=(8, 16), reach=30.0, wrap=False),
}


def attention(
    type_: Any,
    *,
    heads: int,
    depth: int,
    size: tuple[int, int],
    batch: int = 1,
    window: int = 8,
    shift: int = 0,
    wrap: bool = True,
    deformed: bool = True,
    reach: float = 1.5,
    seed: int = 0,
) -> tuple[list[Array | None], dict[str, Any]]:
    """Random arrays and options of a call; offsets have a standard deviation of `reach` pixels."""
    random = np.random.default_rng(seed)
    image = (batch, heads * depth, *size)
    field = (batch, 2 * heads, -(-size[0] // window), -(-size[1] // window))
    arrays = [
        *(random.normal(size=image) for _ in range(3)),
        random.normal(size=(heads, window**2, window**2)),
        random.normal(size=field, scale=0.4) if deformed else None,
        random.normal(size=field, scale=reach) if deformed else None,
    ]
    return [None if a is None else a.astype(type_) for a in arrays], dict(window=window, shift=shift, wrap=wrap)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("type_", TYPES)
@pytest.mark.parametrize("case", ATTENTIONS)
def test_dst_attention(case: str, type_: Any, layout: str) -> None:
    arrays, options = attention(type_, **ATTENTIONS[case])
    got, report = dst_attention(*arrays, **options, layout=LAYOUTS[layout])
    expected = expected_dst_attention(*arrays, **options)  # type: ignore[arg-type]
    ideal = expected_dst_attention(*arrays, **options, rounded=to_half)  # type: ignore[arg-type]
    assert got.dtype == type_
    assert_close(got, expected, ideal, case)
    assert report.blocks > 0


@pytest.mark.parametrize("case", ["deformed, no wrap", "plain, shift", "partial windows, shift", "depth 5"])
def test_the_expected_attention_is_the_plain_reference(case: str) -> None:
    arrays, options = attention(np.float64, **{**ATTENTIONS[case], "batch": 2})
    q, k, v, bias, scale, offset = (None if a is None else torch.from_numpy(a) for a in arrays)
    expected = reference.dst_attention(q, k, v, scale, offset, bias, **options)  # type: ignore[arg-type]
    assert np.allclose(expected_dst_attention(*arrays, **options), expected.numpy(), atol=1e-10)  # type: ignore[arg-type]


@pytest.mark.parametrize("wrap", [True, False])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_dst_attention_is_that_of_pytorch(layout: str, wrap: bool) -> None:
    arrays, options = attention(np.float32, heads=2, depth=16, size=(16, 19), shift=4, wrap=wrap)
    got, _ = dst_attention(*arrays, **options, layout=LAYOUTS[layout])
    q, k, v, bias, scale, offset = (torch.from_numpy(a) for a in arrays if a is not None)
    expected = ops.dst_attention(q, k, v, scale, offset, bias, **options).numpy()
    assert np.abs(got - expected).max() <= 2e-5 * np.abs(expected).max()  # both have rounded in fp32


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("type_", TYPES)
def test_large_scores_do_not_overflow(type_: Any, layout: str) -> None:
    arrays, options = attention(type_, heads=1, depth=8, size=(8, 8))
    for index in (0, 1):
        tokens = arrays[index]
        assert tokens is not None
        arrays[index] = (tokens * 12).astype(type_)
    got, _ = dst_attention(*arrays, **options, layout=LAYOUTS[layout])
    assert np.isfinite(got).all()
    expected = expected_dst_attention(*arrays, **options)  # type: ignore[arg-type]
    ideal = expected_dst_attention(*arrays, **options, rounded=to_half)  # type: ignore[arg-type]
    if type_ == np.float16:
        assert_close(got, expected, ideal, "large scores")
    else:  # scores of several hundred: their own rounding in fp32 is a share of each weight
        assert np.abs(got - expected).max() <= 2e-4 * np.abs(expected).max()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("type_", TYPES)
@pytest.mark.parametrize("which", ["q", "k", "v"])
def test_nan_stays_in_its_window(which: str, type_: Any, layout: str) -> None:
    arrays, options = attention(type_, heads=1, depth=8, size=(16, 16), deformed=False)
    clean, _ = dst_attention(*arrays, **options, layout=LAYOUTS[layout])
    spoilt = arrays["qkv".index(which)]
    assert spoilt is not None
    spoilt[0, 2, 9, 3] = np.nan  # in the window of rows 8-15, columns 0-7
    got, _ = dst_attention(*arrays, **options, layout=LAYOUTS[layout])
    window = np.zeros((16, 16), bool)
    window[8:, :8] = which != "q"
    window[9, 3] = True
    nan = np.isnan(got[0])
    assert (nan[2] if which == "v" else nan.all(0))[window].all()
    assert np.array_equal(got[0][:, ~window], clean[0][:, ~window])


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("type_", TYPES)
def test_a_query_reads_no_pixel_without_a_share(type_: Any, layout: str) -> None:
    """Moved by whole pixels, only the query that lands on a NaN is spoilt: not those whose second pixel it is."""
    arrays, options = attention(type_, heads=1, depth=8, size=(8, 16))
    q, scale, offset = arrays[0], arrays[4], arrays[5]
    assert q is not None and scale is not None and offset is not None
    scale[:] = 0
    offset[:, 0], offset[:, 1] = 1, -2
    clean, _ = dst_attention(*arrays, **options, layout=LAYOUTS[layout])
    q[0, 3, 5, 15] = np.nan
    got, _ = dst_attention(*arrays, **options, layout=LAYOUTS[layout])
    spoilt = np.zeros((8, 16), bool)
    spoilt[4, 1] = True  # row 4 + 1, column 1 - 2 around the circle
    assert np.isnan(got[0][:, spoilt]).all()
    assert np.array_equal(got[0][:, ~spoilt], clean[0][:, ~spoilt])


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("type_", TYPES)
@pytest.mark.parametrize("wrap", [True, False])
def test_extreme_scales_and_offsets(wrap: bool, type_: Any, layout: str) -> None:
    """A query at infinity or NaN is zero; far rows are the first or last; so are far columns, or they go around."""
    arrays, options = attention(type_, heads=2, depth=8, size=(16, 40), shift=4, wrap=wrap)
    scale, offset = arrays[4], arrays[5]
    assert scale is not None and offset is not None
    far = 65504.0 if type_ == np.float16 else 1e6  # exact in T, and so is every coordinate
    scale[:] = np.round(scale.astype(np.float64) * 8) / 8
    offset[:] = np.round(offset.astype(np.float64) * 8) / 8
    random = np.random.default_rng(1)
    for field, extremes in (
        (offset, [far, -far, np.inf, -np.inf, np.nan, -1.0, 17.0, -40.0]),
        (scale, [-1.0, 64.0, -1024.0, np.inf, np.nan]),
    ):
        chosen = random.uniform(size=field.shape) < 0.4
        field[chosen] = random.choice(np.array(extremes, type_), size=int(chosen.sum()))
    got, _ = dst_attention(*arrays, **options, layout=LAYOUTS[layout])
    expected = expected_dst_attention(*arrays, **options)  # type: ignore[arg-type]
    ideal = expected_dst_attention(*arrays, **options, rounded=to_half)  # type: ignore[arg-type]
    assert_close(got, expected, ideal, "extreme scales and offsets")


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("far", [3e9, -3e9, 3e38, -3e38])
def test_offsets_around_the_circle_many_times(far: float, layout: str) -> None:
    """Columns beyond every int32 and int64 still land where the remainder says."""
    arrays, options = attention(np.float32, heads=1, depth=8, size=(8, 23))
    scale, offset = arrays[4], arrays[5]
    assert scale is not None and offset is not None
    scale[:] = 0
    offset[:, 1] = np.float32(far)
    got, _ = dst_attention(*arrays, **options, layout=LAYOUTS[layout])
    offset[:, 1] = math.fmod(float(np.float32(far)), 23)
    expected, _ = dst_attention(*arrays, **options, layout=LAYOUTS[layout])
    assert np.array_equal(got, expected)


@pytest.mark.parametrize("type_", TYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_dst_attention_is_deterministic(layout: str, type_: Any) -> None:
    arrays, options = attention(type_, batch=2, heads=2, depth=8, size=(11, 16), shift=4)
    for array in (*arrays[:3], *arrays[4:]):
        assert array is not None
        array[1] = array[0]
    first, _ = dst_attention(*arrays, **options, layout=LAYOUTS[layout])
    second, _ = dst_attention(*arrays, **options, layout=LAYOUTS[layout])
    assert first[0].tobytes() == first[1].tobytes()
    assert first.tobytes() == second.tobytes()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_coordinates_of_wide_panoramas_dst_attention(layout: str) -> None:
    """As for the convolution; scale and offset are multiples of 1/16, exact in every coordinate."""
    found = {}
    for width in (64, 1024, 16384):
        arrays, options = attention(np.float16, heads=1, depth=8, size=(4, width), window=4)
        for index in (4, 5):
            field = arrays[index]
            assert field is not None
            arrays[index] = (np.round(field.astype(np.float64) * 16) / 16).astype(np.float16)
        got, _ = dst_attention(*arrays, **options, layout=LAYOUTS[layout])
        found[width] = snr(got.astype(np.float64), expected_dst_attention(*arrays, **options))  # type: ignore[arg-type]
    assert min(found.values()) > max(60.0, found[64] - 1.0), found


# ---- what is refused


def test_a_call_that_cannot_run_says_why() -> None:
    arrays, options = convolution(np.float32, channels=6, out=6, size=(3, 3))
    with pytest.raises(ValueError, match="group"):
        deform_conv(*arrays, **{**options, "groups": 4})


@pytest.mark.parametrize(
    ("field", "value", "why"),
    [
        ("window", 7, "window"),
        ("window", 18, "window"),
        ("shift", 8, "shift"),
        ("shift", -1, "shift"),
        ("heads", 3, "multiple of heads"),
        ("channels", 130, "64 for each head"),
        ("width", 2**24 + 1, "width"),
        ("batch", 0, "empty"),
        ("offset", None, "scale and offset"),
        ("bias", None, "must not be null"),
        ("type", 7, "type"),
        ("layout", 7, "layout"),
    ],
)
def test_an_attention_that_cannot_run_says_why(field: str, value: int | None, why: str) -> None:
    arrays, options = attention(np.float32, heads=2, depth=4, size=(8, 8))
    params, _, _keep = dst_attention_params(*arrays, **options)  # type: ignore[arg-type]
    setattr(params, field, value)
    function = load("dinn360_emulated").dinn360_emulated_dst_attention
    function.restype = ctypes.c_char_p
    message = function(ctypes.byref(params), ctypes.byref(Report()))
    assert message is not None and message.decode().startswith("DSTAttention: ") and why in message.decode()
