"""DINN360: downscale by I_D; project the lost high frequencies onto z with I_P; upscale by the way back with z = 0.

The slides name the parts and give no number. `base` follows the sizes of the ancestors IRN and HCFlow; `edge` is our
choice for real-time use on an embedded GPU (see the budget test in tests/test_info.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dinn360.networks.base import LevelsConfig
from dinn360.networks.errors import ConfigError
from dinn360.networks.hierarchy import Hierarchy
from dinn360.networks.invertible import AdditiveAffineBlock, Projection
from dinn360.networks.layers import DST, RRDB, DConv, SphereConv2d, leaky_relu
from dinn360.networks.size import LARGEST_NUMBER, LARGEST_WINDOW
from dinn360.ops import spread
from dinn360.sphere import PANORAMA, Frame
from dinn360.tracing import role


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
class ModelConfig(LevelsConfig):
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
            value = getattr(self, name)
            if not 1 <= value <= LARGEST_NUMBER:
                expected = "at least 1" if value < 1 else f"at most {LARGEST_NUMBER}"
                raise ConfigError(f"{name}: expected {expected}, found {value}")
        if not (self.latitude_head or self.content_head):
            raise ConfigError("latitude_head, content_head: at least one head must stay on, found both off")
        if self.dconvs not in (1, 2):
            raise ConfigError(f"dconvs: expected 1 or 2, found {self.dconvs}")
        if self.offset_kernel not in (1, 3):
            raise ConfigError(f"offset_kernel: expected 1 or 3, found {self.offset_kernel}")
        if self.window % 2 or not 2 <= self.window <= LARGEST_WINDOW:
            raise ConfigError(f"window: expected an even number of pixels up to {LARGEST_WINDOW}, found {self.window}")
        if not 0 < self.max_offset <= LARGEST_NUMBER:
            raise ConfigError(f"max_offset: expected a positive number of pixels, found {self.max_offset}")
        if not 0 < self.coupling_clamp <= LARGEST_NUMBER:
            raise ConfigError(f"coupling_clamp: expected a positive number, found {self.coupling_clamp}")
        for index, level in enumerate(self.levels):
            if level.width % level.heads:
                raise ConfigError(f"levels[{index}]: width {level.width} is not a multiple of heads {level.heads}")
            if level.dst not in ("both", "eta", "none"):
                raise ConfigError(f"levels[{index}].dst: expected both, eta or none, found {level.dst!r}")

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


class AffineFunction(nn.Module):
    """Residual structure with DConv layers and, where the level has it, a DST module (slides, figure caption a).

    (B,in,H,W) -> (B,out,H,W); zero at the start, so that a fresh block is the identity. The features start at the size
    of the image (gain 1, our choice; IRN has 0.1): DST normalises its tokens, and to features a tenth of that size its
    untrained branches would add six times what they carry.
    """

    def __init__(self, channels_in: int, channels_out: int, level: LevelConfig, config: ModelConfig, shift: int | None):
        super().__init__()
        width = level.width
        self.reads = "rho eta input" if channels_in == 3 else "features"  # the role of what reads the low path
        self.first = SphereConv2d(channels_in, width, gain=1.0)
        self.dconvs = nn.ModuleList(
            DConv(width, config.offset_kernel, config.max_offset, config.deform) for _ in range(config.dconvs)
        )
        self.dst = (
            DST(width, level.heads, config.window, shift, config.mlp_ratio, config.deform)
            if shift is not None and config.dst
            else None
        )
        self.merge = SphereConv2d(width, width) if config.merge_conv else None
        self.last = SphereConv2d(width, channels_out, gain=0.0)

    @property
    def radius(self) -> int:
        dconvs = sum(dconv.radius for dconv in cast(Sequence[DConv], self.dconvs))
        dst = 0 if self.dst is None else self.dst.radius
        merge = 0 if self.merge is None else self.merge.radius
        return self.first.radius + dconvs + dst + merge + self.last.radius

    def forward(self, x: Tensor, wrap: bool) -> Tensor:
        with role(self.reads):
            features = self.first(x, wrap)
        with role("features"):
            features = residual = leaky_relu(features)
            for index, dconv in enumerate(self.dconvs):
                residual = dconv(leaky_relu(residual) if index else residual, wrap)
        with role("residual sums"):
            residual = features + residual
        if self.dst is not None:
            residual = self.dst(residual, wrap)
        if self.merge is not None:
            with role("features"):
                merged = self.merge(residual, wrap)
            with role("residual sums"):
                residual = features + merged
        with role("features" if self.merge is None and self.dst is not None else "residual sums"):
            residual = leaky_relu(residual)
        with role("last convolutions"):
            return self.last(residual, wrap)


class IDBlock(AdditiveAffineBlock):
    """Invertible deformable block: the coupling with affine functions built from DConv and DST.

    rho and eta share one trunk with doubled output (HCFlow; one third cheaper than three networks, our choice).
    """

    phi: AffineFunction

    def __init__(self, channels: int, level: LevelConfig, config: ModelConfig, index: int) -> None:
        super().__init__(config.coupling_clamp)
        high = channels - 3
        shift = (index % 2) * (config.window // 2)
        self.phi = AffineFunction(high, 3, level, config, shift if level.dst == "both" else None)
        self.rho_eta = AffineFunction(3, 2 * high, level, config, None if level.dst == "none" else shift)

    @property
    def radius(self) -> int:
        return self.phi.radius + self.rho_eta.radius

    def rho_and_eta(self, low: Tensor, wrap: bool) -> tuple[Tensor, Tensor]:
        rho, eta = self.rho_eta(low, wrap).to(low.dtype).chunk(2, dim=1)
        return rho, eta


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
        with role("condition"):
            return self._forward(kept, coarser, latitude, wrap)

    def _forward(self, kept: Tensor, coarser: Tensor | None, latitude: Tensor, wrap: bool) -> Tensor:
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
            distortion = spread(latitude, features).to(features.dtype)
            first, last = self.latitude_head
            heads.append(last(leaky_relu(first(torch.cat([features, distortion], dim=1), wrap)), wrap))
        return torch.cat(heads, dim=1)


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
