"""IRN, the ancestor without projection: what is left beside the LR image is the latent itself.

After Xiao et al., Invertible Image Rescaling, ECCV 2020. Ours differs in what the package is about, so that a
comparison isolates the architecture: columns wrap, rows end at the poles, and decoding takes z = 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from dinn360.networks.base import LevelsConfig, Reconstruction, RescalingNetwork, Split
from dinn360.networks.errors import ConfigError
from dinn360.networks.invertible import AdditiveAffineBlock, Haar
from dinn360.networks.layers import DenseFunction
from dinn360.networks.size import LARGEST_NUMBER
from dinn360.ops import zeros
from dinn360.sphere import PANORAMA, Frame


@dataclass(frozen=True)
class IRNLevel:
    """One factor-two level. blocks: invertible blocks. growth: channels of each dense layer in their functions."""

    blocks: int
    growth: int


@dataclass(frozen=True, kw_only=True)
class IRNConfig(LevelsConfig):
    """IRN's config. Every level keeps all channels; what is left of them at LR resolution, 3 s^2 - 3, is z."""

    architecture: ClassVar[str] = "irn"
    title: ClassVar[str] = "IRN"
    level_type: ClassVar[type] = IRNLevel

    levels: tuple[IRNLevel, ...]
    coupling_clamp: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_whole_numbers()
        if not 0 < self.coupling_clamp <= LARGEST_NUMBER:
            raise ConfigError(f"coupling_clamp: expected a positive number, found {self.coupling_clamp}")

    def level_channels(self, index: int) -> tuple[int, int]:
        """Channels (total, kept) of level `index`: the last keeps y: 3, all others keep all."""
        total = 3 * 4 ** (index + 1)
        return total, 3 if index == len(self.levels) - 1 else total


def base(scale: int) -> IRNConfig:
    """The paper's size: 8 blocks a level, 32 channels a dense layer."""
    return IRNConfig(scale=scale, levels=(IRNLevel(8, 32),) * (scale.bit_length() - 1), preset="irn-base")


def edge(scale: int) -> IRNConfig:
    """The multiply-accumulates of DINN360's `edge`, both directions together, spent as there: most at the coarsest."""
    levels = {
        2: (IRNLevel(7, 6),),
        4: (IRNLevel(2, 8), IRNLevel(3, 12)),
        8: (IRNLevel(1, 8), IRNLevel(2, 8), IRNLevel(2, 8)),
    }
    return IRNConfig(scale=scale, levels=levels[scale], preset="irn-edge")


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
        high = zeros(y, total - kept) if given is None else given
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
