"""Rewritings of a traced graph that leave what it computes as it is and give an engine builder less to move.

Each is exact: a result may differ in the last bit, because sums are added in another order, and by nothing else. They
work on the layers of the trace (export.translate), before `export.lowering` writes those in operators of the standard.
"""

from __future__ import annotations

import onnx_ir as ir

from export.passes.regions import share_wraps
from export.passes.seams import cancel_seams
from export.passes.shared import split_shared_convolutions
from export.passes.sizes import ask_first

__all__ = ["ask_first", "cancel_seams", "simplify"]


def simplify(graph: ir.Graph, wrapping_deformation: bool) -> None:
    """All passes for graphs of engine builders; `cancel_seams` is done by the trace already, for every lowering.

    wrapping_deformation: whether DeformConv2d is lowered to something that must extend its input around the circle.
    """
    split_shared_convolutions(graph)
    share_wraps(graph, wrapping_deformation)
