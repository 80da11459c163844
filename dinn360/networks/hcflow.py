"""HCFlow, the ancestor whose hierarchy and conditional flow DINN360 has taken over.

After Liang et al., Hierarchical Conditional Flow, ICCV 2021, and its published configuration for x4 rescaling; other
scales repeat its levels. Ours differs in what the package is about, so that a comparison isolates the architecture:
columns wrap, rows end at the poles, decoding takes z = 0, features see the rounded LR image, and normalisations start
at the identity instead of taking the first batch's statistics.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dinn360.networks.base import LevelsConfig
from dinn360.networks.hierarchy import Hierarchy
from dinn360.networks.invertible import ActNorm, InvertibleBlock, Projection, bounded
from dinn360.networks.layers import RRDB, DenseFunction, SphereConv2d
from dinn360.sphere import PANORAMA, Frame
from dinn360.tracing import role


@dataclass(frozen=True)
class HCFlowLevel:
    """One factor-two level.

    steps, growth: flow steps of the main flow, and channels of each dense layer in their functions.
    feature_blocks, feature_width, feature_growth: RRDBs, channels and dense layers of the feature extractor.
    projections, projection_width: steps of the conditional flow and hidden channels of their couplings.
    """

    steps: int
    growth: int
    feature_blocks: int
    feature_width: int
    feature_growth: int
    projections: int
    projection_width: int


@dataclass(frozen=True, kw_only=True)
class HCFlowConfig(LevelsConfig):
    """HCFlow's config, of the variant for rescaling."""

    architecture: ClassVar[str] = "hcflow"
    title: ClassVar[str] = "HCFlow"
    level_type: ClassVar[type] = HCFlowLevel

    levels: tuple[HCFlowLevel, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_whole_numbers()


def base(scale: int) -> HCFlowConfig:
    """The size of the published x4 rescaling network, at every level and scale."""
    level = HCFlowLevel(
        steps=8,
        growth=32,
        feature_blocks=3,
        feature_width=64,
        feature_growth=16,
        projections=6,
        projection_width=64,
    )
    return HCFlowConfig(scale=scale, levels=(level,) * (scale.bit_length() - 1), preset="hcflow-base")


def edge(scale: int) -> HCFlowConfig:
    """The multiply-accumulates of DINN360's `edge`, both directions together, spent as there: most at the coarsest."""
    fine = HCFlowLevel(
        steps=4,
        growth=8,
        feature_blocks=1,
        feature_width=8,
        feature_growth=4,
        projections=2,
        projection_width=12,
    )
    coarse = HCFlowLevel(
        steps=6,
        growth=12,
        feature_blocks=2,
        feature_width=28,
        feature_growth=8,
        projections=4,
        projection_width=28,
    )
    levels = {
        2: (replace(fine, steps=6, growth=9, feature_blocks=2, feature_width=16, projections=4, projection_width=16),),
        4: (fine, coarse),
        8: (
            replace(fine, steps=2),
            replace(fine, feature_width=16, feature_growth=8, projection_width=16),
            replace(coarse, feature_width=24, feature_growth=12, projection_width=24),
        ),
    }
    return HCFlowConfig(scale=scale, levels=levels[scale], preset="hcflow-edge")


class FlowStep(InvertibleBlock):
    """A step of the main flow: ActNorm, then either the high bands or the running low-pass image move.

    even steps:  high' = (high + shift(low)) * exp(bounded(scale(low)));  odd steps:  low' = low + shift(high)
    """

    def __init__(self, channels: int, growth: int, index: int) -> None:
        super().__init__()
        high = channels - 3
        self.moves_low = index % 2 == 1
        self.norm = ActNorm(channels)
        inner, outer = (high, 3) if self.moves_low else (3, 2 * high)
        self.function = DenseFunction(inner, outer, growth, last_gain=0.0)

    @property
    def radius(self) -> int:
        return self.function.radius

    def _coupling(self, low: Tensor, wrap: bool) -> tuple[Tensor, Tensor]:
        shift, scale = self.function(low, wrap).to(low.dtype).chunk(2, dim=1)
        return shift, bounded(scale)

    def forward(self, x: Tensor, wrap: bool) -> Tensor:
        x = self.norm(x)
        low, high = x[:, :3], x[:, 3:]
        if self.moves_low:
            moved = self.function(high, wrap)
            with role("low path"):
                return torch.cat([low + moved, high], dim=1)
        shift, scale = self._coupling(low, wrap)
        with role("log scale"):
            factor = torch.exp(scale)
        with role("high path"):
            return torch.cat([low, (high + shift) * factor], dim=1)

    def inverse(self, x: Tensor, wrap: bool) -> Tensor:
        low, high = x[:, :3], x[:, 3:]
        if self.moves_low:
            moved = self.function(high, wrap)
            with role("low path"):
                low = low - moved
            return self.norm.inverse(torch.cat([low, high], dim=1))
        shift, scale = self._coupling(low, wrap)
        with role("log scale"):
            factor = torch.exp(-scale)
        with role("high path"):
            high = high * factor - shift
        return self.norm.inverse(torch.cat([low, high], dim=1))


class Features(nn.Module):
    """What decoding knows at one level: RRDBs over the kept part and the next coarser level's features, copied to
    twice the size.
    """

    def __init__(self, kept: int, coarser: int, level: HCFlowLevel) -> None:
        super().__init__()
        width = level.feature_width
        self.first = SphereConv2d(kept + coarser, width, gain=1.0)
        self.blocks = nn.ModuleList(RRDB(width, level.feature_growth) for _ in range(level.feature_blocks))
        self.last = SphereConv2d(width, width)

    @property
    def radius(self) -> int:
        """In pixels of its level, without that of the coarser features."""
        blocks = cast(Sequence[RRDB], self.blocks)
        return self.first.radius + sum(block.radius for block in blocks) + self.last.radius

    def forward(self, kept: Tensor, coarser: Tensor | None, wrap: bool) -> Tensor:
        with role("condition"):
            return self._forward(kept, coarser, wrap)

    def _forward(self, kept: Tensor, coarser: Tensor | None, wrap: bool) -> Tensor:
        if coarser is not None:
            kept = torch.cat([kept, F.interpolate(coarser, scale_factor=2.0, mode="nearest").to(kept.dtype)], dim=1)
        first = self.first(kept, wrap)
        features = first
        for block in self.blocks:
            features = block(features, wrap)
        return first + self.last(features, wrap)


class HCFlow(Hierarchy):
    """The main flow splits the image; a conditional flow, DINN360's projection without a latitude, brings h to z."""

    config: HCFlowConfig

    def __init__(self, config: HCFlowConfig) -> None:
        super().__init__(config)
        self.main = nn.ModuleList()
        self.features = nn.ModuleList()
        self.projections = nn.ModuleList()
        for index, level in enumerate(config.levels):
            total, kept = config.level_channels(index)
            coarser = config.levels[index + 1].feature_width if index + 1 < len(config.levels) else 0
            self.main.append(nn.ModuleList(FlowStep(total, level.growth, i) for i in range(level.steps)))
            self.features.append(Features(kept, coarser, level))
            self.projections.append(
                Projection(total - kept, level.feature_width, level.projections, level.projection_width)
            )

    def blocks(self, index: int) -> Sequence[FlowStep]:
        """The main flow's steps of level `index`, in forward order."""
        return cast(Sequence[FlowStep], self.main[index])

    def condition(self, index: int, kept: Tensor, coarser: Tensor | None, frame: Frame = PANORAMA) -> Tensor:
        return self.features[index](kept, coarser, frame.wrap)

    def condition_radius(self, index: int) -> int:
        return cast(Features, self.features[index]).radius

    def parts(self) -> dict[str, nn.Module]:
        return {"main flow": self.main, "features": self.features, "conditional flow": self.projections}
