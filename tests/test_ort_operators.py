"""The operators as nodes in ONNX Runtime: values, shapes, refusals. Their arithmetic: test_cpu_operators.py."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from kernels_expected import expected_deform_conv, expected_dst_attention
from ort_library import Array, needs_library, node_session, run_node

pytestmark = needs_library
PLAIN = {"strides": [1, 1], "pads": [1, 1], "dilations": [1, 1], "group": 1, "offset_group": 1, "max_offset": 3.0}
ATTENTION = {"heads": 2, "window": 4, "shift": 2, "wrap": 1}


def deform_conv_inputs(type_: Any = np.float32, masked: bool = False, **geometry: Any) -> dict[str, Array]:
    random = np.random.default_rng(0)
    size = geometry.get("size", (9, 13))
    inputs = {
        "x": random.normal(size=(2, 8, 9, 13)),
        "offset": random.normal(size=(2, geometry.get("fields", 1) * 18, *size)),
        "weight": random.normal(size=(5, 8, 3, 3)) / 9,
        "bias": random.normal(size=5),
    }
    if masked:
        inputs["mask"] = random.random(size=(2, geometry.get("fields", 1) * 9, *size))
    return {name: array.astype(type_) for name, array in inputs.items()}


def attention_inputs(type_: Any = np.float32, deformed: bool = True) -> dict[str, Array]:
    random = np.random.default_rng(0)
    inputs = {name: random.normal(size=(2, 8, 10, 14)) for name in "qkv"} | {"bias": random.normal(size=(2, 16, 16))}
    if deformed:
        inputs |= {"scale": random.normal(size=(2, 4, 3, 4)), "offset": 5 * random.normal(size=(2, 4, 3, 4))}
    return {name: array.astype(type_) for name, array in inputs.items()}


@pytest.mark.parametrize(("type_", "tolerance"), [(np.float32, 1e-5), (np.float16, 5e-3)])
@pytest.mark.parametrize("wrap", [False, True])
def test_deform_conv(type_: Any, tolerance: float, wrap: bool) -> None:
    inputs = deform_conv_inputs(type_, masked=True, fields=2, size=(5, 12))
    attributes = PLAIN | {"strides": [2, 1], "pads": [1, 0], "dilations": [1, 2], "offset_group": 2, "wrap": int(wrap)}
    inputs["offset"], inputs["mask"] = inputs["offset"][..., :9], inputs["mask"][..., :9]
    found = run_node("DeformConv2d", inputs, attributes)
    expected = expected_deform_conv(*inputs.values(), wrap=wrap, stride=(2, 1), pad=(1, 0), dilation=(1, 2))
    assert found.dtype == type_ and np.abs(found - expected).max() < tolerance


@pytest.mark.parametrize(("type_", "tolerance"), [(np.float32, 1e-5), (np.float16, 1e-2)])
@pytest.mark.parametrize("deformed", [False, True])
def test_dst_attention(type_: Any, tolerance: float, deformed: bool) -> None:
    inputs = attention_inputs(type_, deformed)
    found = run_node("DSTAttention", inputs, ATTENTION)
    fields = {"scale": None, "offset": None} | inputs
    expected = expected_dst_attention(**fields, window=4, shift=2, wrap=True)
    assert found.dtype == type_ and np.abs(found - expected).max() < tolerance


def test_an_optional_input_may_be_left_out() -> None:
    inputs = deform_conv_inputs()
    expected = run_node("DeformConv2d", inputs, PLAIN | {"wrap": 1})
    session = node_session("DeformConv2d", inputs | {"mask": None}, PLAIN | {"wrap": 1})
    assert np.array_equal(session.run(None, inputs)[0], expected)


def test_the_result_does_not_depend_on_the_threads() -> None:
    """Neither on a session's, nor on how many callers share it."""
    inputs = deform_conv_inputs()
    one, three = (run_node("DeformConv2d", inputs, PLAIN | {"wrap": 1}, threads) for threads in (1, 3))
    session = node_session("DeformConv2d", inputs, PLAIN | {"wrap": 1})
    with ThreadPoolExecutor(4) as pool:
        many = list(pool.map(lambda _: session.run(None, inputs)[0], range(8)))
    assert all(np.array_equal(one, other) for other in (three, *many))


def test_shapes_are_inferred_symbols_and_all() -> None:
    import onnx
    import onnxruntime
    from onnx import helper

    from export.operators import DOMAIN, PLUGIN
    from plugins.onnxruntime import library

    inputs = {"x": ["n", 8, "h", "w"], "offset": ["n", 18, "h2", "w2"], "weight": [5, 8, 3, 3], "bias": [5]}
    values = [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, s) for n, s in inputs.items()]
    node = helper.make_node("DeformConv2d", list(inputs), ["y"], domain=DOMAIN, **PLAIN, wrap=1, **PLUGIN)
    result = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)
    imports = [helper.make_opsetid("", 19), helper.make_opsetid(DOMAIN, 1)]
    model = helper.make_model(helper.make_graph([node], "g", values, [result]), opset_imports=imports, ir_version=10)
    options = onnxruntime.SessionOptions()
    options.register_custom_ops_library(str(library.find()))
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    assert session.get_outputs()[0].shape == ["n", 5, "h2", "w2"]


@pytest.mark.parametrize(
    ("operator", "change", "attributes", "words"),
    [
        ("DeformConv2d", {"offset": (2, 18, 9, 12)}, {}, "DeformConv2d: input offset: expected 13 in .* 3, found 12"),
        ("DeformConv2d", {"bias": (4,)}, {}, "input bias: expected 5 in dimension 0, found 4"),
        ("DeformConv2d", {"x": (2, 8, 9)}, {}, "input x: expected 4 dimensions, found 3"),
        ("DeformConv2d", {}, {"offset_group": 3}, "8 input and 5 output .* group 1 and offset_group 3"),
        ("DSTAttention", {"k": (2, 8, 10, 13)}, {}, "input k: expected 14 in dimension 3, found 13"),
        ("DSTAttention", {"scale": (2, 4, 3, 3)}, {}, "input scale: expected 4 in dimension 3, found 3"),
        ("DSTAttention", {}, {"heads": 3}, "8 channels do not divide by 3 heads"),
    ],
)  # fmt: skip
def test_a_call_that_does_not_fit_says_why(
    operator: str, change: dict[str, tuple[int, ...]], attributes: dict[str, int], words: str
) -> None:
    plain = operator == "DeformConv2d"
    inputs = deform_conv_inputs() if plain else attention_inputs()
    inputs |= {name: np.zeros(shape, np.float32) for name, shape in change.items()}
    with pytest.raises(Exception, match=words):
        run_node(operator, inputs, (PLAIN | {"wrap": 1} if plain else ATTENTION) | attributes)


@pytest.mark.parametrize(
    ("operator", "attributes", "words"),
    [
        ("DeformConv2d", {"strides": [0, 1]}, "strides, dilations, group and offset_group: expected positive numbers"),
        ("DeformConv2d", {"pads": [1, 1, 1, 1]}, "attribute pads: expected 2 integers, found 4"),
        ("DSTAttention", {"shift": 4}, r"shift in \[0, window\), found 2, 4 and 4"),
    ],
)
def test_a_bad_attribute_is_refused_when_the_graph_is_loaded(
    operator: str, attributes: dict[str, Any], words: str
) -> None:
    plain = operator == "DeformConv2d"
    inputs = deform_conv_inputs() if plain else attention_inputs()
    with pytest.raises(Exception, match=words):
        node_session(operator, inputs, (PLAIN | {"wrap": 1} if plain else ATTENTION) | attributes)
