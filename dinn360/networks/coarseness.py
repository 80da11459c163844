"""Networks that are told how coarsely their LR picture is quantised, and convolutions whose bias depends on that.

A decoder has it from the file, an encoder from who asks for the file; an encoder also knows whether colours are halved.
Coarseness is log2 of the mean luma quantisation step, in 8-bit levels: 0 of a lossless picture, 2.5 of a JPEG of
quality 95, 5.8 of quality 50 (`engines.panorama.coding.coarseness_of`). What a channel adds to every pixel alike costs
no bytes: the rectifier behind it then passes more or less of what may be noise.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dinn360.networks.layers import SphereConv2d
from dinn360.sphere import Frame

# Coarseness; how far a picture counts as lossless, 1 at 0 and 0 from 1 on; for an encoder, whether colours are halved
Coarse = tuple[Tensor, ...]
DECODER, ENCODER = 2, 3  # how many of them there are
_NAME = "by_coarseness"


def coarse(frame: Frame, like: Tensor, count: int) -> Coarse:
    """What `SteeredConv2d` reads, each (1,) or (B,1,1,1); without a coarseness the picture counts as lossless.

    count: DECODER or ENCODER.
    """
    value = _per_sample(frame.coarseness, like)
    lossless = F.relu(1 - value)
    return (value, lossless) if count == DECODER else (value, lossless, _per_sample(frame.halved, like))


def _per_sample(value: Tensor | None, like: Tensor) -> Tensor:
    value = torch.zeros(1, device=like.device) if value is None else value
    return value[:, None, None, None] if len(value) > 1 else value


class SteeredConv2d(SphereConv2d):
    """A SphereConv2d whose bias also depends on the coarseness: a line, a value of its own for lossless pictures, and
    in an encoder one for halved colours, all zero at the start.

    steered: how many of these there are, DECODER or ENCODER; 0 for none.
    """

    def __init__(self, channels_in: int, channels_out: int, gain: float, steered: int) -> None:
        super().__init__(channels_in, channels_out, gain=gain)
        self.by_coarseness = nn.Parameter(torch.zeros(steered, channels_out)) if steered else None

    def forward(self, x: Tensor, wrap: bool, coarse: Coarse | None = None) -> Tensor:
        result = super().forward(x, wrap)
        if self.by_coarseness is None or coarse is None:
            return result
        first, *others = (value * self.by_coarseness[row][None, :, None, None] for row, value in enumerate(coarse))
        for other in others:
            first = first + other
        return result + first.to(result.dtype)


def is_steering(name: str) -> bool:
    """Whether a parameter is one of `SteeredConv2d`'s own."""
    return name.endswith(_NAME)


def take_weights(network: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """`load_state_dict` of weights that may be from before a network was steered. Raises RuntimeError as that does."""
    steering = {name: tensor for name, tensor in network.state_dict().items() if is_steering(name)}
    network.load_state_dict({**steering, **weights})
