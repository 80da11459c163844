"""The ONNX schemas of the deformable operators (domain dinn360).

This is the contract of the plugin libraries. Beside the documented attributes every node carries `plugin_namespace`
and `plugin_version`: with both as explicit strings every TensorRT parser resolves the plugin the same way.
"""

from __future__ import annotations

from typing import Any

import onnx.defs
from onnx import AttributeProto, NodeProto, helper
from onnx.defs import OpSchema

DOMAIN = "dinn360"
LAYERS = "dinn360.layers"  # of a trace's other nodes, which every lowering expands or fuses; in no written file
VERSION = 1
PLUGIN: dict[str, Any] = {"plugin_namespace": "", "plugin_version": "1"}

_FLOATS = ["tensor(float)", "tensor(float16)", "tensor(double)"]


def _parameter(name: str, description: str, optional: bool = False) -> OpSchema.FormalParameter:
    option = OpSchema.FormalParameterOption.Optional if optional else OpSchema.FormalParameterOption.Single
    return OpSchema.FormalParameter(name, "T", description, param_option=option)


def _attribute(name: str, kind: Any, description: str) -> OpSchema.Attribute:
    return OpSchema.Attribute(name, kind, description, required=True)


_PLUGIN_ATTRIBUTES = [
    _attribute("plugin_namespace", AttributeProto.STRING, "namespace of the TensorRT plugin creator"),
    _attribute("plugin_version", AttributeProto.STRING, "version of the TensorRT plugin creator"),
]

DEFORM_CONV_2D = OpSchema(
    "DeformConv2d",
    DOMAIN,
    VERSION,
    doc="Deformable convolution (DCNv1; DCNv2 with mask) on the sphere. Rows outside the image are zero; with wrap=1 "
    "columns are taken modulo W, with wrap=0 they are zero outside. Sampling coordinates are fp32 whatever T is. "
    "Ho = floor((H + 2*pads[0] - dilations[0]*(kr-1) - 1) / strides[0]) + 1, and Wo alike.",
    inputs=[
        _parameter("x", "(B,C,H,W)"),
        _parameter("offset", "(B,2*G*kr*kc,Ho,Wo): [offset group, tap, (row, column)] in pixels, within max_offset"),
        _parameter("weight", "(O,C/group,kr,kc)"),
        _parameter("bias", "(O)"),
        _parameter("mask", "(B,G*kr*kc,Ho,Wo), default 1", optional=True),
    ],
    outputs=[_parameter("y", "(B,O,Ho,Wo)")],
    type_constraints=[("T", _FLOATS, "data type")],
    attributes=[
        _attribute("strides", AttributeProto.INTS, "step of the taps: rows, columns"),
        _attribute("pads", AttributeProto.INTS, "padding of either side: rows, columns"),
        _attribute("dilations", AttributeProto.INTS, "distance of the taps: rows, columns"),
        _attribute("group", AttributeProto.INT, "groups of channels"),
        _attribute("offset_group", AttributeProto.INT, "G: groups of channels that share their offsets"),
        _attribute("max_offset", AttributeProto.FLOAT, "bound on |offset|, guaranteed by the producer"),
        _attribute("wrap", AttributeProto.INT, "1: columns are cyclic"),
        *_PLUGIN_ATTRIBUTES,
    ],
)

DST_ATTENTION = OpSchema(
    "DSTAttention",
    DOMAIN,
    VERSION,
    doc="Window attention with deformable queries. The query of pixel p of a window with centre m is sampled at "
    "p + (p - m) * scale + offset (pixels, bilinear; rows clamped, columns modulo W or clamped); without scale and "
    "offset it is the token at p. Windows are displaced by shift; the displaced window that joins the last and first "
    "rows (and columns, with wrap=0) is masked into its parts. The last window of an H or W that is no multiple of "
    "window is filled with the last row, and with the columns that continue around the circle (wrap=0: the last one). "
    "Coordinates and softmax are fp32 whatever T is.",
    inputs=[
        _parameter("q", "(B,C,H,W), C = heads * d"),
        _parameter("k", "(B,C,H,W)"),
        _parameter("v", "(B,C,H,W)"),
        _parameter("bias", "(heads,window^2,window^2), relative position bias"),
        _parameter("scale", "(B,2*heads,ceil(H/window),ceil(W/window)): [head, (row, column)]", optional=True),
        _parameter("offset", "as scale, in pixels", optional=True),
    ],
    outputs=[_parameter("y", "(B,C,H,W)")],
    type_constraints=[("T", _FLOATS, "data type")],
    attributes=[
        _attribute("heads", AttributeProto.INT, "attention heads"),
        _attribute("window", AttributeProto.INT, "window side in pixels, even"),
        _attribute("shift", AttributeProto.INT, "displacement of the windows, down and right"),
        _attribute("wrap", AttributeProto.INT, "1: columns are cyclic"),
        *_PLUGIN_ATTRIBUTES,
    ],
)

SCHEMAS = (DEFORM_CONV_2D, DST_ATTENTION)


def register_schemas() -> None:
    """Makes onnx.checker and shape inference know the operators (once per process)."""
    for schema in SCHEMAS:
        if not onnx.defs.has(schema.name, VERSION, DOMAIN):
            onnx.defs.register_schema(schema)


def attributes_of(node: NodeProto) -> dict[str, Any]:
    """The attributes of a node by name, as Python values (strings as bytes)."""
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
