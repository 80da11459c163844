"""Which part of the network each node of a traced graph belongs to: the units in which precision is measured and set.

The network says it itself, where it is traced (`dinn360.tracing.role`); only operators that have one role wherever they
stand need no such note.
"""

from __future__ import annotations

import onnx_ir as ir
from onnx import ModelProto

from dinn360.tracing import ROLE
from export.operators import DEFORM_CONV_2D, DST_ATTENTION

ROLES = {
    "latitude map": "rows to the cosine of the latitude",
    "haar": "sums of the 2x2 transform",
    "low path": "low +- phi: the three channels that become the LR image",
    "high path": "high * exp(s) + eta, and the 1x1 mixing and scaling of I_P",
    "details": "high +- eta of couplings that only add (flat DINN360)",
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
    "Clip Concat Crop DepthToSpace Expand Gather Identity Pad PadToMultiple PixelUnshuffle Relu Reshape Resize Slice "
    "Split Spread Squeeze Transpose Unsqueeze Zeros".split()
)

# What an operator is says what it does, wherever it stands.
_OPERATORS = {
    "ChannelNorm": "layer norm",
    "DistortionMap": "latitude map",
    "Gelu": "gelu",
    "Haar": "haar",
    "WindowMean": "window heads",
    DEFORM_CONV_2D.name: "deformable convolutions",
    DST_ATTENTION.name: "attention",
}


def roles_of(graph: ir.Graph) -> dict[ir.Node, str]:
    """The role of every node that computes with floating-point numbers; EXACT and integer nodes have none.

    Raises ValueError for a node that the network gave no role.
    """
    roles = {}
    for node in graph:
        if node.op_type in EXACT or node.outputs[0].dtype not in (ir.DataType.FLOAT, ir.DataType.FLOAT16):
            continue
        role = _OPERATORS.get(node.op_type) or node.metadata_props.get(ROLE)
        if role not in ROLES:
            raise ValueError(f"{node.name}: expected a role of {sorted(ROLES)}, found {role!r}")
        roles[node] = role
    return roles


def roles_of_model(model: ModelProto) -> list[str]:
    """The roles of a traced model's nodes, in their order."""
    return list(roles_of(ir.from_proto(model).graph).values())
