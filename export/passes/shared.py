"""Convolutions of concatenations: the part that several of them read is convolved for all of them at once.

conv(cat(a, c)) is conv_a(a) + conv_c(c). Where a condition c stands in several concatenations, one convolution of c
makes the halves of all of them, so that c is read once and never copied. A 1x1 convolution of a map of latitudes, which
is the same in every column, is one of a single column.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from dinn360.tracing import ROLE
from export.fusion.pieces import Array, attribute, channel_count, constant, initializer, only_user
from export.operators import LAYERS


@dataclass(frozen=True)
class _Joined:
    """A convolution of a concatenation of two or more parts. weight: (O,C,k,k)."""

    node: ir.Node
    parts: list[ir.Value]
    weight: Array

    def weight_of(self, part: ir.Value) -> Array:
        """The columns of the weight that act on one part."""
        starts = np.cumsum([0, *(channel_count(value) or 0 for value in self.parts)])
        at = next(i for i, value in enumerate(self.parts) if value is part)
        return self.weight[:, starts[at] : starts[at + 1]]


def split_shared_convolutions(graph: ir.Graph) -> None:
    """Rewrites what the module says, wherever a part is shared or a map of latitudes."""
    found = [joined for node in graph if (joined := _joined(node))]
    for joined in found:
        for part in joined.parts:
            maker = part.producer()
            if maker is not None and maker.op_type == "Spread" and joined.weight.shape[2:] == (1, 1):
                _take_out_latitude(graph, joined, part, maker)
    found = [joined for node in graph if (joined := _joined(node))]
    groups: dict[tuple[ir.Value, tuple[int, ...], int], list[_Joined]] = {}
    for joined in found:
        for part in joined.parts:
            kind = (part, joined.weight.shape[2:], attribute(joined.node, "wrap", 0))
            groups.setdefault(kind, []).append(joined)
    for (part, _, _), users in groups.items():
        if len(users) > 1 and all(user.node.graph is graph for user in users):  # no other part has taken one of them
            _convolve_once(graph, part, users)


def _joined(node: ir.Node) -> _Joined | None:
    if (node.domain, node.op_type) != (LAYERS, "SphereConv2d") or node.inputs[0] is None:
        return None
    maker, weight = node.inputs[0].producer(), constant(node.inputs[1])
    if maker is None or maker.op_type != "Concat" or maker.domain or only_user(node.inputs[0]) is not node:
        return None
    parts = [value for value in maker.inputs if value is not None]
    if weight is None or attribute(maker, "axis") != 1 or len(set(parts)) < len(parts):
        return None
    return _Joined(node, parts, weight) if sum(channel_count(v) or 0 for v in parts) == weight.shape[1] else None


def _without(graph: ir.Graph, joined: _Joined, part: ir.Value) -> ir.Value:
    """The convolution of the other parts, in front of the old one and with its bias."""
    node = joined.node
    others = [value for value in joined.parts if value is not part]
    weight = np.concatenate([joined.weight_of(value) for value in others], axis=1)
    source = others[0]
    if len(others) > 1:
        cat = _node(graph, node, "Concat", others, "others", axis=1)
        cat.shape = _with_channels(node.inputs[0], sum(channel_count(value) or 0 for value in others))
        source = cat
    kernel = initializer(graph, f"{node.outputs[0].name}_weight_of_others", weight)
    inputs = [source, kernel, *node.inputs[2:]]
    return _node(graph, node, "SphereConv2d", inputs, "of_others", domain=LAYERS, wrap=attribute(node, "wrap", 0))


def _replace_by_sum(graph: ir.Graph, node: ir.Node, a: ir.Value, b: ir.Value) -> None:
    total = _node(graph, node, "Add", [a, b], "of_parts")
    old = node.outputs[0]
    ir.convenience.replace_all_uses_with(old, total, replace_graph_outputs=True)
    graph.remove(node, safe=True)


def _take_out_latitude(graph: ir.Graph, joined: _Joined, part: ir.Value, spread: ir.Node) -> None:
    """conv(cat(x, spread(latitude))) as conv(x) + conv(latitude), the latter of one column: (1,O,h,1)."""
    node, latitude = joined.node, spread.inputs[0]
    while latitude is not None and (maker := latitude.producer()) is not None and maker.op_type == "Identity":
        latitude = maker.inputs[0]
    assert latitude is not None
    if latitude.dtype != part.dtype:
        latitude = _node(graph, node, "Cast", [latitude], "latitude", to=part.dtype)
    kernel = initializer(graph, f"{node.outputs[0].name}_weight_of_latitude", joined.weight_of(part))
    of_map = _node(graph, node, "Conv", [latitude, kernel], "of_latitude", pads=[0] * 4, strides=[1, 1],
                   dilations=[1, 1], group=1)  # fmt: skip
    of_map.shape = ir.Shape([1, joined.weight.shape[0], None, 1])
    _replace_by_sum(graph, node, _without(graph, joined, part), of_map)


def _convolve_once(graph: ir.Graph, part: ir.Value, users: list[_Joined]) -> None:
    """One convolution of `part` for all users, whose outputs are split among them."""
    first = users[0].node
    kernel = np.concatenate([user.weight_of(part) for user in users])
    counts = [user.weight.shape[0] for user in users]
    name = f"{part.name}_{first.outputs[0].name}"
    weight = initializer(graph, f"{name}_weight_of_all", kernel)
    wrap = attribute(first, "wrap", 0)
    whole = _node(graph, first, "SphereConv2d", [part, weight], "of_all", domain=LAYERS, wrap=wrap)
    whole.shape = _with_channels(part, sum(counts))
    sizes = initializer(graph, f"{name}_counts", np.array(counts))
    split = ir.node("Split", [whole, sizes], {"axis": 1}, num_outputs=len(users), name=f"{name}_halves")
    graph.insert_before(first, split)
    for user, half, count in zip(users, split.outputs, counts, strict=True):
        half.name = f"{user.node.outputs[0].name}_half"
        half.type, half.shape = part.type, _with_channels(part, count)
        _replace_by_sum(graph, user.node, _without(graph, user, part), half)


def _with_channels(value: ir.Value | None, count: int) -> ir.Shape | None:
    if value is None or value.shape is None:
        return None
    return ir.Shape([value.shape[0], count, *list(value.shape)[2:]])


def _node(
    graph: ir.Graph, old: ir.Node, kind: str, inputs: list[ir.Value | None] | list[ir.Value], suffix: str,
    domain: str = "", **attributes: object,
) -> ir.Value:  # fmt: skip
    """A node in front of `old`, whose role and type and shape of result it has."""
    name = f"{old.outputs[0].name}_{suffix}"
    node = ir.node(kind, inputs, attributes, domain=domain, name=name)  # type: ignore[arg-type]
    if role := old.metadata_props.get(ROLE):
        node.metadata_props[ROLE] = role
    result = node.outputs[0]
    result.name, result.type, result.shape = name, old.outputs[0].type, old.outputs[0].shape
    graph.insert_before(old, node)
    return result
