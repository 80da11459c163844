"""Writes the nodes that one node is made of: `e.Add(a, b)`, `e.Gather(x, at, axis=2)`, with constants shared."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from dinn360.tracing import ROLE

FLOAT, HALF, INT64 = ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.INT64
Array = NDArray[Any]
Value = ir.Value


class Emitter:
    """Puts operators of the standard domain in front of `node`, under its name and with its role."""

    def __init__(self, graph: ir.Graph, node: ir.Node) -> None:
        self.graph, self.node = graph, node
        self.name = node.outputs[0].name
        self.count = 0

    @property
    def inputs(self) -> tuple[Value, ...]:
        """What the node is given. No node of ours leaves an input out before another."""
        return cast(tuple[Value, ...], self.node.inputs)

    def __getattr__(self, kind: str) -> Callable[..., Value]:
        """e.Kind(*inputs, **attributes) adds an operator of one output and gives its value."""
        if not kind[0].isupper():
            raise AttributeError(kind)
        return lambda *inputs, **attributes: self.op(kind, inputs, attributes)[0]

    def op(self, kind: str, inputs: Any, attributes: dict[str, Any], outputs: int = 1) -> list[Value]:
        """Adds an operator; a sequence of integers among its inputs becomes a constant."""
        self.count += 1
        name = f"{self.name}_{kind.lower()}_{self.count}"
        values = [self.ints(*value) if isinstance(value, tuple) else value for value in inputs]
        node = ir.node(kind, values, attributes, num_outputs=outputs, name=name)
        if role := self.node.metadata_props.get(ROLE):
            node.metadata_props[ROLE] = role
        for index, value in enumerate(node.outputs):
            value.name = name if outputs == 1 else f"{name}_{index}"
        self.graph.insert_before(self.node, node)
        return list(node.outputs)

    def split(self, x: Value, parts: int, axis: int) -> list[Value]:
        """`parts` equal parts along an axis."""
        return self.op("Split", [x], {"axis": axis, "num_outputs": parts}, parts)

    def sizes(self, x: Value, count: int = 4, start: int = 0) -> list[Value]:
        """`count` dimensions of x from `start` on, each int64 (1,)."""
        return [self.Shape(x, start=start + i, end=start + i + 1) for i in range(count)]

    def shape(self, *parts: Value | int) -> Value:
        """A shape of sizes and numbers, int64."""
        return self.Concat(*((part,) if isinstance(part, int) else part for part in parts), axis=0)

    def range(self, stop: Value) -> Value:
        """0 … stop - 1, int64. stop: (1,)."""
        return self.Range(self.scalar(0), self.Squeeze(stop, (0,)), self.scalar(1))

    def cast(self, x: Value, want: ir.DataType, have: ir.DataType | None = None) -> Value:
        """x in another type; x itself where it is known to have that type."""
        return x if have == want else self.Cast(x, to=want)

    def ints(self, *values: int) -> Value:
        return self.constant(np.array(values, np.int64))

    def scalar(self, value: int) -> Value:
        return self.constant(np.array(value, np.int64))

    def float(self, value: float, element: ir.DataType = FLOAT) -> Value:
        return self.constant(np.array(value, element.numpy()))

    def constant(self, array: Array, name: str | None = None) -> Value:
        """An initializer; equal ones are merged afterwards."""
        name = name or f"{self.name}_constant_{len(self.graph.initializers)}"
        tensor = ir.tensor(np.asarray(array, order="C"), name=name)
        value = ir.Value(name=name, type=ir.TensorType(tensor.dtype), shape=ir.Shape(array.shape), const_value=tensor)
        self.graph.register_initializer(value)
        return value

    def modulo(self, x: Value, divisor: Value) -> Value:
        """x modulo divisor for floats, in [0, divisor)."""
        return self.Sub(x, self.Mul(self.Floor(self.Div(x, divisor)), divisor))

    def finish(self, *results: Value) -> None:
        """Puts the results in the place of what the node gave and removes the node."""
        for old, new in zip(self.node.outputs, results, strict=True):
            name = old.name
            new.type, new.shape = old.type, old.shape
            ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)
            old.name, new.name = f"{name}_lowered", name
        self.graph.remove(self.node, safe=True)


def expand(graph: ir.Graph, domain: str, meanings: Mapping[str, Callable[[Emitter], Value]]) -> None:
    """Writes what each node of `domain` means in its place; the domain is then none of the graph's.

    Raises KeyError for a node that `meanings` does not know.
    """
    for node in [node for node in graph if node.domain == domain]:
        emitter = Emitter(graph, node)
        emitter.finish(meanings[node.op_type](emitter))
    graph.opset_imports.pop(domain, None)


def wide(element: ir.DataType) -> ir.DataType:
    """The type in which sums of `element` are made: fp32 for fp16, else `element` itself."""
    return FLOAT if element == HALF else element


def attribute(node: ir.Node, name: str) -> Any:
    return node.attributes[name].value


def extent(value: Value, axis: int) -> int:
    """The size of an axis that the graph knows as a number (channels, a kernel)."""
    assert value.shape is not None
    size = value.shape[axis]
    assert isinstance(size, int), f"{value.name}: axis {axis} is {size}"
    return size


def bilinear(
    e: Emitter,
    element: ir.DataType,
    rows: Value,
    width: Value,
    start: Value,
    member: tuple[Value | tuple[int], Value] | None,
    at: tuple[list[Value], list[Value]],
    weights: tuple[list[Value], list[Value]],
) -> Value:
    """The bilinear mean of the four pixels around each position, rounded to `element` once: a last axis of channels.

    Samples are gathered: GridSample is read differently by TensorRT's parser from opset 20 on, miscompiled by TensorRT
    >= 10.14 inside decomposed deformable attention, and would round normalised coordinates in fp16.

    rows: the image as a matrix, `count` rows a pixel, of which `which` is wanted (member = count, which: an offset
    group, a head). start: the first pixel of each image of the batch. at: the two rows and two columns of each position
    (int64). weights: theirs, fp32.
    """
    sums = wide(element)
    parts = []
    for r in (0, 1):
        for c in (0, 1):
            place = e.Add(e.Add(e.Mul(at[0][r], width), at[1][c]), start)
            if member is not None:
                count, which = member
                place = e.Add(e.Mul(place, count), which)
            weight = e.Unsqueeze(e.Mul(weights[0][r], weights[1][c]), (-1,))
            pixels = e.Gather(rows, place, axis=0)
            parts.append(e.Mul(e.cast(pixels, sums, element), e.cast(weight, sums, FLOAT)))
    return e.cast(e.Add(e.Add(parts[0], parts[1]), e.Add(parts[2], parts[3])), element, sums)
