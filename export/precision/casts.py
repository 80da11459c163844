"""A traced fp32 graph with fp16 data and weights: strongly typed, with casts only where two precisions meet.

TensorRT 11 takes precision from the graph alone, so the graph says it all: every tensor has one type, every operator
works on one type, and a cast stands where a value crosses. A value crosses once for all its readers. Operators that
only move numbers take the type of what surrounds them, so that a cast never stands between a Slice and its Concat and
half as many bytes are moved where half is what the readers want.

Where only fp32 operators read an fp16 convolution, its bias is added after the cast, in fp32. A bias is often larger
than what the convolution makes of an image; their sum would be rounded to the step of the larger, and the bias itself
by as much at every pixel alike.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

import numpy as np
import onnx_ir as ir
from onnx import ModelProto

from engines.support.errors import UserError
from export.operators import DEFORM_CONV_2D
from export.precision.roles import EXACT, FIXED, ROLES, roles_of

HALF, FULL = ir.DataType.FLOAT16, ir.DataType.FLOAT

_FULL_INPUTS = {"Resize": (1, 2)}  # region and scales, fp32 whatever the image is
_BIAS = {"Conv": 2, "SphereConv2d": 2, DEFORM_CONV_2D.name: 3}  # the input that is the bias


def to_half(model: ModelProto, full: Collection[str]) -> ModelProto:
    """A copy of a traced fp32 `model` in fp16, but for `full` (roles) and FIXED. Its inputs and outputs stay fp32.

    Raises:
        UserError: a weight is beyond the range of fp16.
        ValueError: `full` names no role.
    """
    unknown = sorted(set(full) - set(ROLES))
    if unknown:
        raise ValueError(f"full: expected some of {sorted(ROLES)}, found {unknown[0]!r}")
    result = ir.from_proto(model)
    full = {*full, *FIXED}
    types = {node: FULL if role in full else HALF for node, role in roles_of(result.graph).items()}
    _take_biases_apart(result.graph, types)
    _follow(result.graph, types)
    borders = _Borders(result.graph)
    for node in list(result.graph):
        if node not in types:
            continue
        for index, value in enumerate(node.inputs):
            if value is not None and _is_float(value) and index not in _FULL_INPUTS.get(node.op_type, ()):
                node.replace_input_with(index, borders.bring(value, _given(value, types), types[node]))
    for node, kind in types.items():
        for value in node.outputs:
            value.type = ir.TensorType(kind)
    for index, value in enumerate(result.graph.outputs):
        if value.dtype == HALF:
            result.graph.outputs[index] = borders.widened_output(value)
    borders.drop_unread()
    return ir.to_proto(result)


def _is_float(value: ir.Value) -> bool:
    return value.dtype == FULL


def _given(value: ir.Value, types: dict[ir.Node, ir.DataType]) -> ir.DataType:
    """The type in which a value is made; graph inputs and weights are fp32."""
    producer = value.producer()
    return FULL if producer is None else types.get(producer, FULL)


def _take_biases_apart(graph: ir.Graph, types: dict[ir.Node, ir.DataType]) -> None:
    """Adds the bias of every fp16 convolution that only fp32 operators read in fp32; the sums join `types`."""
    for node, kind in list(types.items()):
        biased = node.op_type in _BIAS and len(node.inputs) > _BIAS[node.op_type]
        if biased and kind == HALF and {types.get(user) for user in _readers(node)} == {FULL}:
            types[_bias_apart(graph, node)] = FULL


def _readers(node: ir.Node) -> Iterator[ir.Node]:
    """The operators that compute with what `node` gives, behind those that only move it."""
    for value in node.outputs:
        for user in value.consumers():
            if user.op_type in EXACT:
                yield from _readers(user)
            else:
                yield user


def _bias_apart(graph: ir.Graph, convolution: ir.Node) -> ir.Node:
    """Adds the bias of a convolution to its result instead; returns that sum. DeformConv2d keeps a bias of zero."""
    place = _BIAS[convolution.op_type]
    bias, result = convolution.inputs[place], convolution.outputs[0]
    assert bias is not None and bias.const_value is not None
    values = bias.const_value.numpy()
    apart = _initializer(graph, f"{convolution.name}_bias", values.reshape(1, -1, 1, 1))
    if convolution.op_type == DEFORM_CONV_2D.name:
        convolution.replace_input_with(place, _initializer(graph, f"{convolution.name}_no_bias", np.zeros_like(values)))
    else:
        convolution.resize_inputs(place)
    readers = list(result.uses())
    add = ir.node("Add", [result, apart], name=f"{convolution.name}_biased")
    total = add.outputs[0]
    total.name, total.type, total.shape = f"{result.name}_biased", result.type, result.shape
    for user, index in readers:
        user.replace_input_with(index, total)
    graph.insert_after(convolution, add)
    return add


def _initializer(graph: ir.Graph, name: str, values: np.ndarray) -> ir.Value:
    tensor = ir.tensor(values, name=name)
    shape = ir.Shape(values.shape)
    result = ir.Value(name=name, type=ir.TensorType(tensor.dtype), shape=shape, const_value=tensor)
    graph.register_initializer(result)
    return result


def _follow(graph: ir.Graph, types: dict[ir.Node, ir.DataType]) -> None:
    """Adds to `types` the operators that only move numbers: they take the type of what surrounds them."""
    movers = [node for node in graph if node.op_type in EXACT and _is_float(node.outputs[0])]
    for node in reversed(movers):  # all readers want fp16: narrow before moving
        readers = [types.get(user) for value in node.outputs for user in value.consumers()]
        if readers and all(kind == HALF for kind in readers) and not any(v.is_graph_output() for v in node.outputs):
            types[node] = HALF
    for node in movers:  # all sources are fp16 already: widen after moving
        if node in types:
            continue
        sources = [value for value in node.inputs if value is not None and not value.is_initializer()]
        narrow = all(_given(value, types) == HALF for value in sources if _is_float(value))
        types[node] = HALF if narrow and not any(v.is_graph_output() for v in node.outputs) else FULL


class _Borders:
    """The values of a graph in their other precision, each made once."""

    def __init__(self, graph: ir.Graph) -> None:
        self.graph = graph
        self.crossed: dict[ir.Value, ir.Value] = {}

    def bring(self, value: ir.Value, have: ir.DataType, want: ir.DataType) -> ir.Value:
        if have == want:
            return value
        if value not in self.crossed:
            weight = value.is_initializer() and not value.is_graph_input()  # else a default
            self.crossed[value] = self._rounded(value) if weight else self._cast(value, want)
        return self.crossed[value]

    def _rounded(self, value: ir.Value) -> ir.Value:
        assert value.const_value is not None and value.name is not None
        exact = value.const_value.numpy()
        with np.errstate(over="ignore"):
            half = exact.astype(np.float16)
        if not np.isfinite(half).all():
            raise UserError(
                f"{value.name}: expected weights within 65504, found {abs(exact).max():g}", about="precision"
            )
        return _initializer(self.graph, f"{value.name}_fp16", half)

    def _cast(self, value: ir.Value, want: ir.DataType) -> ir.Value:
        name = f"{value.name}_{'fp16' if want == HALF else 'fp32'}"
        node = ir.node("Cast", [value], {"to": want}, name=f"node_{name}")
        result = node.outputs[0]
        result.name, result.type, result.shape = name, ir.TensorType(want), value.shape
        producer = value.producer()
        if producer is None:
            self.graph.insert_before(self.graph[0], node)
        else:
            self.graph.insert_after(producer, node)
        return result

    def widened_output(self, value: ir.Value) -> ir.Value:
        """The graph output `value`, which is fp16, in fp32 and under its own name."""
        name = value.name
        value.name = f"{name}_fp16"
        result = self.bring(value, HALF, FULL)
        result.name = name
        return result

    def drop_unread(self) -> None:
        """Removes the fp32 weights that every reader has in fp16; an input's default stays, read or not."""
        for name, value in list(self.graph.initializers.items()):
            if not (value.consumers() or value.is_graph_input() or value.is_graph_output()):
                del self.graph.initializers[name]
