"""What an IRN network is made of (Xiao et al., Invertible Image Rescaling, ECCV 2020), and its two sizes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from dinn360.networks.config.base import NetworkConfig
from engines.support.errors import UserError


@dataclass(frozen=True)
class IRNLevel:
    """One factor-two level. blocks: invertible blocks. growth: channels of each dense layer in their functions."""

    blocks: int
    growth: int


@dataclass(frozen=True, kw_only=True)
class IRNConfig(NetworkConfig):
    """IRN's config. Every level keeps all channels; what is left of them at LR resolution, 3 s^2 - 3, is z."""

    architecture: ClassVar[str] = "irn"
    title: ClassVar[str] = "IRN"
    level_type: ClassVar[type] = IRNLevel

    levels: tuple[IRNLevel, ...]
    coupling_clamp: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_whole_numbers()
        if not self.coupling_clamp > 0:
            raise UserError(f"coupling_clamp: expected a positive number, found {self.coupling_clamp}")

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
