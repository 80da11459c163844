"""Layer normalisation over the channels of each pixel as an operator."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from dinn360.ops.registry import implementation, register_operator


def channel_norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """x: (B,C,H,W); weight, bias: (C,). The variance is raised by 1e-5."""
    return implementation("channel_norm", composed, x)(x, weight, bias)


def composed(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """PyTorch's layer_norm between two changes of layout."""
    x = F.layer_norm(x.permute(0, 2, 3, 1), weight.shape, weight, bias)
    return x.permute(0, 3, 1, 2)


register_operator(
    "channel_norm",
    "(Tensor x, Tensor weight, Tensor bias) -> Tensor",
    composed,
    lambda x, *_: x.new_empty(x.shape),
)
