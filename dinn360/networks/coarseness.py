"""A decoder that is told how coarsely its LR picture was quantised, and convolutions whose bias depends on that.

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

Coarse = tuple[Tensor, Tensor]  # coarseness, and how far a picture counts as lossless: 1 at 0, 0 from 1 on
_NAME = "by_coarseness"


def coarse(frame: Frame, like: Tensor) -> Coarse:
    """What `SteeredConv2d` reads, each (1,) or (B,1,1,1); without a coarseness the picture counts as lossless."""
    value = torch.zeros(1, device=like.device) if frame.coarseness is None else frame.coarseness
    if len(value) > 1:
        value = value[:, None, None, None]
    return value, F.relu(1 - value)


class SteeredConv2d(SphereConv2d):
    """A SphereConv2d whose bias also depends on the coarseness where it is `steered`: a line, and a value of its own
    for lossless pictures, both zero at the start."""

    def __init__(self, channels_in: int, channels_out: int, gain: float, steered: bool) -> None:
        super().__init__(channels_in, channels_out, gain=gain)
        self.by_coarseness = nn.Parameter(torch.zeros(2, channels_out)) if steered else None

    def forward(self, x: Tensor, wrap: bool, coarse: Coarse | None = None) -> Tensor:
        result = super().forward(x, wrap)
        if self.by_coarseness is None or coarse is None:
            return result
        line, lossless = (self.by_coarseness[row][None, :, None, None] for row in (0, 1))
        shift = coarse[0] * line + coarse[1] * lossless
        return result + shift.to(result.dtype)


def take_weights(network: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """`load_state_dict` of weights that may be from before a network was steered. Raises RuntimeError as that does."""
    steering = {name: tensor for name, tensor in network.state_dict().items() if name.endswith(_NAME)}
    network.load_state_dict({**steering, **weights})
