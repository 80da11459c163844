"""When TensorRT's own deformable convolution may be used: its plugin computes its workspace wrongly for open sizes.

TensorRT imports an ONNX DeformConv as ModulatedDeformConv2d of its plugin library, whose workspace holds the unrolled
columns. `getWorkspaceSize` of plugin/modulatedDeformConvPlugin multiplies C*kh*kw*Ho*Wo*element in 32 bits up to
TensorRT 10.10; from 10.11 on it takes the sizes from `desc.dims`, where a size that the network leaves open is -1, so
that `enqueue` writes far beyond a workspace of some bytes.

Where a DeformConv stands, and so how many pixels it has, is read from the graph: exporters record the shape of every
tensor, ours as expressions of the input's sides ("2*lr_width + 12").
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Mapping
from fractions import Fraction

from engines.engine_file.label import scale_in
from engines.engine_file.profile import Profile
from engines.onnx_file import OnnxFile, OnnxNode
from engines.support.errors import UserError

LIMIT = 2**31  # bytes that the 32-bit product holds
BY_DESCRIPTION = (10, 11)  # the first version that takes the sizes from the network's own description
_ARITHMETIC: dict[type[ast.operator], Callable[[Fraction, Fraction], Fraction]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv
}  # fmt: skip
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
    for node in nodes:
        size = _pixels(graph, node, profile, factor) * _column(graph, node)  # images of a batch come one after another
        if size >= LIMIT:
            raise UserError(
                f"{graph.path}: node {node.name} (DeformConv): its workspace would be up to {size} bytes, and "
                f"TensorRT's own plugin counts to {LIMIT - 1}; {INSTEAD}, a smaller size, or fp16"
            )


def _pixels(graph: OnnxFile, node: OnnxNode, profile: Profile, factor: int) -> int:
    """Pixels of what a DeformConv gives of one image; where the graph does not say, as many as the HR image has."""
    height, width = _sides(graph, profile)
    scale = scale_in(graph.path, graph.metadata)
    hr = {"height": height * factor, "width": width * factor}
    known = {"height": height, "width": width, **{f"lr_{name}": -(-size // scale) for name, size in hr.items()}}
    recorded = {tensor.name: tensor for tensor in graph.outputs} | graph.values
    shape = recorded[node.outputs[0]].shape[2:] if node.outputs[0] in recorded else ()
    sides = [side if isinstance(side, int) else evaluate(side or "", known) for side in shape]
    if len(sides) == 2 and None not in sides:
        return math.prod(side for side in sides if side is not None)
    return math.prod(hr.values())


def evaluate(expression: str, names: Mapping[str, int]) -> int | None:
    """The value of a recorded size, rounded up: numbers, names, + - * /, ceil, and `or`, of which the largest counts.

    None for anything else, and for a name that is not known.
    """
    try:
        return math.ceil(_value(ast.parse(expression, mode="eval").body, names))
    except (SyntaxError, ValueError, KeyError, ZeroDivisionError, RecursionError, OverflowError):
        return None


def _value(node: ast.expr, names: Mapping[str, int]) -> Fraction:
    if isinstance(node, ast.Constant) and type(node.value) is int:
        return Fraction(node.value)
    if isinstance(node, ast.Name):
        return Fraction(names[node.id])
    if isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC:
        return _ARITHMETIC[type(node.op)](_value(node.left, names), _value(node.right, names))
    if isinstance(node, ast.BoolOp) and isinstance(node.op, ast.Or):  # two traces called it differently
        return max(_value(value, names) for value in node.values)
    if (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "ceil"
        and len(node.args) == 1
    ):
        return Fraction(math.ceil(_value(node.args[0], names)))
    raise ValueError(f"expected an expression of a size, found {ast.dump(node)}")


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
