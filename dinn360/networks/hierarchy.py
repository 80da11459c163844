"""The hierarchy of HCFlow and DINN360: each level splits something off, and what decoding knows predicts it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from dinn360.networks.base import LevelsConfig, Reconstruction, RescalingNetwork, Split
from dinn360.networks.invertible import Haar, InvertibleBlock, Projection
from dinn360.sphere import PANORAMA, Frame


class Hierarchy(RescalingNetwork):
    """Level by level (0 is the finest): Haar, invertible blocks, and a part h split off that a projection, conditional
    on the kept part, brings to z and back.
    """

    config: LevelsConfig
    projections: nn.ModuleList  # h <-> z of each level, given its condition

    def __init__(self, config: LevelsConfig) -> None:
        super().__init__(config)
        self.haar = Haar()

    @abstractmethod
    def blocks(self, index: int) -> Sequence[InvertibleBlock]:
        """The invertible blocks of level `index`, in forward order."""

    @abstractmethod
    def condition(self, index: int, kept: Tensor, coarser: Tensor | None, frame: Frame = PANORAMA) -> Tensor:
        """What decoding knows at level `index`: features of the kept part and of the next coarser level's condition."""

    @abstractmethod
    def condition_radius(self, index: int) -> int:
        """Radius of `condition` in pixels of its level."""

    def projection(self, index: int) -> Projection:
        """h <-> z of level `index`."""
        return cast(Projection, self.projections[index])

    def split(self, x: Tensor, frame: Frame = PANORAMA) -> Split:
        """x: (B,3,H,W), H and W multiples of the scale, to y, and h and the kept part of each level."""
        high, kept = [], []
        for index in range(len(self.config.levels)):
            x = self.haar(x)
            for block in self.blocks(index):
                x = block(x, frame.wrap)
            _, passed = self.config.level_channels(index)
            x, split_off = x[:, :passed], x[:, passed:]
            high.append(split_off)
            kept.append(x)
        return Split(x, high, kept)

    def merge(self, kept: Tensor, high: Tensor, index: int, frame: Frame = PANORAMA) -> Tensor:
        """The way back through level `index`: what the level was given."""
        x = torch.cat([kept, high], dim=1)
        for block in reversed(self.blocks(index)):
            x = block.inverse(x, frame.wrap)
        return self.haar.inverse(x)

    def reconstruct(
        self, y: Tensor, z: Sequence[Tensor | None] | None = None, frame: Frame = PANORAMA
    ) -> Reconstruction:
        latents: Sequence[Tensor | None] = [None] * len(self.config.levels) if z is None else z
        predicted: list[Tensor] = []
        x, coarser = y, None
        for index in range(len(self.config.levels) - 1, -1, -1):
            coarser = self.condition(index, x, coarser, frame)
            high = self.projection(index).inverse(latents[index], coarser, frame.wrap)
            predicted.insert(0, high)
            x = self.merge(x, high.to(x.dtype), index, frame)
        return Reconstruction(x, predicted)

    def project(
        self, high: Sequence[Tensor], y: Tensor, frame: Frame = PANORAMA, kept: Sequence[Tensor] | None = None
    ) -> list[Tensor]:
        latents: list[Tensor] = []
        x, coarser = y, None
        for index in range(len(self.config.levels) - 1, -1, -1):
            coarser = self.condition(index, x, coarser, frame)
            latents.insert(0, self.projection(index)(high[index], coarser, frame.wrap))
            if index:
                x = kept[index - 1] if kept is not None else self.merge(x, high[index], index, frame)
        return latents

    def receptive_field(self) -> dict[str, int]:
        down = up = 0
        for index in range(len(self.config.levels)):
            pixel = 2 ** (index + 1)
            invertible = sum(block.radius for block in self.blocks(index))
            predicting = self.condition_radius(index) + self.projection(index).radius
            down += pixel * invertible + pixel // 2
            up += pixel * (invertible + predicting) + pixel // 2
        return {"downscale": down, "upscale": up}
