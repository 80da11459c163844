"""What an fp16 graph computes on hardware that keeps its fp16 tensors in fp16, as a graph that any runtime runs so.

ONNX Runtime's CPU provider has no fp16 kernels for most operators. It runs them in fp32 and drops the casts between
them, so that an fp16 graph comes out more exact there than on a GPU: only its weights are rounded. Here every operator
computes in fp32 and each of its fp16 results is rounded once, explicitly: what a kernel with fp32 sums stores.
"""

from __future__ import annotations

import onnx
import onnx_ir as ir
from onnx import ModelProto

from export.operators import register_schemas
from export.precision.roles import EXACT

_HALF, _FULL = ir.DataType.FLOAT16, ir.DataType.FLOAT


def with_rounding(model: ModelProto) -> ModelProto:
    """A copy of a lowered fp16 `model` whose tensors are all fp32 and rounded to fp16 where `model` has fp16."""
    register_schemas()
    result = ir.from_proto(onnx.shape_inference.infer_shapes(model, strict_mode=True))
    graph = result.graph
    for value in graph.initializers.values():
        if value.dtype == _HALF:
            assert value.const_value is not None
            value.const_value = ir.tensor(value.const_value.numpy().astype("float32"), name=value.name)
            value.type = ir.TensorType(_FULL)
    for node in list(graph):
        if node.op_type == "Cast":
            _widen_cast(node)
        for value in node.outputs:
            if value.dtype != _HALF:
                continue
            value.type = ir.TensorType(_FULL)
            if node.op_type not in EXACT:
                _round(graph, node, value)
    return ir.to_proto(result)


def _widen_cast(node: ir.Node) -> None:
    if node.attributes["to"].as_int() == _HALF:
        node.attributes["to"] = ir.AttrInt64("to", int(_FULL))


def _round(graph: ir.Graph, node: ir.Node, value: ir.Value) -> None:
    readers = list(value.uses())
    half = ir.node("Cast", [value], {"to": _HALF}, name=f"{value.name}_to_fp16")
    back = ir.node("Cast", [half.outputs[0]], {"to": _FULL}, name=f"{value.name}_from_fp16")
    half.outputs[0].name, back.outputs[0].name = f"{value.name}_half", f"{value.name}_rounded"
    half.outputs[0].type, back.outputs[0].type = ir.TensorType(_HALF), ir.TensorType(_FULL)
    for user, index in readers:
        user.replace_input_with(index, back.outputs[0])
    graph.insert_after(node, [half, back])
