"""Which part of the network each node of a traced graph belongs to: the units in which precision is measured and set.

The exporter notes on every node the modules that it was traced in. What runs outside a module's `forward`, as the
inverse couplings do, is told by what it computes.
"""

from __future__ import annotations

import onnx_ir as ir
from onnx import ModelProto

from export.operators import DEFORM_CONV_2D, DST_ATTENTION

ROLES = {
    "latitude map": "rows to the cosine of the latitude",
    "haar": "sums of the 2x2 transform",
    "low path": "low +- phi: the three channels that become the LR image",
    "high path": "high * exp(s) + eta, and the 1x1 mixing and scaling of I_P",
    "log scale": "sigmoid, atan and exp of the couplings",
    "rho eta input": "the first convolutions of rho and eta, which read the low path",
    "features": "the other convolutions and activations inside the affine functions",
    "residual sums": "features + DConv(features) and the activation of the sum",
    "last convolutions": "the convolutions of the affine functions whose results act on the path",
    "offsets": "offset heads of the deformable convolutions",
    "deformable convolutions": "DeformConv2d (the type of its data; its coordinates are fp32 in any case)",
    "layer norm": "LayerNormalization of the DST",
    "tokens": "linear layers and residual sums of the DST",
    "gelu": "the error function and its products",
    "window heads": "window means, scale heads and offset heads of the DST",
    "attention": "DSTAttention (the type of its data; its coordinates and its softmax are fp32 in any case)",
    "condition": "G_SC: content trunk and latitude head",
    "projection functions": "convolutions inside the couplings of I_P",
}

# Never fp16: ONNX counts (Range) in fp32 and integers only, and fp16 has no odd integers beyond 2048.
FIXED = frozenset({"latitude map"})

# These pass numbers on as they are (Resize copies the nearest), so they take whatever type their neighbours have.
EXACT = frozenset(
    "Clip Concat DepthToSpace Expand Gather Identity Pad Relu Reshape Resize Slice Split Squeeze Transpose "
    "Unsqueeze".split()
)

_CLASSES = "pkg.torch.onnx.class_hierarchy"
_SCOPES = "pkg.torch.onnx.name_scopes"


def roles_of(graph: ir.Graph) -> dict[ir.Node, str]:
    """The role of every node that computes with floating-point numbers; EXACT and integer nodes have none."""
    computing = [node for node in graph if node.op_type not in EXACT and _is_float(node.outputs[0])]
    geometry = _geometry(graph)
    log_scale, haar = _log_scale(computing), _inverse_haar(computing)
    roles = {}
    for node in computing:
        if node in geometry:
            role = "latitude map"
        elif node in log_scale:
            role = "log scale"
        elif node in haar:
            role = "haar"
        else:
            role = _by_module(node)
        roles[node] = role
    return roles


def roles_of_model(model: ModelProto) -> list[str]:
    """The roles of a traced model's nodes, in their order."""
    return list(roles_of(ir.from_proto(model).graph).values())


def _is_float(value: ir.Value) -> bool:
    return value.dtype in (ir.DataType.FLOAT, ir.DataType.FLOAT16)


def _geometry(graph: ir.Graph) -> set[ir.Node]:
    """Nodes whose floating-point inputs all come from sizes and constants: nothing of the image is in them."""
    found: set[ir.Node] = set()
    for node in graph:
        sources = [value for value in node.inputs if value is not None and not value.is_initializer()]
        if not sources or not _is_float(node.outputs[0]):
            continue
        producers = [value.producer() for value in sources if _is_float(value)]
        if all(producer in found for producer in producers):
            found.add(node)
    return found


def _before(ends: list[ir.Node], through: frozenset[str]) -> set[ir.Node]:
    """`ends` and the nodes of the kinds `through` that lead to them without another kind in between."""
    found, waiting = set(ends), list(ends)
    while waiting:
        for value in waiting.pop().inputs:
            node = None if value is None else value.producer()
            if node is not None and node not in found and node.op_type in through:
                found.add(node)
                waiting.append(node)
    return found


def _log_scale(computing: list[ir.Node]) -> set[ir.Node]:
    exponentials = [node for node in computing if node.op_type == "Exp"]
    return _before(exponentials, frozenset({"Atan", "Mul", "Neg", "Sigmoid", "Sub"}))


def _inverse_haar(computing: list[ir.Node]) -> set[ir.Node]:
    """The sums whose results are interleaved to an image of twice the size."""
    layout = frozenset({"Concat", "Reshape", "Unsqueeze"})
    found: set[ir.Node] = set()
    for node in computing:
        users = node.outputs[0].consumers()
        if node.op_type in ("Add", "Sub") and any(_leads_to_shuffle(user, layout) for user in users):
            found |= _before([node], frozenset({"Add", "Sub"}))
    return found


def _leads_to_shuffle(node: ir.Node, layout: frozenset[str]) -> bool:
    if node.op_type == "DepthToSpace":
        return True
    return node.op_type in layout and any(_leads_to_shuffle(user, layout) for user in node.outputs[0].consumers())


def _by_module(node: ir.Node) -> str:
    kind = node.op_type
    if kind == DEFORM_CONV_2D.name:
        return "deformable convolutions"
    if kind == DST_ATTENTION.name:
        return "attention"
    if kind == "LayerNormalization":
        return "layer norm"
    classes = node.metadata_props.get(_CLASSES, "")
    scopes = node.metadata_props.get(_SCOPES, "")
    if "layers.DST" in classes:
        if "aten.gelu" in classes:
            return "gelu"
        heads = kind == "AveragePool" or "scale_head" in scopes or "offset_head" in scopes
        return "window heads" if heads or _scales_a_head(node) else "tokens"
    if "invertible.AffineFunction" in classes:
        if ".offset_head" in scopes:
            return "offsets"
        if ".last'" in scopes:
            return "last convolutions"
        if kind == "Add" or kind == "LeakyRelu" and _is_residual_sum(node.inputs[0]):
            return "residual sums"
        return "rho eta input" if ".rho_eta.first'" in scopes else "features"
    if "layers.DenseFunction" in classes:
        return "last convolutions" if ".last'" in scopes else "features"
    if "condition.Condition" in classes or "hcflow.Features" in classes:
        return "condition"
    if "layers.SphereConv2d" in classes:
        return "projection functions"
    if "invertible.Haar" in classes:
        return "haar"
    return "low path" if any(_gives_phi(value) for value in node.inputs) else "high path"


def _gives_phi(value: ir.Value | None) -> bool:
    """Whether a value is the result of a coupling's function for the low path: three channels, all others have more."""
    node = None if value is None else value.producer()
    if value is None or node is None or value.shape is None or value.shape[1] != 3:
        return False
    classes = node.metadata_props.get(_CLASSES, "")
    return any(function in classes for function in ("invertible.AffineFunction", "layers.DenseFunction"))


def _is_residual_sum(value: ir.Value | None) -> bool:
    node = None if value is None else value.producer()
    return node is not None and node.op_type == "Add" and _by_module(node) == "residual sums"


def _scales_a_head(node: ir.Node) -> bool:
    """Whether a node of the DST only rescales or activates what a window head reads or gives."""
    near = [value.producer() for value in node.inputs if value is not None]
    kinds = {producer.op_type for producer in near if producer is not None}
    users = {user.op_type for user in node.outputs[0].consumers()}
    return (node.op_type == "LeakyRelu" and "AveragePool" in kinds) or (
        node.op_type == "Mul" and DST_ATTENTION.name in users
    )
