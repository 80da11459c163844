"""The TensorRT plugin library without a GPU: what TensorRT's registry and ONNX parser make of it, and its fields.

Registry and parser are those of TensorRT-RTX, which run on any machine. test_tensorrt_life.py walks the plugins' life.
"""

from __future__ import annotations

import gc
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx.defs import OpSchema
from tensorrt_calls import (
    DEFORM_CONV,
    DST_ATTENTION,
    FIELDS,
    available,
    small,
)

from export.operators import DOMAIN, PLUGIN, SCHEMAS, VERSION
from plugins.tensorrt import library
from plugins.testing import driver
from plugins.testing.driver import Library, PluginError, Tensor


@pytest.fixture(scope="module")
def plugins() -> Library:
    return available(driver.emulated)


@pytest.fixture(scope="module")
def emulated_path() -> Path:
    return available(driver.emulated_path)


@pytest.fixture(scope="module", params=["emulated", "product"])
def path(request: pytest.FixtureRequest) -> Path:
    return available(library.product if request.param == "product" else driver.emulated_path)


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
runtime = plugin.get_capability_interface(trt.PluginCapabilityType.RUNTIME)
for part in (plugin, core, build, runtime):  # the interface that each says to be: its first slot
    print("interface", part.interface_info.kind, part.interface_info.major)
print("made", core.plugin_name, core.plugin_version, build.num_outputs, build.metadata_string)
print("timing", build.timing_cache_id, build.format_combination_limit)
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
    kinds = ["PLUGIN", "PLUGIN_V3ONE_CORE", "PLUGIN_V3ONE_BUILD", "PLUGIN_V3ONE_RUNTIME"]
    assert [line for line in printed if line.startswith("interface")] == [f"interface {kind} 1" for kind in kinds]
    fields = "heads=2 window=4 shift=2 wrap=1"
    assert f"timing DSTAttention {fields} kernels={library.kernels_revision()} 100" in printed
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
