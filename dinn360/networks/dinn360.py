"""DINN360: downscale by I_D; project the lost high frequencies onto z with I_P; upscale by the way back with z = 0."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from dinn360.networks.condition import Condition
from dinn360.networks.config import ModelConfig
from dinn360.networks.invertible import ChannelMixing, Haar, IDBlock, Projection
from dinn360.networks.layers import DST, DConv
from dinn360.sphere import PANORAMA, Frame, pad_to_multiple


class Split(NamedTuple):
    """What I_D makes of an image. Level 0 is the finest.

    y: LR image (B,3,H/s,W/s), not rounded. high: the split-off h of each level. kept: what each level passed on.
    """

    y: Tensor
    high: list[Tensor]
    kept: list[Tensor]


class DINN360(nn.Module):
    """The rescaling network (CVPR 2023 slides; see ModelConfig for what is our choice).

    Images are (B,3,H,W) RGB in [0,1], any H and W. `frame` says where on the sphere they lie (default: a whole
    panorama, columns cyclic).
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.haar = Haar()
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
            self.projections.append(Projection(total - kept, conditions[index].channels, level))

    def blocks(self, index: int) -> Sequence[IDBlock]:
        """The ID blocks of level `index`, in forward order."""
        return cast(Sequence[IDBlock], self.deformable[index])

    def projection(self, index: int) -> Projection:
        """I_P of level `index`."""
        return cast(Projection, self.projections[index])

    def split(self, x: Tensor, frame: Frame = PANORAMA) -> Split:
        """I_D: x (B,3,H,W), H and W multiples of the scale, to (y, h of each level, kept part of each level)."""
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
        """I_D^-1 of level `index`: what the level was given."""
        x = torch.cat([kept, high], dim=1)
        for block in reversed(self.blocks(index)):
            x = block.inverse(x, frame.wrap)
        return self.haar.inverse(x)

    def condition(self, index: int, kept: Tensor, coarser: Tensor | None, frame: Frame = PANORAMA) -> Tensor:
        """G_SC of level `index`: c = [c_con, c_lat]."""
        return self.conditions[index](kept, coarser, frame.latitude(kept, 2 ** (index + 1)), frame.wrap)

    def downscale(self, x: Tensor, frame: Frame = PANORAMA) -> Tensor:
        """x: (B,3,H,W) in [0,1] to y: (B,3,ceil(H/s),ceil(W/s)), not rounded; round it to 8 bits to store it."""
        return self.split(pad_to_multiple(x, self.config.scale), frame).y

    def upscale(
        self,
        y: Tensor,
        z: Sequence[Tensor | None] | None = None,
        size: tuple[int, int] | None = None,
        frame: Frame = PANORAMA,
    ) -> Tensor:
        """y: (B,3,h,w) to x: (B,3,s*h,s*w), cropped to `size` (H,W) when given; not clamped.

        z: one latent a level, shaped like its h (level 0 first); None stands for zeros, the deterministic decoder
        (z = 0 is our choice; the slides sample).
        """
        latents: Sequence[Tensor | None] = [None] * len(self.config.levels) if z is None else z
        x, coarser = y, None
        for index in range(len(self.config.levels) - 1, -1, -1):
            coarser = self.condition(index, x, coarser, frame)
            high = self.projection(index).inverse(latents[index], coarser, frame.wrap)
            x = self.merge(x, high.to(x.dtype), index, frame)
        return x if size is None else x[..., : size[0], : size[1]]

    def project(
        self, high: Sequence[Tensor], y: Tensor, frame: Frame = PANORAMA, kept: Sequence[Tensor] | None = None
    ) -> list[Tensor]:
        """I_P: the latents z of `high` (as `split` gives it), conditional on y. For training and exact round trips.

        kept: the kept parts that `split` gave; without them they are recovered from y and `high`.
        """
        latents: list[Tensor] = []
        x, coarser = y, None
        for index in range(len(self.config.levels) - 1, -1, -1):
            coarser = self.condition(index, x, coarser, frame)
            latents.insert(0, self.projection(index)(high[index], coarser, frame.wrap))
            if index:
                x = kept[index - 1] if kept is not None else self.merge(x, high[index], index, frame)
        return latents

    def set_deformation(self, on: bool) -> None:
        """Switches all sampling offsets on or off; the weights stay (zero offsets equal plain convolutions)."""
        for module in self.modules():
            if isinstance(module, DConv | DST):
                module.deform = on

    def freeze_inverses(self) -> None:
        """Stores the inverse of every 1x1 mixing matrix, for export and repeated inference."""
        for module in self.modules():
            if isinstance(module, ChannelMixing):
                module.freeze_inverse()
