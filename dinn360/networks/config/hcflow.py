"""What an HCFlow network is made of (Liang et al., Hierarchical Conditional Flow, ICCV 2021), and its two sizes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from dinn360.networks.config.base import NetworkConfig


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
class HCFlowConfig(NetworkConfig):
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
