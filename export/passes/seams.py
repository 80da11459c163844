"""Slices of concatenations: what two blocks join and take apart between them passes through as it is."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from export.fusion.pieces import Channels, attribute, channel_count, initializer, pieces, slice_of


def cancel_seams(graph: ir.Graph) -> None:
    """Channels that are sliced or split out of a concatenation are read where they come from instead."""
    for node in list(graph):
        if node.domain or not (slice_of(node, 1) or (node.op_type == "Split" and attribute(node, "axis", 0) == 1)):
            continue
        for value in node.outputs:
            found = pieces(value)
            if len(found) != 1 or value.is_graph_output() or found[0].value is node.inputs[0]:
                continue
            ir.convenience.replace_all_uses_with(value, _read(graph, node, value, found[0]))
    for node in reversed(list(graph)):
        if not any(value.uses() or value.is_graph_output() for value in node.outputs):
            graph.remove(node, safe=True)


def _read(graph: ir.Graph, node: ir.Node, value: ir.Value, channels: Channels) -> ir.Value:
    """The channels themselves; a slice where the source has others, too. It stands in front of `node`."""
    if (channels.first, channels.count) == (0, channel_count(channels.value)):
        return channels.value
    bounds = [channels.first, channels.first + channels.count, 1]
    constants = [initializer(graph, f"{value.name}_seam_{i}", np.array([bound])) for i, bound in enumerate(bounds)]
    piece = ir.node("Slice", [channels.value, *constants], name=f"{value.name}_seam")
    result = piece.outputs[0]
    result.name, result.type, result.shape = f"{value.name}_seam", value.type, value.shape
    graph.insert_before(node, piece)
    return result
