"""Layer normalisation without a change of layout, and the Haar transform as one node."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from export.fusion.operators import CHANNEL_NORM, DOMAIN, HAAR, MOST_SOURCES
from export.fusion.pieces import attribute, few_pieces, replace
from export.operators import LAYERS


def fuse_channel_norms(graph: ir.Graph) -> None:
    """The layer is the operator."""
    for node in [node for node in graph if (node.domain, node.op_type) == (LAYERS, "ChannelNorm")]:
        epsilon = {"epsilon": float(attribute(node, "epsilon"))}
        norm = ir.node(CHANNEL_NORM.name, node.inputs, epsilon, domain=DOMAIN, name=f"{node.outputs[0].name}_norm")
        replace(graph, node, norm, node.outputs)


def fuse_haar(graph: ir.Graph) -> None:
    """Both directions take the concatenation and the slices in front of them along."""
    for node in [node for node in graph if (node.domain, node.op_type) == (LAYERS, "Haar")]:
        x = node.inputs[0]
        assert x is not None
        sources = few_pieces(x, MOST_SOURCES)
        attributes: dict[str, Any] = {
            "first_channels": [source.first for source in sources],
            "channel_counts": [source.count for source in sources],
            "inverse": int(attribute(node, "inverse")),
        }
        values = [source.value for source in sources]
        haar = ir.node(HAAR.name, values, attributes, domain=DOMAIN, name=f"{node.outputs[0].name}_haar")
        replace(graph, node, haar, node.outputs)
