"""One traced graph, four lowerings of its operators.

plugin:    the deformable operators stay nodes, which a plugin library computes.
standard:  DeformConv2d becomes ONNX DeformConv between a wrap and a crop; DSTAttention elementary operators.
primitive: both become elementary operators; nothing else is left.
cpu:       both stay, and every convolution becomes one node with what stands around it (export/fusion): ONNX Runtime on
           CPU cores.

And one for browsers, whose inputs are others: web is primitive, and has no optional input (export/web_graph.py).
"""

from __future__ import annotations

import onnx_ir as ir
import onnx_ir.passes.common as passes
from onnx import ModelProto

from export.config import Lowering
from export.decompositions import attention, deform_conv
from export.decompositions.emitter import expand
from export.decompositions.layers import LAYERS
from export.fusion import fuse
from export.operators import DEFORM_CONV_2D, DOMAIN, DST_ATTENTION
from export.operators import LAYERS as LAYERS_DOMAIN
from export.passes import ask_first, simplify
from export.web_graph import with_plain_inputs


def lower(model: ModelProto, to: Lowering) -> ModelProto:
    """A copy of the traced `model` with its operators lowered. Its inputs, outputs and weights are the same.

    Raises ValueError for fp16 and `cpu`.
    """
    if to == "web":
        return with_plain_inputs(lower(model, "primitive"))
    result = ir.from_proto(model)
    if to == "cpu":
        fuse(result.graph)
    else:
        simplify(result.graph, wrapping_deformation=to == "standard")
    expand(result.graph, LAYERS_DOMAIN, LAYERS)
    if to in ("standard", "primitive"):
        deformed = deform_conv.standard if to == "standard" else deform_conv.primitive
        meanings = {DEFORM_CONV_2D.name: deformed, DST_ATTENTION.name: attention.primitive}
        expand(result.graph, DOMAIN, meanings)
    _tidy(result)
    return ir.to_proto(result)


def _tidy(model: ir.Model) -> None:
    """Shares what the decompositions compute alike and drops what nobody reads.

    Linear-time passes only: a general optimiser needs minutes for the primitive form of `base`, and the runtimes fold
    constants themselves when they load a graph.
    """
    ask_first(model.graph)
    for run in (
        passes.DeduplicateInitializersPass(),
        passes.CommonSubexpressionEliminationPass(),
        passes.RemoveUnusedNodesPass(),
        passes.TopologicalSortPass(),
    ):
        run(model)
