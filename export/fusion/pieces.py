"""What the fusions ask of a graph: constants, single users, and where the channels of a value really are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

Array = NDArray[Any]
END = 2**31


@dataclass(frozen=True)
class Channels:
    """`count` channels of a value (B,C,H,W) from `first` on."""

    value: ir.Value
    first: int
    count: int


def constant(value: ir.Value | None) -> Array | None:
    """The array of an initializer; not that of an input with a default, which a caller may change."""
    if value is None or value.const_value is None or value.is_graph_input():
        return None
    return value.const_value.numpy()


def number(value: ir.Value | None) -> float | None:
    """The only element of a constant."""
    array = constant(value)
    return float(array.reshape(-1)[0]) if array is not None and array.size == 1 else None


def producer(value: ir.Value | None, operator: str) -> ir.Node | None:
    """The node that makes `value`, if it is this operator of the standard domain."""
    node = None if value is None else value.producer()
    return node if node is not None and (node.domain, node.op_type) == ("", operator) else None


def only_user(value: ir.Value) -> ir.Node | None:
    """The node that uses `value`, if it is used once and is no output of the graph."""
    uses = tuple(value.uses())
    return uses[0].node if len(uses) == 1 and not value.is_graph_output() else None


def other_input(node: ir.Node, value: ir.Value) -> ir.Value | None:
    """The other input of a node of two."""
    return next((v for v in node.inputs if v is not value), None)


def attribute(node: ir.Node, name: str, default: Any = None) -> Any:
    found = node.attributes.get(name)
    return default if found is None else found.value


def channel_count(value: ir.Value) -> int | None:
    """C of (B,C,H,W)."""
    if value.shape is None or len(value.shape) != 4:
        return None
    dimension = value.shape[1]
    return dimension if isinstance(dimension, int) else None


def slice_of(node: ir.Node | None, axis: int) -> tuple[int, int, int] | None:
    """(start, end, step) of a Slice along one axis by constants."""
    if node is None or node.op_type != "Slice":
        return None
    values = [constant(value) for value in node.inputs[1:]]
    if len(values) < 3 or any(value is None or value.size != 1 for value in values):
        return None
    start, end, along, *step = (int(value.reshape(-1)[0]) for value in values if value is not None)
    return (start, min(end, END), step[0] if step else 1) if along == axis else None


def pieces(value: ir.Value, first: int = 0, count: int | None = None) -> list[Channels]:
    """The channels [first, first + count) of `value`, found behind slices, concatenations and splits of channels."""
    total = channel_count(value)
    if total is None:
        return [Channels(value, first, count or 0)]
    count = total - first if count is None else count
    node = value.producer()
    if node is not None and node.domain == "":
        source = node.inputs[0]
        if (place := slice_of(node, 1)) is not None and place[0] >= 0 and place[2] == 1 and source is not None:
            return pieces(source, first + place[0], count)
        if node.op_type == "Split" and attribute(node, "axis", 0) == 1 and source is not None:
            before = node.outputs[: list(node.outputs).index(value)]
            sizes = [channel_count(output) for output in before]
            if channel_count(source) is not None and None not in sizes:
                return pieces(source, first + sum(size or 0 for size in sizes), count)
        if node.op_type == "Concat" and attribute(node, "axis") == 1:
            return _within(node.inputs, first, count) or [Channels(value, first, count)]
    return [Channels(value, first, count)]


def few_pieces(value: ir.Value, most: int) -> list[Channels]:
    """`pieces` where there are at most `most`, else `value` as it is."""
    found = pieces(value)
    return found if len(found) <= most else [Channels(value, 0, channel_count(value) or 0)]


def _within(parts: Sequence[ir.Value | None], first: int, count: int) -> list[Channels]:
    found: list[Channels] = []
    start = 0
    for part in parts:
        size = None if part is None else channel_count(part)
        if part is None or size is None:
            return []
        low, high = max(first, start), min(first + count, start + size)
        if low < high:
            found += pieces(part, low - start, high - low)
        start += size
    return found


def replace(graph: ir.Graph, anchor: ir.Node, node: ir.Node, olds: Sequence[ir.Value]) -> None:
    """Puts `node` behind `anchor`, its outputs in place of the values `olds`."""
    graph.insert_after(anchor, node)
    for old, new in zip(olds, node.outputs, strict=True):
        new.shape, new.type, name = old.shape, old.type, old.name
        ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)
        old.name, new.name = f"{name}_unfused", name


def initializer(graph: ir.Graph, name: str, array: Array) -> ir.Value:
    """A new constant of the graph."""
    tensor = ir.tensor(np.ascontiguousarray(array), name=name)
    value = ir.Value(name=name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)
    graph.register_initializer(value)
    return value
