"""ONNX Runtime's CUDA part on a CPU: the backend as it is, over emulated kernels and a CUDA runtime on host memory.

What it shows is what the backend asks of CUDA and when; that CUDA gives it, only a device can show.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from kernels_expected import expected_deform_conv, expected_dst_attention
from onnx import helper
from ort_library import Array
from test_ort_operators import ATTENTION, PLAIN, attention_inputs, deform_conv_inputs

from export.operators import DOMAIN, PLUGIN, register_schemas
from plugins.build import BuildError
from plugins.testing import onnxruntime_emulated as emulated


@pytest.fixture(scope="module", autouse=True)
def library() -> str:
    try:
        return str(emulated.build())
    except BuildError as error:
        if "error" in str(error):  # it does not compile: not what a machine lacks
            raise
        pytest.skip(str(error))


def session(operator: str, inputs: dict[str, Array], constants: set[str], **attributes: Any) -> Any:
    """One node, some of whose inputs are constants of the graph."""
    register_schemas()
    node = helper.make_node(operator, list(inputs), ["y"], operator, domain=DOMAIN, **attributes, **PLUGIN)
    element = helper.np_dtype_to_tensor_dtype(next(iter(inputs.values())).dtype)
    values = [helper.make_tensor_value_info(n, element, [None] * a.ndim) for n, a in inputs.items()]
    given = [value for value in values if value.name not in constants]
    weights = [onnx.numpy_helper.from_array(inputs[name], name) for name in sorted(constants)]
    graph = helper.make_graph([node], "g", given, [helper.make_tensor_value_info("y", element, [None] * 4)], weights)
    imports = [helper.make_opsetid("", 19), helper.make_opsetid(DOMAIN, 1)]
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.register_custom_ops_library(str(emulated.build()))
    model = helper.make_model(graph, opset_imports=imports, ir_version=10)
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize(("type_", "tolerance"), [(np.float32, 1e-5), (np.float16, 5e-3)])
def test_constant_weights_are_packed_once_when_the_kernel_is_made(type_: Any, tolerance: float) -> None:
    counts = emulated.counts()
    before, ordered, held = counts.made, counts.made_in_order, counts.held
    inputs = deform_conv_inputs(type_)
    native = session("DeformConv2d", inputs, {"weight", "bias"}, **PLAIN, wrap=1)
    assert (counts.made - before, counts.held - held) == (1, 1)
    expected = expected_deform_conv(*inputs.values(), None, wrap=True)
    for size in (13, 7, 13):  # images of any size share what was packed
        x, offset = (np.ascontiguousarray(inputs[name][..., :size]) for name in ("x", "offset"))
        expected = expected_deform_conv(x, offset, inputs["weight"], inputs["bias"], None, wrap=True)
        assert np.abs(native.run(None, {"x": x, "offset": offset})[0] - expected).max() < tolerance
    assert (counts.made - before, counts.made_in_order) == (1, ordered), "a run allocates nothing"
    del native
    assert counts.held == held


def test_weights_that_are_computed_get_a_workspace_in_the_streams_order() -> None:
    counts = emulated.counts()
    before, made = counts.made_in_order, counts.made
    inputs = deform_conv_inputs()
    native = session("DeformConv2d", inputs, {"bias"}, **PLAIN, wrap=1)
    expected = expected_deform_conv(*inputs.values(), None, wrap=True)
    for number in (1, 2):
        given = {name: array for name, array in inputs.items() if name != "bias"}
        assert np.abs(native.run(None, given)[0] - expected).max() < 1e-5
        assert (counts.made_in_order - before, counts.held_in_order, counts.made) == (number, 0, made)


def test_weights_are_packed_on_the_device_where_they_lie() -> None:
    """Which is the provider's; the device that was current before is so again."""
    counts = emulated.counts()
    counts.constants_on, counts.device = 3, 1
    try:
        session("DeformConv2d", deform_conv_inputs(), {"weight", "bias"}, **PLAIN, wrap=1)
        assert (counts.made_on, counts.device) == (3, 1)
    finally:
        counts.constants_on = counts.device = 0


def test_attention() -> None:
    counts = emulated.counts()
    before = counts.made_in_order
    inputs = attention_inputs()
    native = session("DSTAttention", inputs, {"bias"}, **ATTENTION)
    found = native.run(None, {name: array for name, array in inputs.items() if name != "bias"})[0]
    assert np.abs(found - expected_dst_attention(**inputs, window=4, shift=2, wrap=True)).max() < 1e-5
    assert counts.made_in_order == before
