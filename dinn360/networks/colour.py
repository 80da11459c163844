"""Convolutions that move the colours of an LR image no finer than 4:2:0 keeps them.

What a network hides in fine colours a codec takes away, and until then it shows as coloured dots beside edges. A
penalty in the loss makes them fewer; these weights cannot make any. All of it is a fixed projection of a convolution's
kernel: an exported graph holds the projected kernel, and costs nothing more.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dinn360.networks.layers import SphereConv2d
from dinn360.ops import sphere_conv2d
from dinn360.tracing import role

LUMA = (0.299, 0.587, 0.114)  # BT.601, without its offset
_LOW_PASS = (0.25, 0.5, 0.25)  # nothing at Nyquist, half at half of Nyquist


class LumaDetailConv2d(SphereConv2d):
    """3x3, to the low channels (R, G, B of each band of the LR image): details of Cb and Cr get nothing.

    Luma is free everywhere. With several bands (the LR image squeezed by one Haar step: LL and its three detail bands)
    Cb and Cr may change in LL alone, the means of 2x2 pixels, which is what 4:2:0 stores: exact. With one (the LR image
    as it is) their kernels are the binomial low-pass times a number for each input: nothing at Nyquist, and half at
    half of Nyquist.

    A file that does not halve colours keeps their details: an encoder that knows (`halved`) gives them there.
    """

    def __init__(self, channels_in: int, channels_out: int, gain: float) -> None:
        super().__init__(channels_in, channels_out, gain=gain)
        grey = torch.tensor(LUMA, dtype=torch.float64).expand(3, 3)  # keeps Y, and leaves Cb and Cr at zero
        self.register_buffer("grey", grey.float(), persistent=False)
        taps = torch.tensor(_LOW_PASS)
        self.register_buffer("low_pass", taps[:, None] * taps, persistent=False)
        self.grey: Tensor
        self.low_pass: Tensor

    def projected(self) -> tuple[Tensor, Tensor]:
        """The kernel (O,I,3,3) and the bias (O,) that act."""
        bands = self.weight.shape[0] // 3
        if bands == 1:
            luma = _of_colours(self.grey, self.weight)
            colours = (self.weight - luma).sum((2, 3), keepdim=True) * self.low_pass
            return luma + colours, self.bias
        weight = torch.cat([self.weight[:3], *(_of_colours(self.grey, part) for part in _details(self.weight))])
        bias = torch.cat([self.bias[:3], *(_of_colours(self.grey, part) for part in _details(self.bias))])
        return weight, bias

    def forward(self, x: Tensor, wrap: bool, halved: Tensor | None = None) -> Tensor:
        """halved: 1 or 0, (1,) or (B,1,1,1); None: 1."""
        kernel, bias = self.projected()
        result = sphere_conv2d(x, kernel, bias, wrap)
        if halved is None:
            return result
        details = sphere_conv2d(x, self.weight - kernel, self.bias - bias, wrap)
        with role("low path"):
            return result + details * (1 - halved).to(details.dtype)


def _details(parameter: Tensor) -> tuple[Tensor, ...]:
    return parameter[3:].split(3)


def _of_colours(matrix: Tensor, values: Tensor) -> Tensor:
    """matrix (3,3) times values (3,...); by sums, which stay fp32 in training with 16 bits."""
    return (matrix.reshape(3, 3, *[1] * (values.ndim - 1)) * values[None]).sum(1)
