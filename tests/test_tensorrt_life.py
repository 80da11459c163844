"""The life of a TensorRT plugin on host memory: what the builder asks of it, and a call from its fields to its result.

driver.cpp of plugins/testing calls a plugin as TensorRT's builder and runtime do, over the emulated kernels; results
are held to the tolerance of kernels_cases.py.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from kernels_cases import assert_close, attention, convolution
from kernels_expected import expected_deform_conv, expected_dst_attention, to_half
from tensorrt_calls import (
    ACTIVATIONS,
    DEFORM_CONV,
    DST_ATTENTION,
    FIELDS,
    aligned,
    available,
    call,
    convolution_fields,
    small,
    walk,
)

from plugins.tensorrt import library
from plugins.tensorrt.library import kernels_revision
from plugins.testing import driver
from plugins.testing.driver import HWC, HWC8, LINEAR, Library, PluginError, Tensor

LINEAR_32, CHANNELS_LAST_32 = (np.float32, LINEAR), (np.float32, HWC)
LINEAR_16, CHANNELS_LAST_16 = (np.float16, LINEAR), (np.float16, HWC8)


@pytest.fixture(scope="module")
def plugins() -> Library:
    return available(driver.emulated)


# ---- what the builder asks

CONVOLUTIONS: dict[str, dict[str, Any]] = {
    "same size": dict(channels=8, out=16, size=(5, 11), wrap=True),
    "mask": dict(channels=8, out=16, size=(5, 11), mask=True),
    "stride": dict(channels=8, out=8, size=(8, 13), stride=(2, 3), wrap=True),
    "valid": dict(channels=8, out=8, size=(8, 13), pad=(0, 0)),
    "all at once": dict(batch=2, channels=12, out=10, size=(7, 9), kernel=(3, 5), stride=(2, 1), dilation=(1, 2),
                        pad=(2, 1), groups=2, fields=3, mask=True, wrap=True),
    "eights": dict(channels=16, out=8, size=(3, 5), fields=8, mask=True, wrap=True),
}  # fmt: skip
ATTENTIONS: dict[str, dict[str, Any]] = {
    "plain": dict(heads=2, depth=8, size=(8, 16), window=4, deformed=False),
    "deformed": dict(batch=2, heads=2, depth=8, size=(7, 10), window=4, shift=2),
    "no wrap": dict(heads=1, depth=16, size=(8, 8), window=4, shift=1, wrap=False),
}


@pytest.mark.parametrize("open", [(), (0, 2, 3)], ids=["known", "open"])
@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_the_output_shape_of_a_convolution(plugins: Library, case: str, open: tuple[int, ...]) -> None:
    arrays, options = convolution(np.float32, **CONVOLUTIONS[case])
    plugin = plugins.create("DeformConv2d", convolution_fields(arrays, options))
    shape, follows = plugin.output_shape(call("DeformConv2d", arrays, open=open)[:-1])
    assert shape == expected_deform_conv(*arrays, **options).shape  # type: ignore[arg-type]
    assert follows == open


@given(
    sizes=st.tuples(*[st.integers(1, 300)] * 2), kernel=st.tuples(*[st.integers(1, 7)] * 2),
    strides=st.tuples(*[st.integers(1, 4)] * 2), pads=st.tuples(*[st.integers(0, 5)] * 2),
    dilations=st.tuples(*[st.integers(1, 3)] * 2), open=st.sets(st.integers(0, 3)).map(sorted),
)  # fmt: skip
def test_the_output_shape_follows_the_convolutions_arithmetic(
    plugins: Library, sizes: Any, kernel: Any, strides: Any, pads: Any, dilations: Any, open: list[int]
) -> None:
    sides = list(zip(sizes, kernel, strides, pads, dilations, strict=True))
    out = [(n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in sides]
    assume(min(out) > 0)
    plugin = plugins.create("DeformConv2d", DEFORM_CONV | dict(strides=strides, pads=pads, dilations=dilations))
    taps = kernel[0] * kernel[1]
    shapes = [(2, 4, *sizes), (2, 2 * taps, *out), (5, 4, *kernel), (5,)]
    nothing = np.empty(0, np.float32)
    tensors = [Tensor(dims, nothing, open=tuple(open) if len(dims) == 4 else ()) for dims in [*shapes, (2, 5, *out)]]
    assert plugin.output_shape(tensors[:-1])[0] == (2, 5, *out)
    plugin.configure(tensors)
    plugin.shape_change(tensors)


def test_the_output_shape_of_a_convolution_with_a_weight_of_open_size(plugins: Library) -> None:
    """O, C and the kernel may be results of other layers."""
    arrays, options = convolution(np.float32, channels=8, out=6, size=(8, 13), kernel=(5, 3), stride=(2, 1))
    plugin = plugins.create("DeformConv2d", convolution_fields(arrays, options))
    inputs = call("DeformConv2d", arrays)[:-1]
    inputs[2].open = (0, 1, 2, 3)
    assert plugin.output_shape(inputs) == ((1, 6, 4, 13), (1, 2, 3))


def test_the_output_shape_of_an_attention(plugins: Library) -> None:
    arrays, _ = attention(np.float32, **ATTENTIONS["deformed"])
    inputs = call("DSTAttention", arrays, open=(0, 2, 3))[:-1]
    assert plugins.create("DSTAttention", DST_ATTENTION).output_shape(inputs) == ((2, 16, 7, 10), (0, 2, 3))


@pytest.mark.parametrize("name", FIELDS)
def test_the_output_has_the_type_of_the_inputs(plugins: Library, name: str) -> None:
    plugin = plugins.create(name, FIELDS[name])
    for type_ in (np.float32, np.float16):
        assert plugin.output_type(small(name, type_)[:-1]) == type_
    mixed = small(name, np.float16)[:-1]
    mixed[3].data = mixed[3].data.astype(np.float32)
    with pytest.raises(PluginError, match=f"dinn360 {name}: input 'bias': expected the data type of '[xq]'"):
        plugin.output_type(mixed)
    whole = small(name, np.float32)[:-1]
    whole[0].data = whole[0].data.astype(np.int32)
    with pytest.raises(PluginError, match=f"dinn360 {name}: input '[xq]': expected fp32 or fp16"):
        plugin.output_type(whole)


@pytest.mark.parametrize("name", FIELDS)
def test_formats(plugins: Library, name: str) -> None:
    plugin = plugins.create(name, FIELDS[name])
    assert plugin.supports(small(name, np.float32))
    assert plugin.supports(small(name, np.float16))
    assert plugin.supports(small(name, np.float16, HWC8))
    assert not plugin.supports(small(name, np.float32, HWC8))  # TensorRT has no such format
    assert not plugin.supports(small(name, np.float16, HWC))  # nor this
    for format in set(range(13)) - {LINEAR, HWC8, HWC}:
        for type_ in (np.float32, np.float16):
            tensors = small(name, type_)
            for i in (*ACTIVATIONS[name], -1):
                tensors[i].format = format
            assert not plugin.supports(tensors)


@pytest.mark.parametrize("name", FIELDS)
def test_activations_share_a_format_and_the_rest_is_linear(plugins: Library, name: str) -> None:
    plugin = plugins.create(name, FIELDS[name])
    count = len(small(name, np.float16))
    for i in range(count):
        tensors = small(name, np.float16, HWC8)
        tensors[i].format = HWC8 if tensors[i].format == LINEAR else LINEAR
        assert not plugin.supports(tensors), i
        tensors = small(name, np.float16)
        tensors[i].data = tensors[i].data.astype(np.float32)
        assert not plugin.supports(tensors), i


def test_fp32_channels_last_is_taken_for_any_number_of_channels(plugins: Library) -> None:
    """TensorRT's kHWC does not fill the channels up: the 18 of the offsets stay 18."""
    assert plugins.create("DeformConv2d", DEFORM_CONV).supports(small("DeformConv2d", np.float32, HWC))
    attention_plugin = plugins.create("DSTAttention", DST_ATTENTION)
    arrays, _ = attention(np.float32, heads=2, depth=6, size=(5, 9), window=4)
    tensors = call("DSTAttention", arrays, HWC)
    assert attention_plugin.supports(tensors)
    tensors[0].open = (1,)
    assert attention_plugin.supports(tensors)


@pytest.mark.parametrize("name", FIELDS)
def test_every_wrong_size_is_refused(plugins: Library, name: str) -> None:
    """When the plugin is configured, and when a context's shapes change; each size of each input."""
    plugin = plugins.create(name, FIELDS[name])
    right = small(name, np.float32)
    plugin.configure(right)
    plugin.shape_change(right)
    for i, tensor in enumerate(right[:-1]):
        for dimension, size in enumerate(tensor.dims):
            tensors = small(name, np.float32)
            tensors[i].dims = (*tensor.dims[:dimension], size + 7, *tensor.dims[dimension + 1 :])
            for function in (plugin.configure, plugin.shape_change):
                with pytest.raises(PluginError, match=rf"dinn360 {name}: (input|field) '\w+': expected .*, found"):
                    function(tensors)


def test_what_is_wrong_with_a_shape_is_said(plugins: Library) -> None:
    plugin = plugins.create("DeformConv2d", DEFORM_CONV)
    tensors = small("DeformConv2d", np.float32)
    tensors[1].dims = (1, 16, 5, 9)
    with pytest.raises(PluginError, match=r"input 'offset': expected \(1,18,5,9\), found \(1,16,5,9\)"):
        plugin.configure(tensors)
    tensors[0].open = (0, 2)
    with pytest.raises(PluginError, match=r"input 'offset': expected \(\?,18,\?,9\), found \(1,16,5,9\)"):
        plugin.configure(tensors)
    for name, wrong, message in (
        ("DeformConv2d", dict(group=3), "field 'group': expected a divisor of the 8 channels of x, found 3"),
        ("DeformConv2d", dict(offset_group=3), "field 'offset_group': expected a divisor of the 8 channels of x"),
        ("DSTAttention", dict(heads=3), "field 'heads': expected a divisor of the 16 channels of q, found 3"),
    ):
        with pytest.raises(PluginError, match=message):
            plugins.create(name, FIELDS[name] | wrong).configure(small(name, np.float32))


@pytest.mark.parametrize("name", FIELDS)
def test_a_wrong_number_of_inputs_is_refused(plugins: Library, name: str) -> None:
    plugin = plugins.create(name, FIELDS[name])
    *inputs, y = small(name, np.float32)
    accepted = {"DeformConv2d": (4, 5), "DSTAttention": (4, 6)}[name]
    for count in set(range(1, 8)) - set(accepted):
        given = [*inputs, *inputs][:count]
        assert not plugin.supports([*given, y])
        calls: list[tuple[Callable[..., Any], list[Tensor]]] = [
            (plugin.output_type, given), (plugin.output_shape, given),
            (plugin.configure, [*given, y]), (plugin.shape_change, [*given, y]),
        ]  # fmt: skip
        for function, tensors in calls:
            with pytest.raises(PluginError, match=f"expected {accepted[0]} or {accepted[1]} inputs, found {count}"):
                function(tensors)


# ---- the whole life


@pytest.mark.parametrize(
    ("case", "type_", "format"),
    [(case, *kind) for case in CONVOLUTIONS for kind in (LINEAR_32, CHANNELS_LAST_32, LINEAR_16, CHANNELS_LAST_16)],
)
def test_the_life_of_a_convolution(plugins: Library, case: str, type_: Any, format: int) -> None:
    arrays, options = convolution(type_, **CONVOLUTIONS[case])
    expected = expected_deform_conv(*arrays, **options)  # type: ignore[arg-type]
    ideal = expected_deform_conv(*arrays, **options, rounded=to_half)  # type: ignore[arg-type]
    tensors = call("DeformConv2d", arrays, format, y=expected.shape, open=(0, 2, 3))
    assert_close(walk(plugins, "DeformConv2d", convolution_fields(arrays, options), tensors), expected, ideal, case)


@pytest.mark.parametrize(("type_", "format"), [LINEAR_32, CHANNELS_LAST_32, LINEAR_16, CHANNELS_LAST_16])
@pytest.mark.parametrize("case", ATTENTIONS)
def test_the_life_of_an_attention(plugins: Library, case: str, type_: Any, format: int) -> None:
    arrays, options = attention(type_, **ATTENTIONS[case])
    expected = expected_dst_attention(*arrays, **options)  # type: ignore[arg-type]
    ideal = expected_dst_attention(*arrays, **options, rounded=to_half)  # type: ignore[arg-type]
    fields = dict(options, heads=ATTENTIONS[case]["heads"], wrap=int(options["wrap"]))
    tensors = call("DSTAttention", arrays, format, open=(0, 2, 3))
    assert_close(walk(plugins, "DSTAttention", fields, tensors), expected, ideal, case)


def test_a_context_goes_from_size_to_size(plugins: Library) -> None:
    """The workspace is that of the largest sizes."""
    context = plugins.create("DeformConv2d", DEFORM_CONV).attach()
    large, options = convolution(np.float32, channels=8, out=8, size=(6, 12), wrap=True)
    workspace = aligned(context.workspace_size(call("DeformConv2d", large)))
    for height, width, batch in ((6, 12, 1), (3, 5, 2), (1, 1, 1), (6, 12, 1)):
        arrays, _ = convolution(np.float32, channels=8, out=8, size=(height, width), batch=batch, wrap=True)
        tensors = call("DeformConv2d", arrays)
        context.shape_change(tensors)
        context.enqueue(tensors, workspace)
        expected = expected_deform_conv(*arrays, **options)  # type: ignore[arg-type]
        assert_close(tensors[-1].array(), expected, expected, f"{height}x{width}")


def test_an_empty_batch_is_a_call_that_does_nothing(plugins: Library) -> None:
    context = plugins.create("DeformConv2d", DEFORM_CONV).attach()
    arrays, _ = convolution(np.float32, channels=8, out=8, size=(6, 12), batch=0, wrap=True)
    tensors = call("DeformConv2d", arrays)
    context.shape_change(tensors)
    context.enqueue(tensors, np.empty(0, np.uint8))


def test_what_the_kernels_refuse_is_said(plugins: Library) -> None:
    """A width that the shapes allow and the kernels do not: when the engine is built, and when a context gets it."""
    plugin = plugins.create("DeformConv2d", DEFORM_CONV)
    tensors = small("DeformConv2d", np.float32)
    for tensor in (tensors[0], tensors[1], tensors[4], tensors[5]):
        tensor.dims = (*tensor.dims[:3], 2**30)
    for function in (plugin.configure, plugin.shape_change):
        with pytest.raises(PluginError, match="dinn360 DeformConv2d: [^D]*more than"):
            function(tensors)


@pytest.mark.parametrize("name", FIELDS)
def test_enqueue_needs_no_call_before_it(plugins: Library, name: str) -> None:
    """A context may run without onShapeChange: the engine carries the number of inputs, which enqueue is not told."""
    tensors = small(name, np.float32)
    built = plugins.create(name, FIELDS[name]).clone()
    built.configure(tensors)
    workspace = aligned(built.workspace_size(tensors))
    context = built.through_engine().attach()
    context.enqueue(tensors, workspace)
    found = tensors[-1].array().copy()
    context.shape_change(tensors)
    context.enqueue(tensors, workspace)
    assert np.isfinite(found).all() and np.array_equal(found, tensors[-1].array())


def test_enqueue_of_a_plugin_that_was_told_nothing_is_refused(plugins: Library) -> None:
    context = plugins.create("DSTAttention", DST_ATTENTION).attach()
    with pytest.raises(PluginError, match="expected 4 or 6 inputs, found 0"):
        context.enqueue(small("DSTAttention", np.float32), np.empty(0, np.uint8))


# ---- messages


def test_a_context_reports_to_the_error_recorder(plugins: Library) -> None:
    """With the code of the failure, and to stderr where there is no recorder. It is let go with the plugin."""
    tensors = small("DSTAttention", np.float32)
    tensors[3].dims = (2, 16, 15)
    message = "dinn360 DSTAttention: input 'bias': expected (2,16,16), found (2,16,15)"
    plugin = plugins.create("DSTAttention", DST_ATTENTION)
    for records in (True, False):
        context = plugin.attach(records)
        copy = context.clone()
        assert plugins.recorder_holders == 2 * records
        with pytest.raises(PluginError, match=r"expected \(2,16,16\), found \(2,16,15\)") as error:
            copy.shape_change(tensors)
        assert str(error.value) == (f"error 3: {message}" if records else message)
        del context, copy, error
    with pytest.raises(PluginError, match="error 7: dinn360 DSTAttention: expected 4 or 6 inputs, found 0"):
        plugin.attach(records=True).enqueue(small("DSTAttention", np.float32), np.empty(0, np.uint8))
    assert plugins.recorder_holders == 0


def test_timings_are_those_of_these_kernels(plugins: Library) -> None:
    """The key of the timing cache names the sources that the kernels are compiled from."""
    plugin = plugins.create("DSTAttention", DST_ATTENTION)
    assert plugin.timing_id == f"{plugin.state} kernels={kernels_revision()}"


def test_the_revision_follows_the_kernels_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = kernels_revision()
    shutil.copytree(library.SOURCES / "cuda", tmp_path / "cuda")
    shutil.copy(library.SOURCES / "params.h", tmp_path)
    monkeypatch.setattr(library, "SOURCES", tmp_path)
    assert kernels_revision() == here
    with (tmp_path / "cuda" / "pieces.cuh").open("a") as source:
        source.write("// faster\n")
    assert kernels_revision() != here
