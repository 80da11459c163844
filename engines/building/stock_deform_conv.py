"""When TensorRT's own deformable convolution may be used: its plugin computes its workspace wrongly for open sizes.

TensorRT imports an ONNX DeformConv as ModulatedDeformConv2d of its plugin library, whose workspace holds the unrolled
columns. `getWorkspaceSize` of plugin/modulatedDeformConvPlugin multiplies C*kh*kw*Ho*Wo*element in 32 bits up to
TensorRT 10.10; from 10.11 on it takes the sizes from `desc.dims`, where a size that the network leaves open is -1, so
that `enqueue` writes far beyond a workspace of some bytes.
"""

from __future__ import annotations

import math

from engines.engine_file.profile import Profile
from engines.onnx_file import OnnxFile, OnnxNode
from engines.support.errors import UserError

LIMIT = 2**31  # bytes that the 32-bit product holds
SHARE = 4  # HR pixels for each pixel of a deformable convolution, at least: ours stand behind a Haar step
BY_DESCRIPTION = (10, 11)  # the first version that takes the sizes from the network's own description
INSTEAD = "use a graph of plugin or primitive operators"


def check_deform_convs(graph: OnnxFile, profile: Profile, factor: int, tensorrt: tuple[int, ...] | None = None) -> None:
    """Refuse what TensorRT's plugin would compute outside of its workspace.

    Args:
        factor: HR pixels for each pixel of the input, along one side.
        tensorrt: version of a trtexec that builds, which leaves the network's sizes open; None: our builder, which
            fixes them where the profile has one size.

    Raises:
        UserError: one line that names the first DeformConv.
    """
    nodes = [node for node in graph.nodes if node.op_type == "DeformConv" and not node.domain]
    if not nodes:
        return
    which = f"{graph.path}: node {nodes[0].name} (DeformConv)"
    if not profile.fixed:
        raise UserError(
            f"{which}: TensorRT's own plugin computes its workspace wrongly for a range of sizes; {INSTEAD}, or build "
            f"for one size, found {profile}"
        )
    closed = all(isinstance(size, int) for tensor in graph.inputs for size in tensor.shape)
    if tensorrt is not None and tensorrt >= BY_DESCRIPTION and not closed:
        raise UserError(
            f"{which}: from TensorRT 10.11 on its own plugin computes its workspace wrongly for a graph of open sizes, "
            f"and trtexec leaves them open; {INSTEAD}, or let this package build it"
        )
    pixels = math.prod(_sides(graph, profile)) * factor**2 // SHARE
    for node in nodes:
        size = pixels * _column(graph, node)  # images of a batch come one after another
        if size >= LIMIT:
            raise UserError(
                f"{graph.path}: node {node.name} (DeformConv): its workspace would be up to {size} bytes, and "
                f"TensorRT's own plugin counts to {LIMIT - 1}; {INSTEAD}, a smaller size, or fp16"
            )


def _sides(graph: OnnxFile, profile: Profile) -> tuple[int, int]:
    """Height and width of the largest input: of (B,3,H,W), or of (B,H,W,3) in a graph of 8-bit pixels."""
    tensor = next(tensor for tensor in graph.inputs if tensor.name == profile.input)
    first = 1 if tensor.shape[-1] == 3 else 2
    return profile.maximum[first], profile.maximum[first + 1]


def _column(graph: OnnxFile, node: OnnxNode) -> int:
    """Bytes of the unrolled column of one output pixel: channels * kh * kw * element."""
    weight = next((tensor for tensor in graph.weights if tensor.name == node.inputs[1]), None)
    if weight is None:
        raise UserError(
            f"{graph.path}: node {node.name} (DeformConv): expected a constant weight, found a computed one"
        )
    _, channels, *kernel = (size for size in weight.shape if isinstance(size, int))
    group = node.attributes.get("group", 1)
    assert isinstance(group, int)
    return channels * group * math.prod(kernel) * (2 if weight.dtype == "float16" else 4)
