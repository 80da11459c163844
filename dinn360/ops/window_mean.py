"""The mean of each window of `dst_attention` as an operator: what a DST's heads read."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from dinn360.ops.attention import window_index
from dinn360.ops.registry import implementation, register_operator


def window_mean(x: Tensor, window: int, shift: int, wrap: bool) -> Tensor:
    """Means of the displaced windows, (B,C,H,W) to (B,C,ceil(H/window),ceil(W/window)).

    Averages half-window cells first: a displacement by half a window is then a step of one cell.
    """
    return implementation("window_mean", composed, x)(x, window, shift, wrap)


def composed(x: Tensor, window: int, shift: int, wrap: bool) -> Tensor:
    """`window_mean` of two average pools and a choice of cells."""
    half = window // 2
    cells = F.avg_pool2d(x, half, ceil_mode=True, count_include_pad=False)
    step = shift // half
    rows = window_index(cells.shape[2], 2, step, False, x.device)
    columns = window_index(cells.shape[3], 2, step, wrap, x.device)
    return F.avg_pool2d(cells.index_select(2, rows).index_select(3, columns), 2)


register_operator(
    "window_mean",
    "(Tensor x, int window, int shift, bool wrap) -> Tensor",
    composed,
    lambda x, window, *_: x.new_empty(*x.shape[:2], -(-x.shape[2] // window), -(-x.shape[3] // window)),
)
