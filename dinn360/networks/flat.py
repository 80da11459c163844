"""Flat DINN360: all work at one resolution, a quarter of the HR image's sides (an eighth at x8).

The parts and their roles are those of the slides: invertible deformable (ID) blocks take the image apart into y and
h, G_SC makes a condition of y, I_P brings h to z = h - mu(c). The plan is our choice, made for machines that are bound
by memory: one squeeze in front instead of a level for each factor of two, because 32 channels at a quarter of the
sides cost the arithmetic of 16 at a half and half the bytes; couplings that only add, so that convolutions, additions
and rectifiers are all there is and every runtime fuses them; h predicted in one go, where a chain of conditional flow
steps would read it as often as there are steps. checkpoints/README.md has what each choice gains or costs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dinn360.networks.base import NetworkConfig, Reconstruction, RescalingNetwork, Split
from dinn360.networks.errors import ConfigError
from dinn360.networks.invertible import Haar
from dinn360.networks.layers import DST, DConv, SphereConv2d
from dinn360.networks.size import LARGEST_NUMBER, LARGEST_WINDOW
from dinn360.ops import crop, pad_to_multiple
from dinn360.sphere import PANORAMA, Frame
from dinn360.tracing import role


@dataclass(frozen=True, kw_only=True)
class FlatConfig(NetworkConfig):
    """Flat DINN360's config.

    blocks, width: number of ID blocks and channels of their functions (a multiple of 16 suits tensor cores).
    deformable: how many of the blocks next to the LR image have DConvs, and a DST with `heads` attention heads.
    content_blocks, content_width: depth and channels of the content head; latitude_width: channels of c_lat.
    deform, dst, latitude_head, content_head: the ablations of the slides.
    """

    architecture: ClassVar[str] = "flat"
    title: ClassVar[str] = "Flat DINN360"

    blocks: int
    width: int
    heads: int
    deformable: int
    content_blocks: int
    content_width: int
    latitude_width: int
    deform: bool = True
    dst: bool = True
    latitude_head: bool = True
    content_head: bool = True
    max_offset: float = 3.0
    window: int = 8
    mlp_ratio: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        counts = ("blocks", "width", "heads", "content_blocks", "content_width", "latitude_width", "mlp_ratio")
        for name in counts:
            value = getattr(self, name)
            if type(value) is not int or not 1 <= value <= LARGEST_NUMBER:
                raise ConfigError(f"{name}: expected a whole number of 1 to {LARGEST_NUMBER}, found {value!r}")
        if type(self.deformable) is not int or not 0 <= self.deformable <= self.blocks:
            raise ConfigError(f"deformable: expected 0 to {self.blocks} blocks, found {self.deformable!r}")
        if self.width % self.heads:
            raise ConfigError(f"width: expected a multiple of the {self.heads} heads, found {self.width}")
        if not (self.latitude_head or self.content_head):
            raise ConfigError("latitude_head, content_head: at least one head must stay on, found both off")
        if self.window % 2 or not 2 <= self.window <= LARGEST_WINDOW:
            raise ConfigError(f"window: expected an even number of pixels up to {LARGEST_WINDOW}, found {self.window}")
        if not 0 < self.max_offset <= LARGEST_NUMBER:
            raise ConfigError(f"max_offset: expected a positive number of pixels, found {self.max_offset}")

    @property
    def reduction(self) -> int:
        """HR pixels a side of a working pixel."""
        return max(4, self.scale)

    @property
    def channels(self) -> tuple[int, int]:
        """Channels (total, kept) at the working resolution: of the squeezed image, and of y."""
        return 3 * self.reduction**2, 3 * (self.reduction // self.scale) ** 2


def edge(scale: int) -> FlatConfig:
    """Real-time size: 4K video at 30 frames a second on an embedded GPU, by arithmetic and by bytes."""
    return FlatConfig(
        scale=scale,
        preset="flat-edge",
        blocks=4,
        width=48,
        heads=3,
        deformable=1,
        content_blocks=3,
        content_width=48,
        latitude_width=16,
        dst=False,
    )


class Function(nn.Module):
    """What a coupling adds: conv, a residual 3x3 (a DConv where it is deformable), where asked for a DST, conv.

    (B,in,H,W) -> (B,out,H,W); zero at the start, so that a fresh block is the identity. shift: of the DST's windows,
    None for none.
    """

    def __init__(self, channels_in: int, channels_out: int, config: FlatConfig, deformable: bool, shift: int | None):
        super().__init__()
        width = config.width
        self.reads = "rho eta input" if channels_in == config.channels[1] else "features"  # the role of the first
        self.first = SphereConv2d(channels_in, width, gain=1.0)
        self.middle: DConv | SphereConv2d = (
            DConv(width, 1, config.max_offset, config.deform) if deformable else SphereConv2d(width, width)
        )
        self.dst = (
            None
            if shift is None
            else DST(width, config.heads, config.window, shift, config.mlp_ratio, config.deform, activation=F.relu)
        )
        self.last = SphereConv2d(width, channels_out, gain=0.0)

    @property
    def radius(self) -> int:
        dst = 0 if self.dst is None else self.dst.radius
        return self.first.radius + self.middle.radius + dst + self.last.radius

    def forward(self, x: Tensor, wrap: bool) -> Tensor:
        with role(self.reads):
            features = F.relu(self.first(x, wrap))
        with role("features"):
            residual = self.middle(features, wrap)
        with role("residual sums"):
            features = F.relu(features + residual)
        if self.dst is not None:
            features = self.dst(features, wrap)
        with role("last convolutions"):
            return self.last(features, wrap)


class LiftingBlock(nn.Module):
    """ID block whose two couplings only add: predict, then update, as wavelets are lifted.

    forward:  high' = high + eta(low);  low' = low + phi(high')
    The low part, y to be, moves last, so that the last block's eta works for both directions. (IRN moves it first.)
    """

    def __init__(self, config: FlatConfig, index: int) -> None:
        super().__init__()
        total, kept = config.channels
        deformable = index >= config.blocks - config.deformable
        shift = (index % 2) * (config.window // 2) if deformable and config.dst else None
        self.eta = Function(kept, total - kept, config, deformable, shift)
        self.phi = Function(total - kept, kept, config, deformable, None)

    @property
    def radius(self) -> int:
        """How many pixels away either direction sees."""
        return self.eta.radius + self.phi.radius

    def forward(self, low: Tensor, high: Tensor, wrap: bool) -> tuple[Tensor, Tensor]:
        eta = self.eta(low, wrap).to(high.dtype)
        with role("high path"):
            high = high + eta
        phi = self.phi(high, wrap).to(low.dtype)
        with role("low path"):
            return low + phi, high

    def inverse(self, low: Tensor, high: Tensor, wrap: bool) -> tuple[Tensor, Tensor]:
        phi = self.phi(high, wrap).to(low.dtype)
        with role("low path"):
            low = low - phi
        eta = self.eta(low, wrap).to(high.dtype)
        with role("high path"):
            return low, high - eta


class ResidualBlock(nn.Module):
    """x + conv(relu(conv(x))), the trunk block of the content head."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = SphereConv2d(channels, channels, gain=0.5)
        self.last = SphereConv2d(channels, channels)

    @property
    def radius(self) -> int:
        return self.first.radius + self.last.radius

    def forward(self, x: Tensor, wrap: bool) -> Tensor:
        return x + self.last(F.relu(self.first(x, wrap)), wrap)


class Condition(nn.Module):
    """G_SC: c = [c_con, c_lat] from y at the working resolution and the distortion map, as a list of the heads.

    low: (B,kept,H,W). latitude: the map, (B or 1,1,H,1). c_con: (B,content_width,H,W), c_lat: (B,latitude_width,H,W).
    """

    def __init__(self, config: FlatConfig) -> None:
        super().__init__()
        width, latitude = config.content_width, config.latitude_width
        self.first = SphereConv2d(config.channels[1], width, gain=1.0)
        self.content_head: nn.ModuleList | None = None
        if config.content_head:
            self.content_head = nn.ModuleList(ResidualBlock(width) for _ in range(config.content_blocks))
        self.latitude_head: nn.ModuleList | None = None
        if config.latitude_head:  # of features and map, of the map, of both
            sizes = ((width, latitude), (1, latitude), (latitude, latitude))
            self.latitude_head = nn.ModuleList(SphereConv2d(*size, 1, gain=1.0) for size in sizes)
        self.channels = [width] * config.content_head + [latitude] * config.latitude_head

    @property
    def radius(self) -> int:
        blocks = cast(Sequence[ResidualBlock], self.content_head or ())
        return self.first.radius + sum(block.radius for block in blocks)

    def forward(self, low: Tensor, latitude: Tensor, wrap: bool) -> list[Tensor]:
        features = self.first(low, wrap)
        heads = []
        if self.content_head is not None:
            content = features
            for block in self.content_head:
                content = block(content, wrap)
            heads.append(content)
        if self.latitude_head is not None:
            of_features, of_map, of_both = self.latitude_head
            seen = of_features(features, wrap) + of_map(latitude, False).to(features.dtype)
            heads.append(F.relu(of_both(F.relu(seen), wrap)))
        return heads


class Projection(nn.Module):
    """I_P as a conditional Gaussian's mean alone: z = h - mu(c), so that z = 0 stands for the prediction of h."""

    def __init__(self, condition: Sequence[int], channels: int) -> None:
        super().__init__()
        self.means = nn.ModuleList(SphereConv2d(width, channels, gain=0.0) for width in condition)

    @property
    def radius(self) -> int:
        return 1

    def mean(self, condition: Sequence[Tensor], wrap: bool) -> Tensor:
        """mu(c): a convolution of each head instead of one of all, which would have to be joined in memory."""
        first, *others = (conv(head, wrap) for conv, head in zip(self.means, condition, strict=True))
        for other in others:
            first = first + other
        return first


class FlatDINN360(RescalingNetwork):
    """The network at one resolution (see the module).

    At x2 what a first Haar step makes, the LR image to be and its details, is squeezed once more to that resolution.
    """

    config: FlatConfig

    def __init__(self, config: FlatConfig) -> None:
        super().__init__(config)
        total, kept = config.channels
        self.haar = Haar()
        self.deformable = nn.ModuleList(LiftingBlock(config, index) for index in range(config.blocks))  # I_D
        self.condition = Condition(config)  # G_SC
        self.projection = Projection(self.condition.channels, total - kept)  # I_P

    @property
    def blocks(self) -> Sequence[LiftingBlock]:
        """The ID blocks, in forward order."""
        return cast(Sequence[LiftingBlock], self.deformable)

    @property
    def alignment(self) -> int:
        """Working pixels, and the attention windows where there are any."""
        config = self.config
        windows = config.window if config.dst and config.deformable else 1
        return windows * config.reduction // config.scale

    def squeeze(self, x: Tensor, factor: int) -> Tensor:
        """(B,C,H,W) to (B,C*factor^2,H/factor,W/factor) by Haar steps; coarse bands come first."""
        while factor > 1:
            x, factor = self.haar(x), factor // 2
        return x

    def unsqueeze(self, x: Tensor, factor: int) -> Tensor:
        """The inverse of `squeeze`."""
        while factor > 1:
            x, factor = self.haar.inverse(x), factor // 2
        return x

    def predict(self, low: Tensor, frame: Frame) -> Tensor:
        """h as far as y, squeezed, tells."""
        latitude = frame.latitude(low, self.config.reduction)
        with role("condition"):
            condition = self.condition(low, latitude, frame.wrap)
        with role("projection functions"):
            return self.projection.mean(condition, frame.wrap).to(low.dtype)

    def split(self, x: Tensor, frame: Frame = PANORAMA) -> Split:
        """x: (B,3,H,W), H and W multiples of the working pixel, max(4, scale)."""
        further = self.config.reduction // self.config.scale
        x = self.squeeze(x, self.config.scale)
        low, high = self.squeeze(x[:, :3], further), self.squeeze(x[:, 3:], further)
        for block in self.blocks:
            low, high = block(low, high, frame.wrap)
        y = self.unsqueeze(low, further)
        return Split(y, [high], [y])

    def reconstruct(
        self, y: Tensor, z: Sequence[Tensor | None] | None = None, frame: Frame = PANORAMA
    ) -> Reconstruction:
        further = self.config.reduction // self.config.scale
        low = self.squeeze(y, further)
        predicted = self.predict(low, frame)
        if z is not None and z[0] is not None:
            predicted = predicted + z[0]
        high = predicted
        for block in reversed(self.blocks):
            low, high = block.inverse(low, high, frame.wrap)
        x = torch.cat([self.unsqueeze(low, further), self.unsqueeze(high, further)], dim=1)
        return Reconstruction(self.unsqueeze(x, self.config.scale), [predicted])

    def project(
        self, high: Sequence[Tensor], y: Tensor, frame: Frame = PANORAMA, kept: Sequence[Tensor] | None = None
    ) -> list[Tensor]:
        low = self.squeeze(y, self.config.reduction // self.config.scale)
        return [high[0] - self.predict(low, frame)]

    def downscale(self, x: Tensor, frame: Frame = PANORAMA) -> Tensor:
        scale, reduction = self.config.scale, self.config.reduction
        y = self.split(pad_to_multiple(x, reduction), frame).y
        return y if reduction == scale else crop(y, x, 1, scale)

    def upscale(
        self,
        y: Tensor,
        z: Sequence[Tensor | None] | None = None,
        size: tuple[int, int] | None = None,
        frame: Frame = PANORAMA,
    ) -> Tensor:
        scale, further = self.config.scale, self.config.reduction // self.config.scale
        if further == 1:
            return super().upscale(y, z, size, frame)
        x = self.reconstruct(pad_to_multiple(y, further), z, frame).x
        return crop(x, y, scale, 1) if size is None else x[..., : size[0], : size[1]]

    def parts(self) -> dict[str, nn.Module]:
        return {"I_D": self.deformable, "G_SC": self.condition, "I_P": self.projection}

    def receptive_field(self) -> dict[str, int]:
        pixel = self.config.reduction
        invertible = sum(block.radius for block in self.blocks)
        predicting = self.condition.radius + self.projection.radius
        return {
            "downscale": pixel * invertible + pixel - 1,
            "upscale": pixel * (invertible + predicting) + pixel - 1,
        }
