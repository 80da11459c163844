"""8-bit input and output: a camera's buffer goes in and a PNG's pixels come out; the host computes nothing.

The graph reads and gives uint8 (B,H,W,3), RGB. The arithmetic is that of support.arrays: k / 255 in, and out 255 x
rounded half to even and clipped, all in fp32. Layouts are turned where the runtimes allow it: TensorRT takes uint8 at
its borders only, so the casts are outermost.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from onnx import ModelProto

_TO_NCHW, _TO_NHWC = [0, 3, 1, 2], [0, 2, 3, 1]


def with_8_bit_io(model: ModelProto) -> ModelProto:
    """A copy of `model`, whose first input and output are float (B,3,H,W) in [0,1], with uint8 (B,H,W,3) instead.

    The names stay. What is beyond [0,1] is clipped; NaN, which engines.support.arrays refuses, becomes some level.
    """
    result = ir.from_proto(model)
    graph = result.graph
    source, inner_result = graph.inputs[0], graph.outputs[0]
    peak = _constant(graph, "io_peak", 255.0)
    zero = _constant(graph, "io_zero", 0.0)

    first = graph[0]
    outer = ir.Value(name=source.name, type=ir.TensorType(ir.DataType.UINT8), shape=_permuted(source.shape, _TO_NHWC))
    levels = ir.node("Cast", [outer], {"to": ir.DataType.FLOAT}, name="io_in_levels")
    scaled = ir.node("Div", [levels.outputs[0], peak], name="io_in_scaled")
    planes = ir.node("Transpose", [scaled.outputs[0]], {"perm": _TO_NCHW}, name="io_in_planes")
    graph.insert_before(first, [levels, scaled, planes])
    source.replace_all_uses_with(planes.outputs[0])
    graph.inputs[0] = outer

    name = inner_result.name
    inner_result.name = f"{name}_float"
    raised = ir.node("Mul", [inner_result, peak], name="io_out_scaled")
    rounded = ir.node("Round", raised.outputs, name="io_out_rounded")
    clipped = ir.node("Clip", [rounded.outputs[0], zero, peak], name="io_out_clipped")
    pixels = ir.node("Transpose", clipped.outputs, {"perm": _TO_NHWC}, name="io_out_pixels")
    stored = ir.node("Cast", pixels.outputs, {"to": ir.DataType.UINT8}, name="io_out_stored")
    graph.extend([raised, rounded, clipped, pixels, stored])
    final = stored.outputs[0]
    final.name, final.type = name, ir.TensorType(ir.DataType.UINT8)
    final.shape = _permuted(inner_result.shape, _TO_NHWC)
    graph.outputs[0] = final
    return ir.to_proto(result)


def _constant(graph: ir.Graph, name: str, value: float) -> ir.Value:
    array = np.array(value, dtype=np.float32)
    tensor = ir.tensor(array, name=name)
    result = ir.Value(name=name, type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape([]), const_value=tensor)
    graph.register_initializer(result)
    return result


def _permuted(shape: ir.Shape | None, order: list[int]) -> ir.Shape | None:
    return None if shape is None else ir.Shape([shape[axis] for axis in order])
