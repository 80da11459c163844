"""G_SC: the condition c = [c_con, c_lat] of the projection, from what a decoder knows (structure: our choice)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dinn360.networks.config import LevelConfig, ModelConfig
from dinn360.networks.layers import DenseFunction, SphereConv2d, leaky_relu


class ResidualBlock(nn.Module):
    """x + conv(lrelu(conv(x))), the trunk block of `edge`."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = SphereConv2d(channels, channels, gain=0.5)
        self.last = SphereConv2d(channels, channels, gain=0.1)

    @property
    def radius(self) -> int:
        return self.first.radius + self.last.radius

    def forward(self, x: Tensor, wrap: bool) -> Tensor:
        return x + self.last(leaky_relu(self.first(x, wrap)), wrap)


class DenseBlock(DenseFunction):
    """x + 0.2 f(x) with five densely connected convolutions f (ESRGAN's RDB)."""

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__(channels, channels, growth)

    def forward(self, x: Tensor, wrap: bool) -> Tensor:
        return x + 0.2 * super().forward(x, wrap)


class RRDB(nn.Module):
    """Three dense blocks with an outer residual (ESRGAN, HCFlow), the trunk block of `base`."""

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(DenseBlock(channels, growth) for _ in range(3))

    @property
    def radius(self) -> int:
        return sum(block.radius for block in cast(Sequence[DenseBlock], self.blocks))

    def forward(self, x: Tensor, wrap: bool) -> Tensor:
        out = x
        for block in self.blocks:
            out = block(out, wrap)
        return x + 0.2 * out


class Condition(nn.Module):
    """G_SC of one level.

    Input: the kept image of the level (B,K,H,W) and, on all but the coarsest level, the condition of the next coarser
    one (B,Cc,H/2,W/2), brought up by a 1x1 convolution and a pixel shuffle (HCFlow copies nearest pixels).
    Output: (B, self.channels, H, W), content head first. The latitude head reads the features and the distortion map.
    """

    def __init__(self, kept: int, level: LevelConfig, coarser: Condition | None, config: ModelConfig) -> None:
        super().__init__()
        self.channels: int = level.content_width * config.content_head + level.latitude_width * config.latitude_head
        width, latitude = level.content_width, level.latitude_width
        self.raise_coarser = None
        if coarser is not None:
            self.raise_coarser = SphereConv2d(coarser.channels, 4 * width, 1, gain=1.0)
            kept = kept + width
        self.first = SphereConv2d(kept, width, gain=1.0)
        self.content_head: nn.ModuleList | None = None
        if config.content_head:
            self.content_head = nn.ModuleList(
                ResidualBlock(width) if config.content_block == "residual" else RRDB(width, config.content_growth)
                for _ in range(level.content_blocks)
            )
            self.content_last = SphereConv2d(width, width)
        self.latitude_head: nn.ModuleList | None = None
        if config.latitude_head:
            self.latitude_head = nn.ModuleList(
                [SphereConv2d(width + 1, 2 * latitude, 1, gain=1.0), SphereConv2d(2 * latitude, latitude, 1, gain=1.0)]
            )

    @property
    def radius(self) -> int:
        """In pixels of its level, without that of the coarser condition; the latitude head sees one pixel."""
        if self.content_head is None:
            return self.first.radius
        blocks = cast(Sequence[ResidualBlock | RRDB], self.content_head)
        return self.first.radius + sum(block.radius for block in blocks) + self.content_last.radius

    def forward(self, kept: Tensor, coarser: Tensor | None, latitude: Tensor, wrap: bool) -> Tensor:
        if self.raise_coarser is not None and coarser is not None:
            kept = torch.cat([kept, F.pixel_shuffle(self.raise_coarser(coarser, wrap), 2)], dim=1)
        features = self.first(kept, wrap)
        heads = []
        if self.content_head is not None:
            content = features
            for block in self.content_head:
                content = block(content, wrap)
            heads.append(features + self.content_last(content, wrap))
        if self.latitude_head is not None:
            batch, _, height, width = features.shape
            distortion = latitude.expand(batch, 1, height, width).to(features.dtype)
            first, last = self.latitude_head
            heads.append(last(leaky_relu(first(torch.cat([features, distortion], dim=1), wrap)), wrap))
        return torch.cat(heads, dim=1)
