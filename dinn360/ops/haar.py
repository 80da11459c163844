"""The 2x2 Haar transform as an operator. Its definition stands on its own: four sums of four pixels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from dinn360.ops.registry import implementation, register_operator


def haar(x: Tensor) -> Tensor:
    """(B,C,H,W) to (B,4C,H/2,W/2), channels [LL of all C | LH | HL | HH]; LL is the mean. H and W even."""
    return implementation("haar", composed, x)(x)


def haar_inverse(x: Tensor) -> Tensor:
    """The inverse of `haar`, (B,4C,H,W) to (B,C,2H,2W)."""
    return implementation("haar_inverse", composed_inverse, x)(x)


def composed(x: Tensor) -> Tensor:
    """`haar` of slices and sums."""
    a, b = x[..., 0::2, 0::2], x[..., 0::2, 1::2]
    c, d = x[..., 1::2, 0::2], x[..., 1::2, 1::2]
    return torch.cat([a + b + c + d, a - b + c - d, a + b - c - d, a - b - c + d], dim=1) * 0.25


def composed_inverse(x: Tensor) -> Tensor:
    """`haar_inverse` of sums and a pixel shuffle."""
    low, lh, hl, hh = x.chunk(4, dim=1)
    quads = torch.stack([low + lh + hl + hh, low - lh + hl - hh, low + lh - hl - hh, low - lh - hl + hh], dim=2)
    return F.pixel_shuffle(quads.flatten(1, 2), 2)


register_operator(
    "haar",
    "(Tensor x) -> Tensor",
    composed,
    lambda x: x.new_empty(x.shape[0], 4 * x.shape[1], x.shape[2] // 2, x.shape[3] // 2),
)
register_operator(
    "haar_inverse",
    "(Tensor x) -> Tensor",
    composed_inverse,
    lambda x: x.new_empty(x.shape[0], x.shape[1] // 4, 2 * x.shape[2], 2 * x.shape[3]),
)
