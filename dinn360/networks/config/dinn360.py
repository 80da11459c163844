"""What a DINN360 network is made of, its validation and its two sizes.

The slides name the parts and give no number. `base` follows the sizes of the ancestors IRN and HCFlow;
`edge` is our choice for real-time use on an embedded GPU (see the budget test in tests/test_info.py).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from dinn360.networks.config.base import NetworkConfig
from engines.support.errors import UserError


@dataclass(frozen=True)
class LevelConfig:
    """One factor-two level of the hierarchy; level 0 is the finest (half the HR resolution).

    blocks, width, heads: number of ID blocks, channels and attention heads of their affine functions.
    dst: which affine functions of an ID block hold a DST module: "both" (phi and the joint rho/eta),
        "eta" (only the joint rho/eta), or "none".
    projections, projection_width: number of IP blocks and hidden channels of their couplings.
    content_blocks, content_width: depth and channels of the G_SC trunk; latitude_width: channels of c_lat.
    """

    blocks: int
    width: int
    heads: int
    dst: Literal["both", "eta", "none"]
    projections: int
    projection_width: int
    content_blocks: int
    content_width: int
    latitude_width: int


@dataclass(frozen=True, kw_only=True)
class ModelConfig(NetworkConfig):
    """DINN360's config.

    The four switches are the ablations of the slides: `deform` (off: plain convolutions and plain window
    queries, same weights otherwise), `dst`, `latitude_head`, `content_head`. The fifth, backflow, belongs to
    training (TrainConfig). All other values are our choice.
    """

    architecture: ClassVar[str] = "dinn360"
    title: ClassVar[str] = "DINN360"
    level_type: ClassVar[type] = LevelConfig

    levels: tuple[LevelConfig, ...]
    deform: bool = True
    dst: bool = True
    latitude_head: bool = True
    content_head: bool = True
    dconvs: int = 2
    merge_conv: bool = True
    offset_kernel: int = 3
    max_offset: float = 3.0
    window: int = 8
    mlp_ratio: int = 2
    content_block: Literal["rrdb", "residual"] = "rrdb"
    content_growth: int = 16
    coupling_clamp: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_whole_numbers(besides=("dst",))
        for name in ("mlp_ratio", "content_growth"):
            if getattr(self, name) < 1:
                raise UserError(f"{name}: expected at least 1, found {getattr(self, name)}")
        if not (self.latitude_head or self.content_head):
            raise UserError("latitude_head, content_head: at least one head must stay on, found both off")
        if self.dconvs not in (1, 2):
            raise UserError(f"dconvs: expected 1 or 2, found {self.dconvs}")
        if self.offset_kernel not in (1, 3):
            raise UserError(f"offset_kernel: expected 1 or 3, found {self.offset_kernel}")
        if self.window < 2 or self.window % 2:
            raise UserError(f"window: expected an even number of pixels, found {self.window}")
        if self.max_offset <= 0:
            raise UserError(f"max_offset: expected a positive number of pixels, found {self.max_offset}")
        if self.coupling_clamp <= 0:
            raise UserError(f"coupling_clamp: expected a positive number, found {self.coupling_clamp}")
        for index, level in enumerate(self.levels):
            if level.width % level.heads:
                raise UserError(f"levels[{index}]: width {level.width} is not a multiple of heads {level.heads}")
            if level.dst not in ("both", "eta", "none"):
                raise UserError(f"levels[{index}].dst: expected both, eta or none, found {level.dst!r}")

    def to_dict(self) -> dict[str, Any]:
        """Without a tag: files from before there was one have none either, and a network has one dictionary."""
        values = super().to_dict()
        del values["architecture"]
        return values


def base(scale: int) -> ModelConfig:
    """Paper size: 8 ID and 6 IP blocks a level (IRN, HCFlow), 32 channels, RRDB content trunk of 64."""
    level = LevelConfig(
        blocks=8,
        width=32,
        heads=4,
        dst="both",
        projections=6,
        projection_width=64,
        content_blocks=3,
        content_width=64,
        latitude_width=16,
    )
    return ModelConfig(scale=scale, levels=(level,) * (scale.bit_length() - 1), preset="base")


def edge(scale: int) -> ModelConfig:
    """Real-time size. Work is spent where a pixel is cheap: the coarsest level is the widest and the deepest."""
    fine = LevelConfig(
        blocks=2,
        width=16,
        heads=1,
        dst="none",
        projections=2,
        projection_width=16,
        content_blocks=1,
        content_width=16,
        latitude_width=4,
    )
    coarse = LevelConfig(
        blocks=3,
        width=32,
        heads=2,
        dst="eta",
        projections=4,
        projection_width=32,
        content_blocks=5,
        content_width=40,
        latitude_width=8,
    )
    levels = {
        2: (
            replace(fine, blocks=4, dst="eta", projections=4, projection_width=24, content_blocks=2, content_width=24),
        ),
        4: (fine, coarse),
        8: (fine, replace(fine, width=24, content_width=24), replace(coarse, projections=3, content_blocks=3)),
    }
    return ModelConfig(
        scale=scale,
        levels=levels[scale],
        preset="edge",
        dconvs=1,
        merge_conv=False,
        offset_kernel=1,
        content_block="residual",
    )
