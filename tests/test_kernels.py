"""The CUDA kernels' source on the SIMT emulator against PyTorch and the plain references; any fault it finds fails.

Calls and tolerances stand in kernels_cases.py.
"""

from __future__ import annotations

import ctypes
import math
from typing import Any

import numpy as np
import pytest
import torch
from kernels_cases import ATTENTIONS, CONVOLUTIONS, TYPES, assert_close, attention, convolution, snr
from kernels_expected import expected_deform_conv, expected_dst_attention, to_half
from kernels_native import needs_compiler

from dinn360 import ops
from dinn360.ops.attention import reference as attention_reference
from dinn360.ops.deform_conv import reference as deform_conv_reference
from plugins.testing.emulator.library import Report, deform_conv, dst_attention, load
from plugins.testing.native import HWC, HWC8, LINEAR, dst_attention_params

pytestmark = needs_compiler

LAYOUTS = {"linear": LINEAR, "hwc8": HWC8}


# ---- deformable convolution


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


@pytest.mark.parametrize("options", [dict(channels=16, out=8), dict(channels=12, out=10, mask=True), dict(fields=8)])
def test_deform_conv_with_the_channels_last_and_not_filled_up(options: dict[str, Any]) -> None:
    """TensorRT's fp32 form: offsets of 18 channels, which 16 bytes do not divide, beside images that they do."""
    arrays, options = convolution(
        np.float32, **dict(channels=16, out=16, size=(5, 11), wrap=True, mask=False) | options
    )
    got, _ = deform_conv(*arrays, **options, layout=HWC)
    expected = expected_deform_conv(*arrays, **options)  # type: ignore[arg-type]
    assert_close(got, expected, expected, "not filled up")


@pytest.mark.parametrize("case", ["odd channels", "groups", "offset groups", "all at once"])
def test_the_expected_convolution_is_the_plain_reference(case: str) -> None:
    arrays, options = convolution(np.float64, **CONVOLUTIONS[case])
    tensors = [None if a is None else torch.from_numpy(a) for a in arrays]
    plain: Any = deform_conv_reference
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


@pytest.mark.parametrize("case", ["partial windows, shift", "depth 5", "depth 12"])
def test_dst_attention_with_the_channels_last_and_not_filled_up(case: str) -> None:
    arrays, options = attention(np.float32, **ATTENTIONS[case])
    got, _ = dst_attention(*arrays, **options, layout=HWC)
    expected = expected_dst_attention(*arrays, **options)  # type: ignore[arg-type]
    assert_close(got, expected, expected, case)


@pytest.mark.parametrize("case", ["deformed, no wrap", "plain, shift", "partial windows, shift", "depth 5"])
def test_the_expected_attention_is_the_plain_reference(case: str) -> None:
    arrays, options = attention(np.float64, **{**ATTENTIONS[case], "batch": 2})
    q, k, v, bias, scale, offset = (None if a is None else torch.from_numpy(a) for a in arrays)
    expected = attention_reference(q, k, v, scale, offset, bias, **options)  # type: ignore[arg-type]
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
