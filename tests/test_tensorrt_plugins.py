"""The TensorRT plugins without a GPU: what TensorRT's registry and ONNX parser make of them, and a plugin's whole life.

Registry and parser are those of TensorRT-RTX, which run on any machine. The life is walked by driver.cpp of
plugins/tensorrt, which calls a plugin as TensorRT's builder and runtime do, on host memory with the emulated kernels;
results are held to the tolerance of test_kernels.py.
"""

from __future__ import annotations

import gc
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from kernels_expected import expected_deform_conv, expected_dst_attention, to_half
from onnx.defs import OpSchema
from tensorrt_calls import (
    ACTIVATIONS,
    DEFORM_CONV,
    DST_ATTENTION,
    FIELDS,
    aligned,
    call,
    convolution_fields,
    small,
    walk,
)
from test_kernels import assert_close, attention, convolution

from export.operators import DOMAIN, PLUGIN, SCHEMAS, VERSION
from plugins.tensorrt import library
from plugins.tensorrt.library import HWC, HWC8, LINEAR, Library, PluginError, Tensor, UnavailableError

LINEAR_32, CHANNELS_LAST_32 = (np.float32, LINEAR), (np.float32, HWC)
LINEAR_16, CHANNELS_LAST_16 = (np.float16, LINEAR), (np.float16, HWC8)


def available(build: Callable[[], Any]) -> Any:
    try:
        return build()
    except UnavailableError as why:
        pytest.skip(str(why))


@pytest.fixture(scope="module")
def plugins() -> Library:
    return available(library.emulated)


@pytest.fixture(scope="module")
def emulated_path() -> Path:
    return available(library.emulated_path)


@pytest.fixture(scope="module", params=["emulated", "product"])
def path(request: pytest.FixtureRequest) -> Path:
    return available(library.product if request.param == "product" else library.emulated_path)


# ---- the library


def test_the_library_exports_two_functions_and_needs_no_tensorrt(path: Path) -> None:
    exported = subprocess.run(["nm", "-D", "--defined-only", path], capture_output=True, text=True, check=True).stdout
    assert sorted(line.split()[-1] for line in exported.splitlines()) == ["getCreators", "setLoggerFinder"]
    dynamic = subprocess.run(["readelf", "-d", path], capture_output=True, text=True, check=True).stdout
    assert "nvinfer" not in dynamic


REGISTRY = """
import sys
import numpy as np
import tensorrt_rtx as trt

registry = trt.get_plugin_registry()
assert registry.load_library(sys.argv[1]) is not None

def attention(**values):
    fields = [trt.PluginField(key, np.array([n], np.int32), trt.PluginFieldType.INT32) for key, n in values.items()]
    creator = registry.get_creator("DSTAttention", "1", "")
    return creator.create_plugin("layer", trt.PluginFieldCollection(fields), trt.TensorRTPhase.BUILD)

for creator in registry.all_creators:
    if creator.name in ("DeformConv2d", "DSTAttention"):
        fields = [field.name for field in creator.field_names]
        print(creator.name, creator.plugin_version, repr(creator.plugin_namespace), *fields)

plugin = attention(heads=2, window=4, shift=2, wrap=1)
core = plugin.get_capability_interface(trt.PluginCapabilityType.CORE)
build = plugin.get_capability_interface(trt.PluginCapabilityType.BUILD)
print("made", core.plugin_name, core.plugin_version, build.num_outputs, build.metadata_string)
print("window of 5:", attention(heads=2, window=5, shift=2, wrap=1))
"""


def in_a_process_with_tensorrt(script: str, *arguments: object) -> list[str]:
    """The lines that the script printed. In a process of its own: TensorRT's registry belongs to the process."""
    pytest.importorskip("tensorrt_rtx", reason="no tensorrt_rtx here: pip install 'dinn360[rtx]'")
    command = [sys.executable, "-c", script, *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120)
    assert done.returncode == 0, done.stdout
    return done.stdout.splitlines()


def test_tensorrt_registers_the_creators(path: Path) -> None:
    printed = in_a_process_with_tensorrt(REGISTRY, path)
    for name, fields in FIELDS.items():
        assert f"{name} 1 '' {' '.join(fields)}" in printed
    assert "made DSTAttention 1 1 DSTAttention heads=2 window=4 shift=2 wrap=1" in printed
    assert "dinn360 DSTAttention: field 'window': expected an even number, found 5" in printed
    assert "window of 5: None" in printed


PARSER = """
import sys
import tensorrt_rtx as trt

logger = trt.Logger(trt.Logger.ERROR)
if len(sys.argv) > 2:
    trt.get_plugin_registry().load_library(sys.argv[2])
network = trt.Builder(logger).create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
parser = trt.OnnxParser(network, logger)
assert not parser.parse_from_file(sys.argv[1])
"""


def write_graph(path: Path, name: str, **wrong: Any) -> Path:
    """A graph of one node with all attributes of its schema."""
    attributes = FIELDS[name] | PLUGIN | wrong
    *inputs, y = small(name, np.float32)
    names = [f"input{i}" for i in range(len(inputs))]
    node = onnx.helper.make_node(name, names, ["y"], domain=DOMAIN, **attributes)

    def value(key: str, tensor: Tensor) -> onnx.ValueInfoProto:
        return onnx.helper.make_tensor_value_info(key, onnx.TensorProto.FLOAT, tensor.dims)

    graph = onnx.helper.make_graph([node], "graph", list(map(value, names, inputs)), [value("y", y)])
    opsets = [onnx.helper.make_opsetid("", 19), onnx.helper.make_opsetid(DOMAIN, VERSION)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=9), path)
    return path


@pytest.mark.parametrize(
    ("name", "last", "message"),
    [
        ("DeformConv2d", dict(offset_group=0), "field 'offset_group': expected at least 1, found 0"),
        ("DSTAttention", dict(shift=4), "field 'shift': expected less than the window of 4, found 4"),
    ],
)
def test_tensorrts_onnx_parser_finds_the_plugin_and_passes_the_attributes(
    emulated_path: Path, tmp_path: Path, name: str, last: dict[str, Any], message: str
) -> None:
    """Up to the last attribute that the plugin looks at, which is wrong here: TensorRT-RTX aborts on a whole plugin."""
    graph = write_graph(tmp_path / "graph.onnx", name, **last)
    assert "Plugin not found" in "".join(in_a_process_with_tensorrt(PARSER, graph))
    printed = in_a_process_with_tensorrt(PARSER, graph, emulated_path)
    assert "Plugin not found" not in "".join(printed)
    assert f"dinn360 {name}: {message}" in printed


# ---- fields


def test_creators_are_listed(plugins: Library) -> None:
    assert plugins.creators == [(name, "1", "", list(fields)) for name, fields in FIELDS.items()]


@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda schema: schema.name)
def test_fields_and_inputs_are_those_of_the_schema(plugins: Library, schema: OpSchema) -> None:
    assert {*FIELDS[schema.name], *PLUGIN} == set(schema.attributes)
    plugin = plugins.create(schema.name, FIELDS[schema.name])
    for i, parameter in enumerate(schema.inputs):
        inputs = small(schema.name, np.float32)[:-1]
        inputs[i].dims = (*inputs[i].dims, 1)
        rank = len(inputs[i].dims)
        with pytest.raises(PluginError, match=f"'{parameter.name}': expected {rank - 1} dimensions, found {rank}"):
            plugin.output_shape(inputs)


@pytest.mark.parametrize(
    ("name", "wrong", "message"),
    [
        ("DeformConv2d", dict(wrap=2), "field 'wrap': expected 0 or 1, found 2"),
        ("DeformConv2d", dict(wrap=1.0), "field 'wrap': expected 1 int32, found 1 float32"),
        ("DeformConv2d", dict(strides=(1,)), "field 'strides': expected 2 int32s, found 1 int32"),
        ("DeformConv2d", dict(strides=(1, 0)), "field 'strides': expected at least 1, found 0"),
        ("DeformConv2d", dict(pads=(-1, 1)), "field 'pads': expected at least 0, found -1"),
        ("DeformConv2d", dict(dilations=(0, 1)), "field 'dilations': expected at least 1, found 0"),
        ("DeformConv2d", dict(group=0), "field 'group': expected at least 1, found 0"),
        ("DeformConv2d", dict(offset_group=np.array([2**32 + 1])), "field 'offset_group': expected at least 1, found"),
        ("DeformConv2d", dict(max_offset=3), "field 'max_offset': expected 1 float32, found 1 int32"),
        ("DeformConv2d", dict(max_offset=math.nan), "field 'max_offset': expected at least 0, found nan"),
        ("DeformConv2d", dict(max_offset="3"), "field 'max_offset': expected 1 float32, found 1 text"),
        ("DeformConv2d", dict(stride=(1, 1)), "field 'stride': expected only max_offset, wrap, strides"),
        ("DeformConv2d", dict(plugin_version="2"), "field 'plugin_version': expected the text '1', found '2'"),
        ("DeformConv2d", dict(plugin_namespace="x"), "field 'plugin_namespace': expected the text '', found 'x'"),
        ("DSTAttention", dict(heads=0), "field 'heads': expected at least 1, found 0"),
        ("DSTAttention", dict(window=3), "field 'window': expected an even number, found 3"),
        ("DSTAttention", dict(shift=4), "field 'shift': expected less than the window of 4, found 4"),
    ],
)
def test_a_wrong_field_is_refused_by_name(plugins: Library, name: str, wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(PluginError) as error:
        plugins.create(name, FIELDS[name] | wrong)
    assert str(error.value).startswith(f"dinn360 {name}: {message}")


@pytest.mark.parametrize("name", FIELDS)
def test_a_missing_field_is_refused_by_name(plugins: Library, name: str) -> None:
    for missing in FIELDS[name]:
        with pytest.raises(PluginError, match=f"dinn360 {name}: field '{missing}': expected a value, found none"):
            plugins.create(name, {key: value for key, value in FIELDS[name].items() if key != missing})


def test_all_attributes_of_a_node_and_numpy_integers_are_taken(plugins: Library) -> None:
    given = {key: np.asarray(value) for key, value in DEFORM_CONV.items()}
    assert {value.dtype for value in given.values()} == {np.dtype(np.int64), np.dtype(np.float64)}
    plugin = plugins.create("DeformConv2d", given | PLUGIN)
    assert plugin.state == plugins.create("DeformConv2d", DEFORM_CONV).state


@pytest.mark.parametrize(
    ("name", "fields", "state"),
    [
        (
            "DeformConv2d",
            dict(max_offset=1 / 3, wrap=0, strides=(2, 3), pads=(4, 5), dilations=(6, 7), group=8, offset_group=9),
            "max_offset=0.333333343 wrap=0 strides=2,3 pads=4,5 dilations=6,7 group=8 offset_group=9",
        ),
        ("DSTAttention", dict(heads=3, window=8, shift=5, wrap=0), "heads=3 window=8 shift=5 wrap=0"),
    ],
)
def test_every_field_survives_the_engine_and_a_copy(
    plugins: Library, name: str, fields: dict[str, Any], state: str
) -> None:
    plugin = plugins.create(name, fields)
    assert plugin.state == f"{name} {state}"
    assert plugin.clone().through_engine().attach().through_engine().state == plugin.state


SIZES = st.integers(1, 2**31 - 1)
PAIRS = st.tuples(SIZES, SIZES)


@given(
    max_offset=st.floats(0, width=32, allow_nan=False), wrap=st.integers(0, 1),
    strides=PAIRS, pads=PAIRS, dilations=PAIRS, group=SIZES, offset_group=SIZES,
)  # fmt: skip
def test_any_fields_survive_the_engine(plugins: Library, **fields: Any) -> None:
    plugin = plugins.create("DeformConv2d", fields)
    restored = plugin.through_engine().state
    assert restored == plugin.state
    written = dict(field.split("=") for field in restored.split()[1:])
    assert np.float32(written.pop("max_offset")) == np.float32(fields.pop("max_offset"))
    assert {name: tuple(map(int, text.split(","))) for name, text in written.items()} == {
        name: value if isinstance(value, tuple) else (value,) for name, value in fields.items()
    }


def test_copies_outlive_what_they_are_copied_from(plugins: Library) -> None:
    plugin = plugins.create("DSTAttention", DST_ATTENTION)
    first = plugin.through_engine()  # fills the plugin's own list of fields
    copy = plugin.clone()
    del plugin, first
    gc.collect()
    assert copy.through_engine().state == copy.state


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


def test_fp32_channels_last_is_taken_where_it_needs_no_filling(plugins: Library) -> None:
    """TensorRT's kHWC does not fill the channels up to a multiple of 8, which the kernels' layout does."""
    attention_plugin = plugins.create("DSTAttention", DST_ATTENTION)
    assert attention_plugin.supports(small("DSTAttention", np.float32, HWC))
    arrays, _ = attention(np.float32, heads=2, depth=6, size=(5, 9), window=4)
    assert not attention_plugin.supports(call("DSTAttention", arrays, HWC))
    tensors = small("DSTAttention", np.float32, HWC)
    tensors[0].open = (1,)
    assert not attention_plugin.supports(tensors)
    convolution_plugin = plugins.create("DeformConv2d", DEFORM_CONV)
    assert not convolution_plugin.supports(small("DeformConv2d", np.float32, HWC))  # 18 offsets
    assert convolution_plugin.supports(small("DeformConv2d", np.float32, HWC, fields=8))


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
    [
        *((case, *kind) for case in CONVOLUTIONS for kind in (LINEAR_32, LINEAR_16, CHANNELS_LAST_16)),
        ("eights", *CHANNELS_LAST_32),
    ],
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


def test_what_the_kernels_refuse_is_logged(plugins: Library) -> None:
    """A width that the shapes allow and the kernels do not."""
    context = plugins.create("DeformConv2d", DEFORM_CONV).attach()
    tensors = small("DeformConv2d", np.float32)
    for tensor in (tensors[0], tensors[1], tensors[4], tensors[5]):
        tensor.dims = (*tensor.dims[:3], 2**30)
    with pytest.raises(PluginError, match="dinn360 DeformConv2d: .*more than"):
        context.shape_change(tensors)


def test_enqueue_before_any_shape_is_refused(plugins: Library) -> None:
    context = plugins.create("DSTAttention", DST_ATTENTION).attach()
    with pytest.raises(PluginError, match="expected 4 or 6 inputs, found 0"):
        context.enqueue(small("DSTAttention", np.float32), np.empty(0, np.uint8))
