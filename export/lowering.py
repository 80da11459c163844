"""One traced graph, four lowerings of its operators.

plugin:    the nodes stay as they are; a plugin library computes them.
standard:  DeformConv2d becomes ONNX DeformConv between a wrap and a crop; DSTAttention its primitive definition.
primitive: both become their primitive definitions; nothing but elementary operators is left.
cpu:       the nodes stay, and what stands around the convolutions is fused (export/fusion): ONNX Runtime on CPU cores.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import onnx
import onnx.inliner
import onnx_ir as ir
import onnx_ir.passes.common as passes
from onnx import GraphProto, ModelProto, NodeProto, helper, numpy_helper

from export.fusion import fuse
from export.operators import DEFORM_CONV_2D, DOMAIN, attributes_of
from export.primitives import Kind, kind_of, primitive

Lowering = Literal["standard", "primitive", "plugin", "cpu"]
LOWERINGS: tuple[Lowering, ...] = get_args(Lowering)


def lower(model: ModelProto, to: Lowering) -> ModelProto:
    """A copy of the traced `model` with its operators lowered. Its inputs, outputs and weights are the same."""
    if to == "cpu":
        return fuse(model)
    result = ModelProto()
    result.CopyFrom(model)
    if to == "plugin":
        return result
    if to == "standard":
        _use_deform_conv(result.graph)
    _attach_primitives(result)
    result = onnx.inliner.inline_local_functions(result)
    for index in reversed(range(len(result.opset_import))):
        if result.opset_import[index].domain == DOMAIN:
            del result.opset_import[index]
    return _tidy(result)


def _tidy(model: ModelProto) -> ModelProto:
    """Shares what the inlined definitions compute alike and drops what nobody reads.

    Linear-time passes only: a general optimiser needs minutes for the primitive form of `base`, and the runtimes fold
    constants themselves when they load a graph.
    """
    graph = ir.from_proto(model)
    for run in (
        passes.IdentityEliminationPass(),
        passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        passes.DeduplicateInitializersPass(),
        passes.CommonSubexpressionEliminationPass(),
        passes.RemoveUnusedNodesPass(),
    ):
        run(graph)
    return ir.to_proto(graph)


def _attach_primitives(model: ModelProto) -> None:
    """Adds the primitive definition of every custom node as a function, and points the node to it."""
    shapes = _weight_shapes(model.graph)
    opset = next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))
    elements = _element_types(model.graph)
    functions: dict[Kind, onnx.FunctionProto] = {}
    for node in model.graph.node:
        if node.domain != DOMAIN:
            continue
        kernel = (shapes[node.input[2]][2], shapes[node.input[2]][3]) if node.op_type == DEFORM_CONV_2D.name else (0, 0)
        kind = kind_of(node, kernel, elements[node.output[0]])
        if kind not in functions:
            functions[kind] = primitive(kind, opset)
        node.overload = kind.overload
    model.functions.extend(functions.values())


def _weight_shapes(graph: GraphProto) -> dict[str, list[int]]:
    return {tensor.name: list(tensor.dims) for tensor in graph.initializer}


def _element_types(graph: GraphProto) -> dict[str, int]:
    """TensorProto.DataType of the values that the trace knows."""
    return {value.name: value.type.tensor_type.elem_type for value in [*graph.value_info, *graph.output]}


def _use_deform_conv(graph: GraphProto) -> None:
    """Replaces each DeformConv2d by DeformConv, with `wrap` on a wrapped copy of x."""
    shapes = _weight_shapes(graph)
    constants: dict[str, np.ndarray] = {}
    nodes: list[NodeProto] = []
    for node in graph.node:
        if node.op_type == DEFORM_CONV_2D.name and node.domain == DOMAIN:
            nodes.extend(_deform_conv(node, shapes[node.input[2]][2:], constants))
        else:
            nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())


def _deform_conv(node: NodeProto, kernel: list[int], constants: dict[str, np.ndarray]) -> list[NodeProto]:
    """DeformConv for one DeformConv2d; the integers it needs are added to `constants`.

    Rows need nothing: DeformConv, too, reads zeros beyond them. Longitude: x is extended on both sides of the circle by
    more than a sample can reach, and the offsets by zeros, one for each stride; the result is cropped.

    The pads are alike on all four sides, in columns too, where zeros then stand beyond all that is kept. TensorRT's
    own plugin (ModulatedDeformConv2d, 10.1 to 11.1) takes the first of a pair, that of the rows, for that of the
    columns, and computes something else where they differ. So it does with strides and dilations, but no network here
    has a pair of those that differs.
    """
    attributes = attributes_of(node)
    x, offset, weight, bias, *mask = node.input
    name = node.output[0]
    pad_row, pad_column = attributes["pads"]
    same = {name: attributes[name] for name in ("strides", "dilations", "group", "offset_group")}

    def constant(value: int | list[int]) -> str:
        array = np.array(value, dtype=np.int64)
        label = "int64_" + "_".join(map(str, array.reshape(-1))) + ("_scalar" if array.ndim == 0 else "")
        constants[label.replace("-", "m")] = array
        return label.replace("-", "m")

    def convolution(inputs: list[str], output: str, pad: int) -> NodeProto:
        return helper.make_node("DeformConv", inputs, [output], node.name, kernel_shape=kernel, pads=[pad] * 4, **same)

    if not attributes["wrap"]:
        pad = min(pad_row, pad_column)
        if pad_row == pad_column:
            return [convolution([x, weight, offset, bias, *mask], name, pad)]
        more = constant([pad_row - pad, pad_column - pad] * 2)
        padding = helper.make_node("Pad", [x, more, "", constant([2, 3])], [f"{name}_padded"])
        return [padding, convolution([f"{name}_padded", weight, offset, bias, *mask], name, pad)]
    stride = attributes["strides"][1]
    beside = -(-(int(np.ceil(attributes["max_offset"])) + 1 + pad_row) // stride)
    margin = beside * stride + pad_column - pad_row
    nodes = [
        helper.make_node("Shape", [x], [f"{name}_width"], start=3, end=4),
        helper.make_node("Squeeze", [f"{name}_width"], [f"{name}_width_s"]),
        helper.make_node("Add", [f"{name}_width_s", constant(margin)], [f"{name}_stop"]),
        helper.make_node("Range", [constant(-margin), f"{name}_stop", constant(1)], [f"{name}_range"]),
        helper.make_node("Mod", [f"{name}_range", f"{name}_width_s"], [f"{name}_columns"]),
        helper.make_node("Gather", [x, f"{name}_columns"], [f"{name}_wrapped"], axis=3),
    ]
    padded: list[str] = []
    for value in [offset, *mask]:
        sides = constant([beside, beside])
        nodes.append(helper.make_node("Pad", [value, sides, "", constant([3])], [f"{name}_{len(padded)}_padded"]))
        padded.append(f"{name}_{len(padded)}_padded")
    nodes.append(convolution([f"{name}_wrapped", weight, padded[0], bias, *padded[1:]], f"{name}_wide", pad_row))
    ends = [f"{name}_wide", constant([beside]), constant([-beside]), constant([3])]
    return [*nodes, helper.make_node("Slice", ends, [name])]
