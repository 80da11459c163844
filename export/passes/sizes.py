"""Questions about sizes, asked of one tensor where many have that size.

Lowered operators ask their inputs for height and width and reckon with the answer: paddings, numbers of windows,
coordinates. Tensors of one size lead to the same numbers, but not by nodes that look alike. Here each such question
goes to the first tensor of that size, so that common subexpressions are found behind it.
"""

from __future__ import annotations

from collections.abc import Hashable

import onnx_ir as ir

from export.fusion.operators import DOMAIN as CPU
from export.fusion.pieces import attribute, constant
from export.operators import DEFORM_CONV_2D, DOMAIN, DST_ATTENTION

# Their results have the height and the width of the first input.
_KEEPS = frozenset([
    *(("", kind) for kind in ("Cast", "Clip", "LayerNormalization", "LeakyRelu", "Relu", "Sigmoid")),
    *((CPU, kind) for kind in ("SphereConv2d", "ChannelNorm")),
    (DOMAIN, DST_ATTENTION.name),
])  # fmt: skip
_ELEMENTWISE = frozenset(("", kind) for kind in ("Add", "Mul", "Sub"))
_FIRST = 2  # axes from here on are height and width


def ask_first(graph: ir.Graph) -> None:
    """Rewrites every Shape node that reads nothing but height or width. What it gives stays the same.

    Names of sizes in a trace are no proof: two sizes can have one name. Only what operators do to a size is.
    """
    sizes: dict[ir.Value, Hashable] = {}
    first: dict[Hashable, ir.Value] = {value: value for value in graph.inputs}
    for node in graph:
        given = node.inputs[0] if node.inputs else None
        if given is not None and node.op_type == "Shape" and attribute(node, "start", 0) >= _FIRST:
            node.replace_input_with(0, first.get(sizes.get(given, given), given))
            continue
        size = _size(node, given, sizes)
        for value in node.outputs:
            sizes[value] = value if size is None else size
            first.setdefault(sizes[value], value)


def _size(node: ir.Node, given: ir.Value | None, sizes: dict[ir.Value, Hashable]) -> Hashable:
    """Equal for results of equal height and width, as far as the nodes that made them show it; None: not known."""
    if given is not None and (node.domain, node.op_type) in _KEEPS:
        return sizes.get(given, given)
    if (node.domain, node.op_type) in _ELEMENTWISE:
        found = {sizes.get(value, value) for value in node.inputs if value is not None and constant(value) is None}
        return found.pop() if len(found) == 1 else None
    if node.op_type == DEFORM_CONV_2D.name and node.domain == DOMAIN and _same_size(node):
        return sizes.get(given, given) if given is not None else None
    if node.domain == CPU and node.op_type in ("Haar", "SphereSqueeze"):
        return node  # of all its results
    if given is not None and (node.domain, node.op_type) == ("", "AveragePool"):
        attributes = tuple(sorted((name, str(found.value)) for name, found in node.attributes.items()))
        return "AveragePool", attributes, sizes.get(given, given)
    return None


def _same_size(node: ir.Node) -> bool:
    """Whether a deformable convolution gives as many pixels as it reads."""
    weight = constant(node.inputs[2])
    pads, strides, dilations = (list(attribute(node, name)) for name in ("pads", "strides", "dilations"))
    if weight is None or strides != [1, 1]:
        return False
    return all(2 * p == d * (k - 1) for p, d, k in zip(pads, dilations, weight.shape[2:], strict=True))
