"""The CPU operators against fp64 references, with every instruction set that this CPU has and NEON on an emulator.

Calls and tolerances are those of kernels_cases.py. fp16 data is widened, and only the output is rounded to fp16, which
is less than the tolerance allows for.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cpu_cases
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernels_cases import ATTENTIONS, CONVOLUTIONS, assert_close, attention, convolution, snr
from kernels_expected import expected_deform_conv, expected_dst_attention, to_half
from kernels_native import Array

from plugins.build import missing
from plugins.testing import cpu_operators as library
from plugins.testing import native
from plugins.testing.cpu_operators import Call, deform_conv, dst_attention

TYPES = [np.float32, np.float16]
WHY_NOT = missing()
SETS = [] if WHY_NOT else library.instruction_sets()
pytestmark = pytest.mark.skipif(WHY_NOT is not None, reason=f"the CPU operators cannot be built: {WHY_NOT}")

# Sizes of the network, and what only vectors and tiles can get wrong.
MORE_CONVOLUTIONS: dict[str, dict[str, Any]] = {
    "16": dict(channels=16, out=16, size=(11, 53), wrap=True),
    "24": dict(channels=24, out=24, size=(11, 53), wrap=True),
    "32": dict(channels=32, out=32, size=(11, 53), wrap=True, mask=True),
    "48": dict(channels=48, out=48, size=(5, 53), wrap=True),
    "64": dict(channels=64, out=64, size=(9, 53)),
    "several units": dict(channels=8, out=8, size=(29, 41), wrap=True),
    "slices of groups": dict(channels=24, out=12, size=(5, 19), groups=2, fields=3, mask=True, wrap=True),
    "offset groups of vectors": dict(channels=64, out=32, size=(5, 19), fields=2, wrap=True),
    "wide groups": dict(channels=64, out=64, size=(5, 19), groups=2, wrap=True),
    "one column": dict(channels=8, out=8, size=(23, 1), wrap=True),
    "far": dict(channels=8, out=8, size=(5, 9), wrap=True, reach=40.0),
}  # fmt: skip
MORE_ATTENTIONS: dict[str, dict[str, Any]] = {
    "network": dict(heads=2, depth=16, size=(24, 80), shift=4),
    "network, no wrap": dict(heads=2, depth=16, size=(24, 80), shift=4, wrap=False),
    "base": dict(heads=4, depth=8, size=(13, 47), shift=4),
    "window 6": dict(heads=1, depth=8, size=(13, 31), window=6, shift=3),
    "window 12": dict(heads=1, depth=12, size=(13, 31), window=12, shift=5),
    "window 16": dict(heads=1, depth=8, size=(16, 33), window=16, shift=8),
    "stretched": dict(heads=1, depth=8, size=(16, 64), reach=6.0, seed=3),
}  # fmt: skip
ALL_CONVOLUTIONS, ALL_ATTENTIONS = {**CONVOLUTIONS, **MORE_CONVOLUTIONS}, {**ATTENTIONS, **MORE_ATTENTIONS}


def check_convolution(got: Array, arrays: list[Array | None], options: dict[str, Any], what: str) -> None:
    expected = expected_deform_conv(*arrays, **options)  # type: ignore[arg-type]
    ideal = expected_deform_conv(*arrays, **options, rounded=to_half)  # type: ignore[arg-type]
    assert_close(got, expected, ideal, what)


def check_attention(got: Array, arrays: list[Array | None], options: dict[str, Any], what: str) -> None:
    expected = expected_dst_attention(*arrays, **options)  # type: ignore[arg-type]
    ideal = expected_dst_attention(*arrays, **options, rounded=to_half)  # type: ignore[arg-type]
    assert_close(got, expected, ideal, what)


@pytest.mark.parametrize("instruction_set", SETS)
@pytest.mark.parametrize("type_", TYPES)
@pytest.mark.parametrize("case", ALL_CONVOLUTIONS)
def test_deform_conv(case: str, type_: Any, instruction_set: str) -> None:
    arrays, options = convolution(type_, **ALL_CONVOLUTIONS[case])
    got = deform_conv(*arrays, **options, instruction_set=instruction_set)
    assert got.dtype == type_
    check_convolution(got, arrays, options, case)


@pytest.mark.parametrize("instruction_set", SETS)
@pytest.mark.parametrize("type_", TYPES)
@pytest.mark.parametrize("case", ALL_ATTENTIONS)
def test_dst_attention(case: str, type_: Any, instruction_set: str) -> None:
    arrays, options = attention(type_, **ALL_ATTENTIONS[case])
    got = dst_attention(*arrays, **options, instruction_set=instruction_set)
    assert got.dtype == type_
    check_attention(got, arrays, options, case)


@settings(max_examples=40)
@given(
    channels=st.integers(1, 40), out=st.integers(1, 40), height=st.integers(1, 9), width=st.integers(1, 60),
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)), mask=st.booleans(), wrap=st.booleans(),
    reach=st.sampled_from([0.0, 1.0, 30.0]), seed=st.integers(0, 99),
)  # fmt: skip
def test_any_convolution(kernel: tuple[int, int], height: int, width: int, **case: Any) -> None:
    size = (height + kernel[0], width + kernel[1])
    arrays, options = convolution(np.float32, size=size, kernel=kernel, **case)
    for instruction_set in SETS:
        check_convolution(deform_conv(*arrays, **options, instruction_set=instruction_set), arrays, options, "any")


@settings(max_examples=40)
@given(
    heads=st.integers(1, 3), depth=st.integers(1, 17), height=st.integers(1, 30), width=st.integers(1, 60),
    window=st.sampled_from([2, 4, 8]), shift=st.integers(0, 7), wrap=st.booleans(), deformed=st.booleans(),
    reach=st.sampled_from([0.0, 1.0, 30.0]), seed=st.integers(0, 99),
)  # fmt: skip
def test_any_attention(height: int, width: int, window: int, shift: int, **case: Any) -> None:
    arrays, options = attention(np.float32, size=(height, width), window=window, shift=shift % window, **case)
    for instruction_set in SETS:
        check_attention(dst_attention(*arrays, **options, instruction_set=instruction_set), arrays, options, "any")


# ---- offsets and values that are no numbers


@pytest.mark.parametrize("instruction_set", SETS)
@pytest.mark.parametrize("type_", TYPES)
@pytest.mark.parametrize("wrap", [True, False])
def test_extreme_offsets(wrap: bool, type_: Any, instruction_set: str) -> None:
    """A sample at infinity or NaN is zero; far rows are zero; far columns are zero or somewhere around the circle."""
    arrays, options = convolution(type_, channels=8, out=8, size=(6, 17), wrap=wrap, mask=True)
    far = 65504.0 if type_ == np.float16 else 1e6
    extremes = np.array([far, -far, np.inf, -np.inf, np.nan, 0.0, -1.0, 16.0, 17.0, -17.0], type_)
    offset = arrays[1]
    assert offset is not None
    random = np.random.default_rng(1)
    chosen = random.uniform(size=offset.shape) < 0.5
    offset[chosen] = random.choice(extremes, size=int(chosen.sum()))
    check_convolution(deform_conv(*arrays, **options, instruction_set=instruction_set), arrays, options, "extreme")


@pytest.mark.parametrize("instruction_set", SETS)
@pytest.mark.parametrize("wrap", [True, False])
def test_offsets_beyond_every_integer(wrap: bool, instruction_set: str) -> None:
    arrays, options = convolution(np.float32, channels=8, out=8, size=(3, 9), wrap=wrap)
    assert arrays[1] is not None and arrays[3] is not None
    arrays[1][:, 0::2] = 3e38
    arrays[1][:, 1::4] = -3e38
    got = deform_conv(*arrays, **options, instruction_set=instruction_set)
    assert np.allclose(got, np.broadcast_to(arrays[3][None, :, None, None], got.shape))
    arrays[1][:, 0::2] = 0
    assert np.isfinite(deform_conv(*arrays, **options, instruction_set=instruction_set)).all()


@pytest.mark.parametrize("instruction_set", SETS)
@pytest.mark.parametrize("wrap", [True, False])
def test_nan_goes_only_where_it_was_sampled(wrap: bool, instruction_set: str) -> None:
    """The pixels at corners and borders are where a clamped address would go."""
    arrays, options = convolution(np.float32, channels=16, out=8, size=(7, 19), wrap=wrap)
    clean = deform_conv(*arrays, **options, instruction_set=instruction_set)
    x, offset = arrays[0], arrays[1]
    assert x is not None and offset is not None
    spoilt = np.zeros(x.shape[2:])
    for row, column in ((0, 0), (6, 18), (0, 9), (3, 5)):
        spoilt[row, column] = 1
        x[:, 3, row, column] = np.nan
    got = deform_conv(*arrays, **options, instruction_set=instruction_set)
    one = np.ones((1, 1, 3, 3))
    seen = expected_deform_conv(spoilt[None, None], offset, one, np.zeros(1), None, **options)[0, 0]
    assert np.isnan(got[:, :, seen > 1e-3]).all() and (seen > 1e-3).any()
    assert np.array_equal(got[:, :, seen == 0], clean[:, :, seen == 0]) and (seen == 0).any()


@pytest.mark.parametrize("instruction_set", SETS)
@pytest.mark.parametrize("which", ["q", "k", "v"])
def test_nan_stays_in_its_window(which: str, instruction_set: str) -> None:
    arrays, options = attention(np.float32, heads=1, depth=8, size=(16, 16), deformed=False)
    clean = dst_attention(*arrays, **options, instruction_set=instruction_set)
    spoilt = arrays["qkv".index(which)]
    assert spoilt is not None
    spoilt[0, 2, 9, 3] = np.nan  # in the window of rows 8-15, columns 0-7
    got = dst_attention(*arrays, **options, instruction_set=instruction_set)
    window = np.zeros((16, 16), bool)
    window[8:, :8] = which != "q"
    window[9, 3] = True
    nan = np.isnan(got[0])
    assert (nan[2] if which == "v" else nan.all(0))[window].all()
    assert np.array_equal(got[0][:, ~window], clean[0][:, ~window])


@pytest.mark.parametrize("instruction_set", SETS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38])
def test_attention_reads_within_its_images(value: float, instruction_set: str) -> None:
    """A scale or offset that is no place in the image spoils its own window and head at most."""
    arrays, options = attention(np.float32, heads=2, depth=8, size=(16, 16))
    clean = dst_attention(*arrays, **options, instruction_set=instruction_set)
    for index in (4, 5):
        field = arrays[index]
        assert field is not None
        field[0, 1, 1, 0] = value
    got = dst_attention(*arrays, **options, instruction_set=instruction_set)
    other = np.ones((16, 16, 16), bool)
    other[:8, 8:, :8] = False
    assert np.array_equal(got[0][other], clean[0][other])
    assert np.isnan(got).any() == (not value == 3e38)


@pytest.mark.parametrize("instruction_set", SETS)
def test_large_scores_do_not_overflow(instruction_set: str) -> None:
    arrays, options = attention(np.float32, heads=1, depth=8, size=(8, 8))
    arrays[:2] = [a * np.float32(12) for a in arrays[:2] if a is not None]
    got = dst_attention(*arrays, **options, instruction_set=instruction_set)
    expected = expected_dst_attention(*arrays, **options)  # type: ignore[arg-type]
    assert np.abs(got - expected).max() <= 2e-4 * np.abs(expected).max()  # scores of several hundreds round in fp32


# ---- laws


def calls(instruction_set: str, threads: int) -> list[Call]:
    """One call of each operator, larger than the work of three threads."""
    convolved, options = convolution(np.float32, batch=2, channels=16, out=24, size=(37, 61), wrap=True, mask=True)
    attended, windows = attention(np.float32, batch=2, heads=2, depth=8, size=(29, 61), shift=4)
    return [
        Call("deform_conv", *native.deform_conv_params(*convolved, **options), threads, instruction_set),  # type: ignore[arg-type]
        Call("dst_attention", *native.dst_attention_params(*attended, **windows), threads, instruction_set),  # type: ignore[arg-type]
    ]


@pytest.mark.parametrize("instruction_set", SETS)
def test_any_number_of_threads_gives_the_same_bits(instruction_set: str) -> None:
    first, *others = ([call().tobytes() for call in calls(instruction_set, threads)] for threads in (1, 2, 3))
    assert all(other == first for other in others)


@pytest.mark.parametrize("instruction_set", SETS)
def test_what_the_workspace_held_does_not_matter(instruction_set: str) -> None:
    for call in calls(instruction_set, threads=2):
        expected = call().copy()
        workspace = np.full(call.workspace_size() // 4 + 1, np.nan, np.float32)
        assert call(workspace).tobytes() == expected.tobytes()
        assert call(workspace).tobytes() == expected.tobytes()


@pytest.mark.parametrize("instruction_set", SETS)
def test_neither_the_size_of_an_image_nor_the_place_of_its_output_matters(instruction_set: str) -> None:
    """Large images are written past the caches: the copy in whole pixels, an output where it starts a cache line."""
    (x, offset, *others), options = convolution(np.float32, channels=48, out=48, size=(128, 112), wrap=True)
    assert x is not None and offset is not None
    offset = np.clip(offset, -3, 3)
    some, inner = slice(40, 80), slice(8, 32)  # of the rows: taps and offsets reach five further
    part = deform_conv(x[:, :, some], offset[:, :, some], *others, **options, instruction_set=instruction_set)
    params, y, keep = native.deform_conv_params(x, offset, *others, **options)
    memory = np.empty(y.size + 32, np.float32)
    line = -memory.ctypes.data % 64 // 4
    for distance in (0, 1, 4, 15):
        memory.fill(7)
        params.y = memory.ctypes.data + 4 * (line + distance)
        Call("deform_conv", params, y, keep, 2, instruction_set)()
        before, got, after = np.split(memory, [line + distance, line + distance + y.size])
        assert (before == 7).all() and (after == 7).all()
        assert np.array_equal(got.reshape(y.shape)[:, :, some][:, :, inner], part[:, :, inner])


@pytest.mark.parametrize("instruction_set", SETS)
def test_the_workspace_is_one_copy_and_a_row_tile_for_each_thread(instruction_set: str) -> None:
    arrays, options = convolution(np.float32, channels=32, out=32, size=(128, 256), wrap=True)
    prepared = native.deform_conv_params(*arrays, **options)  # type: ignore[arg-type]
    sizes = [Call("deform_conv", *prepared, threads, instruction_set).workspace_size() for threads in (1, 2)]
    assert arrays[0] is not None
    row = arrays[0].nbytes / 128
    copy, tile = 2 * sizes[0] - sizes[1], sizes[1] - sizes[0]
    assert tile < 3 * row
    assert copy < arrays[0].nbytes + 6 * row + 4 * 32 * 32 * 10

    tokens, windows = attention(np.float32, heads=2, depth=16, size=(64, 256))
    call = Call("dst_attention", *native.dst_attention_params(*tokens, **windows), 2, instruction_set)  # type: ignore[arg-type]
    assert tokens[0] is not None
    assert call.workspace_size() < tokens[0].nbytes / 8


@pytest.mark.parametrize("instruction_set", SETS)
@pytest.mark.parametrize("width", [64, 1024, 8192])
def test_coordinates_of_wide_panoramas(width: int, instruction_set: str) -> None:
    """The error in fp32 does not grow with the width: offsets keep their own precision at every column."""
    arrays, options = convolution(np.float32, channels=8, out=8, size=(3, width), wrap=True)
    check_convolution(deform_conv(*arrays, **options, instruction_set=instruction_set), arrays, options, "wide")
    tokens, windows = attention(np.float16, heads=1, depth=8, size=(4, width), window=4)
    got = dst_attention(*tokens, **windows, instruction_set=instruction_set)
    assert snr(got.astype(np.float64), expected_dst_attention(*tokens, **windows)) > 65  # type: ignore[arg-type]


# ---- what is refused


def refused(operator: str, arrays: list[Array | None], options: dict[str, Any], **fields: int) -> str:
    prepare: Any = native.deform_conv_params if operator == "deform_conv" else native.dst_attention_params
    params, y, keep = prepare(*arrays, **options)
    for name, value in fields.items():
        setattr(params, name, value)
    with pytest.raises(ValueError) as error:
        Call(operator, params, y, keep)()
    assert np.isnan(y).all()
    return str(error.value)


def test_a_call_that_cannot_run_says_why() -> None:
    arrays, options = convolution(np.float32, channels=6, out=6, size=(3, 3))
    assert "groups" in refused("deform_conv", arrays, options, groups=4)
    assert "offset_groups" in refused("deform_conv", arrays, options, offset_groups=4)
    assert "stride" in refused("deform_conv", arrays, options, stride_row=0)
    assert "too many pixels" in refused("deform_conv", arrays, options, height=1 << 16, width=1 << 16)
    assert "layout" in refused("deform_conv", arrays, options, layout=native.HWC8)
    assert "type" in refused("deform_conv", arrays, options, type=7)
    assert "null" in refused("deform_conv", arrays, options, x=0)
    arrays, options = attention(np.float32, heads=2, depth=4, size=(8, 8))
    assert "heads" in refused("dst_attention", arrays, options, heads=3)
    assert "window" in refused("dst_attention", arrays, options, window=7)
    assert "shift" in refused("dst_attention", arrays, options, shift=8)
    assert "together" in refused("dst_attention", arrays, options, scale=0)


def test_an_unknown_instruction_set_is_refused() -> None:
    arrays, options = convolution(np.float32, channels=4, out=4, size=(3, 3))
    with pytest.raises(ValueError, match="instruction set"):
        deform_conv(*arrays, **options, instruction_set="sse9")


# ---- NEON

NO_ARM = cpu_cases.why_not()


@pytest.mark.skipif(NO_ARM is not None, reason=f"NEON code cannot be run: {NO_ARM}")
@pytest.mark.parametrize("instruction_set", ["neon", "portable"])
def test_on_arm(instruction_set: str, tmp_path: Path) -> None:
    convolutions = [
        (case, *convolution(type_, **ALL_CONVOLUTIONS[case])) for case in ALL_CONVOLUTIONS for type_ in TYPES
    ]
    attentions = [(case, *attention(type_, **ALL_ATTENTIONS[case])) for case in ALL_ATTENTIONS for type_ in TYPES]
    prepared: list[Any] = [native.deform_conv_params(*a, **o) for _, a, o in convolutions]  # type: ignore[arg-type]
    prepared += [native.dst_attention_params(*a, **o) for _, a, o in attentions]  # type: ignore[arg-type]
    results = iter(cpu_cases.run_on_arm(prepared, tmp_path, instruction_set))
    for case, arrays, options in convolutions:
        check_convolution(next(results), arrays, options, case)
    for case, arrays, options in attentions:
        check_attention(next(results), arrays, options, case)
