"""The lowering for CPU cores: what ONNX Runtime computes in many passes over memory becomes one operator.

`fuse` turns a graph with the two plugin operators into one in which every convolution takes along what stands around
it (the columns that wrap, concatenations and slices of channels, activations, residuals, couplings), layer
normalisation keeps the layout, and a Haar transform is one node. The new operators (domain dinn360.cpu) are computed
by the same library, plugins/onnxruntime; they are for ONNX Runtime on CPUs only and no contract for other runtimes.
"""

from __future__ import annotations

import onnx_ir as ir
import onnx_ir.passes.common as passes
from onnx import ModelProto, TensorProto

from export.fusion.convolutions import fuse_convolutions
from export.fusion.operators import DOMAIN, VERSION
from export.fusion.pixelwise import fuse_channel_norms, fuse_haar


def fuse(model: ModelProto) -> ModelProto:
    """A copy of a `plugin` graph with everything fused that the operators can take. fp32 only.

    Raises ValueError for another data type.
    """
    element = model.graph.input[0].type.tensor_type.elem_type
    if element != TensorProto.FLOAT:
        raise ValueError(f"fusion: expected an fp32 graph, found {TensorProto.DataType.Name(element)}")
    fused = ir.from_proto(model)
    graph = fused.graph
    graph.opset_imports[DOMAIN] = VERSION
    # Convolutions first, in the graph's order: each takes what follows it, so that its users see what is left.
    fuse_convolutions(graph)
    fuse_channel_norms(graph)
    fuse_haar(graph)
    passes.RemoveUnusedNodesPass()(fused)
    passes.DeduplicateInitializersPass()(fused)
    passes.TopologicalSortPass()(fused)
    return ir.to_proto(fused)
