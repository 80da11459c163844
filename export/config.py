"""What a graph is made of: the choices of `export onnx`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Lowering = Literal["standard", "primitive", "plugin", "cpu", "web"]
LOWERINGS: tuple[Lowering, ...] = get_args(Lowering)[:4]  # what `engines` runs
Precision = Literal["fp32", "fp16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
IoFormat = Literal["float-nchw", "uint8-nhwc"]
IO_FORMATS: tuple[IoFormat, ...] = get_args(IoFormat)
OPSETS = (19, 20, 21, 22)


@dataclass(frozen=True)
class ExportConfig:
    """The form of a graph.

    lowering: what its deformable operators become. opset: of the ONNX standard. precision: fp16 means fp16 data and
    weights, with some operators in fp32 (precision.fp32_ops). io_format: what goes in and comes out, float32 (B,3,H,W)
    in [0,1] or uint8 (B,H,W,3).
    """

    lowering: Lowering = "standard"
    opset: int = 19
    precision: Precision = "fp32"
    io_format: IoFormat = "float-nchw"


DEFAULT = ExportConfig()
