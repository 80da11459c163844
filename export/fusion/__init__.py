"""The lowering for CPU cores: what ONNX Runtime computes in many passes over memory becomes one operator.

`fuse` turns a traced graph into one in which every convolution takes along what stands around
it (concatenations and slices of channels, activations, residuals, couplings), layer
normalisation and a Haar transform are one node each, and so is what takes the image apart into blocks of pixels
or puts it together. The new operators (domain dinn360.cpu) are computed by the same library, plugins/onnxruntime; they
are for ONNX Runtime on CPUs only and no contract for other runtimes.
"""

from __future__ import annotations

import onnx_ir as ir

from export.fusion.blocks import fuse_squeezes, fuse_unsqueezes
from export.fusion.convolutions import fuse_convolutions
from export.fusion.operators import DOMAIN, VERSION
from export.fusion.pixelwise import fuse_channel_norms, fuse_haar


def fuse(graph: ir.Graph) -> None:
    """Fuses everything in a traced graph that the operators can take. fp32 only.

    Raises ValueError for another data type.
    """
    found = {value.dtype for node in graph for value in node.outputs} - {ir.DataType.FLOAT, ir.DataType.INT64}
    if found:
        raise ValueError(f"fusion: expected an fp32 graph, found {', '.join(map(str, found))}")
    graph.opset_imports[DOMAIN] = VERSION
    # Convolutions first, in the graph's order: each takes what follows it, so that its users see what is left.
    fuse_convolutions(graph)
    fuse_channel_norms(graph)
    fuse_haar(graph)
    fuse_squeezes(graph)
    fuse_unsqueezes(graph)
