"""What each deformable operator means in elementary ONNX operators, as ONNX functions.

A function is written for the attributes of one kind of node (kernel, wrap, window, ...). Bilinear samples are gathered:
GridSample is read differently by TensorRT's parser from opset 20 on, miscompiled by TensorRT >= 10.14 inside decomposed
deformable attention, and would round normalised coordinates in fp16. Integer arithmetic avoids Mod: a - a / b * b.
Coordinates are float whatever the data type; the layout is channels-last while sampling, so that each gathered row is
one contiguous pixel.
"""

from __future__ import annotations

from dataclasses import dataclass

from onnx import FunctionProto, NodeProto, parser

from export.operators import DEFORM_CONV_2D, attributes_of
from export.primitives.attention import dst_attention
from export.primitives.deform_conv import deform_conv_2d


@dataclass(frozen=True)
class Kind:
    """What tells two nodes of one operator apart in their primitive form."""

    operator: str
    values: tuple[tuple[str, int], ...]

    @property
    def overload(self) -> str:
        return "_".join(f"{name}{value}" for name, value in self.values)


def kind_of(node: NodeProto, kernel: tuple[int, int], element: int) -> Kind:
    """The kind of a DeformConv2d (whose weight has `kernel` rows and columns) or DSTAttention node.

    element: the graph's data type (TensorProto.DataType).
    """
    attributes = attributes_of(node)
    values: dict[str, int] = {}
    if node.op_type == DEFORM_CONV_2D.name:
        pairs = {"kernel": kernel, **{name: attributes[name] for name in ("strides", "pads", "dilations")}}
        for name, pair in pairs.items():
            values[f"{name.removesuffix('s')}_row"], values[f"{name.removesuffix('s')}_column"] = map(int, pair)
        values |= {name: int(attributes[name]) for name in ("group", "offset_group", "wrap")}
        values["masked"] = int(len(node.input) > 4)
    else:
        values |= {name: int(attributes[name]) for name in ("heads", "window", "shift", "wrap")}
        values["deform"] = int(len(node.input) > 4)
    return Kind(node.op_type, (*values.items(), ("element", element)))


def primitive(kind: Kind, opset: int) -> FunctionProto:
    """The definition of nodes of this kind. Inputs and outputs are those of the operator's schema.

    opset: of the model; the operators used are the same from 19 to 22.
    """
    values = dict(kind.values)
    text = deform_conv_2d(**values) if kind.operator == DEFORM_CONV_2D.name else dst_attention(**values)
    function = parser.parse_function(text)
    function.overload = kind.overload
    function.opset_import[0].version = opset
    return function
