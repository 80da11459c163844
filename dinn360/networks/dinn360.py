"""DINN360: downscale by I_D; project the lost high frequencies onto z with I_P; upscale by the way back with z = 0."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from torch import Tensor, nn

from dinn360.networks.condition import Condition
from dinn360.networks.config import ModelConfig
from dinn360.networks.hierarchy import Hierarchy
from dinn360.networks.invertible import IDBlock, Projection
from dinn360.sphere import PANORAMA, Frame


class DINN360(Hierarchy):
    """The rescaling network (CVPR 2023 slides; see ModelConfig for what is our choice)."""

    config: ModelConfig

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.deformable = nn.ModuleList()  # I_D, one list of ID blocks a level
        self.projections = nn.ModuleList()  # I_P
        conditions: list[Condition] = []  # G_SC
        last = len(config.levels) - 1
        for index in range(last, -1, -1):
            _, kept = config.level_channels(index)
            conditions.insert(0, Condition(kept, config.levels[index], conditions[0] if conditions else None, config))
        self.conditions = nn.ModuleList(conditions)
        for index, level in enumerate(config.levels):
            total, kept = config.level_channels(index)
            self.deformable.append(nn.ModuleList(IDBlock(total, level, config, i) for i in range(level.blocks)))
            self.projections.append(
                Projection(total - kept, conditions[index].channels, level.projections, level.projection_width)
            )

    @property
    def alignment(self) -> int:
        """The attention windows of the coarsest level."""
        return self.config.window if self.config.dst else 1

    def blocks(self, index: int) -> Sequence[IDBlock]:
        """The ID blocks of level `index`, in forward order."""
        return cast(Sequence[IDBlock], self.deformable[index])

    def condition(self, index: int, kept: Tensor, coarser: Tensor | None, frame: Frame = PANORAMA) -> Tensor:
        """G_SC of level `index`: c = [c_con, c_lat]."""
        return self.conditions[index](kept, coarser, frame.latitude(kept, 2 ** (index + 1)), frame.wrap)

    def condition_radius(self, index: int) -> int:
        return cast(Condition, self.conditions[index]).radius

    def parts(self) -> dict[str, nn.Module]:
        return {"I_D": self.deformable, "G_SC": self.conditions, "I_P": self.projections}
