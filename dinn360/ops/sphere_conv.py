"""The convolution on the sphere as an operator. Its definition is sphere.conv2d."""

from __future__ import annotations

from torch import Tensor

from dinn360.ops.registry import implementation, register_operator
from dinn360.sphere import conv2d


def sphere_conv2d(x: Tensor, weight: Tensor, bias: Tensor, wrap: bool) -> Tensor:
    """sphere.conv2d as one node for exporters (slices of symbolic width make a trace slow). x: (B,C,H,W)."""
    return implementation("sphere_conv2d", conv2d, x)(x, weight, bias, wrap)


register_operator(
    "sphere_conv2d",
    "(Tensor x, Tensor weight, Tensor bias, bool wrap) -> Tensor",
    conv2d,
    lambda x, weight, *_: x.new_empty(x.shape[0], weight.shape[0], x.shape[2], x.shape[3]),
)
