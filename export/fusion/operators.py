"""The schemas of the fused operators (domain dinn360.cpu). Their meaning: plugins/cpu/fused/README.md."""

from __future__ import annotations

from typing import Any

import onnx.defs
from onnx import AttributeProto
from onnx.defs import OpSchema

DOMAIN = "dinn360.cpu"
VERSION = 1
MOST_SOURCES = 5  # plugins/cpu/fused/params.h: kMaxSources
MOST_OUTPUTS = 3

_Option = OpSchema.FormalParameterOption


def _tensor(name: str, description: str, optional: bool = False) -> OpSchema.FormalParameter:
    return OpSchema.FormalParameter(
        name, "T", description, param_option=_Option.Optional if optional else _Option.Single
    )


def _attribute(name: str, kind: Any, description: str) -> OpSchema.Attribute:
    return OpSchema.Attribute(name, kind, description, required=True)


_SOURCES = [
    _attribute("first_channels", AttributeProto.INTS, "first channel that is taken of each source"),
    _attribute("channel_counts", AttributeProto.INTS, "how many"),
]

SPHERE_CONV_2D = OpSchema(
    "SphereConv2d",
    DOMAIN,
    VERSION,
    doc="y = activation(convolution(leaky_relu(sources side by side + addend)) + bias) + residual, or a coupling of "
    "the convolution's halves with the residual. Stride 1, same size; columns are cyclic with wrap=1.",
    inputs=[
        _tensor("x", "(B,C0,H,W), the first source"),
        _tensor("weight", "(O,C,k,k), k 1 or 3"),
        _tensor("bias", "(O)"),
        _tensor("residual", "(B,Cr,H,W)", optional=True),
        _tensor("addend", "(B,C0,H,W)", optional=True),
        *(_tensor(f"x{i}", f"(B,C{i},H,W)", optional=True) for i in range(1, MOST_SOURCES)),
    ],
    outputs=[_tensor(f"y{i}", "(B,O/n,H,W), equal parts of the channels", i > 0) for i in range(MOST_OUTPUTS)],
    type_constraints=[("T", ["tensor(float)"], "data type")],
    attributes=[
        *_SOURCES,
        _attribute("wrap", AttributeProto.INT, "1: columns are cyclic; 0: zero outside"),
        _attribute("input_slope", AttributeProto.FLOAT, "of the leaky_relu on the input; 1: none"),
        _attribute("activation", AttributeProto.STRING, "none, relu, leaky_relu, clip, gelu or leaky_relu_of_sum"),
        _attribute("slope", AttributeProto.FLOAT, "of leaky_relu"),
        _attribute("limit", AttributeProto.FLOAT, "of clip: [-limit, limit]"),
        _attribute("residual_first", AttributeProto.INT, "first channel that is taken of the residual"),
        _attribute("coupling", AttributeProto.STRING, "none, affine, affine_inverse or projection_inverse"),
        _attribute("bound", AttributeProto.FLOAT, "of the coupling's log-scale"),
    ],
)

CHANNEL_NORM = OpSchema(
    "ChannelNorm",
    DOMAIN,
    VERSION,
    doc="Layer normalisation over the channels of each pixel.",
    inputs=[_tensor("x", "(B,C,H,W)"), _tensor("weight", "(C)"), _tensor("bias", "(C)")],
    outputs=[_tensor("y", "(B,C,H,W)")],
    type_constraints=[("T", ["tensor(float)"], "data type")],
    attributes=[_attribute("epsilon", AttributeProto.FLOAT, "added to the variance")],
)

HAAR = OpSchema(
    "Haar",
    DOMAIN,
    VERSION,
    doc="2x2 Haar transform of the sources side by side, (B,C,H,W) to (B,4C,H/2,W/2), or its inverse.",
    inputs=[_tensor(f"x{i}", "the sources", i > 0) for i in range(MOST_SOURCES)],
    outputs=[_tensor("y", "bands [LL | LH | HL | HH], or the image")],
    type_constraints=[("T", ["tensor(float)"], "data type")],
    attributes=[*_SOURCES, _attribute("inverse", AttributeProto.INT, "1: from bands to the image")],
)

_ORDER = _attribute(
    "order", AttributeProto.INTS, "of each channel side by side, its function: (c * factor + u) * factor + v"
)

SPHERE_SQUEEZE = OpSchema(
    "SphereSqueeze",
    DOMAIN,
    VERSION,
    doc="The panorama, its last row repeated and its columns continued around the circle, in blocks of factor x factor "
    "pixels: of each channel c and block the mean with Walsh function u of the rows and v of the columns.",
    inputs=[_tensor("x", "(B,C,H,W)")],
    outputs=[_tensor(f"y{i}", "(B,Ci,H',W'), a share of the channels", i > 0) for i in range(MOST_OUTPUTS)],
    type_constraints=[("T", ["tensor(float)"], "data type")],
    attributes=[
        _attribute("factor", AttributeProto.INT, "pixels a side of a block: 1, 2, 4 or 8"),
        _attribute("multiple", AttributeProto.INT, "what H and W are extended to a multiple of"),
        _attribute("margin", AttributeProto.INT, "columns beyond that on both sides"),
        _ORDER,
        _attribute("channel_counts", AttributeProto.INTS, "channels of each output"),
    ],
)

SPHERE_UNSQUEEZE = OpSchema(
    "SphereUnsqueeze",
    DOMAIN,
    VERSION,
    doc="The way back of SphereSqueeze: the image (B,C,h,w) of the sources side by side. With shape it has "
    "ceil(size * size_factor / size_divisor) rows and columns, without it all but the margin.",
    inputs=[
        _tensor("x", "(B,C0,H',W'), the first source"),
        OpSchema.FormalParameter("shape", "tensor(int64)", "(4)", param_option=_Option.Optional),
        *(_tensor(f"x{i}", f"(B,C{i},H',W')", optional=True) for i in range(1, MOST_SOURCES)),
    ],
    outputs=[_tensor("y", "(B,C,h,w)")],
    type_constraints=[("T", ["tensor(float)"], "data type")],
    attributes=[
        *_SOURCES,
        _attribute("factor", AttributeProto.INT, "pixels a side of a block: 1, 2, 4 or 8"),
        _attribute("margin", AttributeProto.INT, "blocks that are left out on both sides"),
        _ORDER,
        _attribute("size_factor", AttributeProto.INT, "see shape"),
        _attribute("size_divisor", AttributeProto.INT, "see shape"),
        _attribute("clamp", AttributeProto.INT, "1: to [0, 1]"),
    ],
)

SCHEMAS = (SPHERE_CONV_2D, CHANNEL_NORM, HAAR, SPHERE_SQUEEZE, SPHERE_UNSQUEEZE)


def register_schemas() -> None:
    """Makes onnx.checker know the operators (once per process)."""
    for schema in SCHEMAS:
        if not onnx.defs.has(schema.name, VERSION, DOMAIN):
            onnx.defs.register_schema(schema)
