"""IRN, the ancestor without projection: what is left beside the LR image is the latent itself.

After Xiao et al., Invertible Image Rescaling, ECCV 2020. Ours differs in what the package is about, so that a
comparison isolates the architecture: columns wrap, rows end at the poles, and decoding takes z = 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from dinn360.networks.config import IRNConfig
from dinn360.networks.invertible import AdditiveAffineBlock, Haar
from dinn360.networks.layers import DenseFunction
from dinn360.networks.network import Reconstruction, RescalingNetwork, Split
from dinn360.sphere import PANORAMA, Frame


class IRNBlock(AdditiveAffineBlock):
    """The coupling with three functions phi, rho and eta, each five densely connected convolutions."""

    phi: DenseFunction

    def __init__(self, channels: int, growth: int, clamp: float) -> None:
        super().__init__(clamp)
        high = channels - 3
        self.phi = DenseFunction(high, 3, growth, last_gain=0.0)
        self.rho = DenseFunction(3, high, growth, last_gain=0.0)
        self.eta = DenseFunction(3, high, growth, last_gain=0.0)

    @property
    def radius(self) -> int:
        return self.phi.radius + max(self.rho.radius, self.eta.radius)

    def rho_and_eta(self, low: Tensor, wrap: bool) -> tuple[Tensor, Tensor]:
        return self.rho(low, wrap).to(low.dtype), self.eta(low, wrap).to(low.dtype)


class IRN(RescalingNetwork):
    """Level by level: Haar and invertible blocks over all channels; one split at the end.

    h and z are the same, one tensor (B, 3 s^2 - 3, H/s, W/s).
    """

    config: IRNConfig

    def __init__(self, config: IRNConfig) -> None:
        super().__init__(config)
        self.haar = Haar()
        self.levels = nn.ModuleList()
        for index, level in enumerate(config.levels):
            total, _ = config.level_channels(index)
            blocks = (IRNBlock(total, level.growth, config.coupling_clamp) for _ in range(level.blocks))
            self.levels.append(nn.ModuleList(blocks))

    def blocks(self, index: int) -> Sequence[IRNBlock]:
        """The blocks of level `index`, in forward order."""
        return cast(Sequence[IRNBlock], self.levels[index])

    def split(self, x: Tensor, frame: Frame = PANORAMA) -> Split:
        for index in range(len(self.config.levels)):
            x = self.haar(x)
            for block in self.blocks(index):
                x = block(x, frame.wrap)
        y, high = x[:, :3], x[:, 3:]
        return Split(y, [high], [y])

    def reconstruct(
        self, y: Tensor, z: Sequence[Tensor | None] | None = None, frame: Frame = PANORAMA
    ) -> Reconstruction:
        given = None if z is None else z[0]
        total, kept = self.config.level_channels(len(self.config.levels) - 1)
        high = y.new_zeros(y.shape[0], total - kept, *y.shape[2:]) if given is None else given
        x = torch.cat([y, high], dim=1)
        for index in range(len(self.config.levels) - 1, -1, -1):
            for block in reversed(self.blocks(index)):
                x = block.inverse(x, frame.wrap)
            x = self.haar.inverse(x)
        return Reconstruction(x, [high])

    def project(
        self, high: Sequence[Tensor], y: Tensor, frame: Frame = PANORAMA, kept: Sequence[Tensor] | None = None
    ) -> list[Tensor]:
        """The identity."""
        return list(high)

    def parts(self) -> dict[str, nn.Module]:
        return {"invertible blocks": self.levels}

    def receptive_field(self) -> dict[str, int]:
        radius = 0
        for index in range(len(self.config.levels)):
            pixel = 2 ** (index + 1)
            radius += pixel * sum(block.radius for block in self.blocks(index)) + pixel // 2
        return {"downscale": radius, "upscale": radius}
