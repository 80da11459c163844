"""Flat DINN360: all work at one resolution, a quarter of the HR image's sides (an eighth at x8).

The parts and their roles are those of the slides: invertible deformable (ID) blocks take the image apart into y and
h, G_SC makes a condition of y, I_P brings h to z = h - mu(c). The plan is our choice, made for machines that are bound
by memory: one squeeze in front instead of a level for each factor of two, because 32 channels at a quarter of the
sides cost the arithmetic of 16 at a half and half the bytes; couplings that only add, so that convolutions, additions
and rectifiers are all there is and every runtime fuses them; h predicted in one go, where a chain of conditional flow
steps would read it as often as there are steps. docs/choices.md has what each choice gains or costs.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dinn360.networks.base import Reconstruction, RescalingNetwork, Split
from dinn360.networks.coarseness import DECODER, ENCODER, Coarse, SteeredConv2d, coarse, is_steering
from dinn360.networks.colour import LumaDetailConv2d
from dinn360.networks.flat_config import FlatConfig
from dinn360.networks.layers import DST, DConv, SphereConv2d
from dinn360.ops import crop, haar, pad_to_multiple
from dinn360.sphere import PANORAMA, Frame
from dinn360.tracing import role


def haar_bands(factor: int, scale: int) -> Tensor:
    """Haar steps in one go: the kernel (3 f^2,3,f,f) of a convolution with stride f; times f^2, of its way back.

    The bands of the coarsest steps come first: after `scale`, the low-pass image at 1/scale, squeezed to factor f, then
    everything else. A runtime reads the image once; step by step it would copy every second pixel four times a step.
    """
    channels = 3 * factor**2
    impulses = torch.eye(channels).reshape(channels, 3, factor, factor)
    bands = _haar_steps(impulses, scale)
    bands = torch.cat([_haar_steps(part, factor // scale) for part in (bands[:, :3], bands[:, 3:])], dim=1)
    return bands.reshape(channels, channels).T.reshape(channels, 3, factor, factor)


def _haar_steps(x: Tensor, factor: int) -> Tensor:
    while factor > 1:
        x, factor = haar(x), factor // 2
    return x


def squeeze(x: Tensor, kernel: Tensor) -> Tensor:
    """(B,3,H,W) to (B,C,H/f,W/f) by C rows of `haar_bands`."""
    with _in_full():
        return F.conv2d(x, kernel, stride=kernel.shape[-1])


def unsqueeze(x: Tensor, kernel: Tensor, margin: int = 0) -> Tensor:
    """The inverse of `squeeze` with all rows, without `margin` columns of x on both sides."""
    factor = int(kernel.shape[-1])
    with _in_full():  # the transform is orthogonal but for its scale
        return F.conv_transpose2d(x, kernel * factor**2, stride=factor, padding=(0, margin * factor))


def _in_full() -> AbstractContextManager[None]:
    """Without the 16 bits of training, which would lose some of the image's 8; no part of an exported graph."""
    for device in ("cpu", "cuda"):
        if torch.is_autocast_enabled(device):
            return torch.autocast(device, enabled=False)
    return nullcontext()


def rectifier(config: FlatConfig) -> Callable[[Tensor], Tensor]:
    """LeakyReLU of the config's slope, ReLU where that is 0 (which graphs have as an operator of its own)."""
    slope = config.negative_slope
    return functools.partial(F.leaky_relu, negative_slope=slope) if slope else F.relu


class Function(nn.Module):
    """What a coupling adds: conv, a residual 3x3 (a DConv where it is deformable), where asked for a DST, conv.

    (B,in,H,W) -> (B,out,H,W); zero at the start, so that a fresh block is the identity. shift: of the DST's windows,
    None for none.
    """

    def __init__(self, channels_in: int, channels_out: int, config: FlatConfig, deformable: bool, shift: int | None):
        super().__init__()
        width = config.width
        self.reads = "rho eta input" if channels_in == config.channels[1] else "features"  # the role of the first
        steered = config.steered_blocks
        self.first = SteeredConv2d(channels_in, width, 1.0, steered)
        self.middle: DConv | SphereConv2d = (
            DConv(width, 1, config.max_offset, config.deform, config.sphere_offsets, config.latitude_offsets)
            if deformable
            else SphereConv2d(width, width)
        )
        self.activation = rectifier(config)
        spread = config.max_offset if config.sphere_windows else 0.0
        self.dst = (
            None
            if shift is None
            else DST(
                width, config.heads, config.window, shift, config.mlp_ratio, config.deform, self.activation, spread
            )
        )
        to_low = config.luma_details and channels_out == config.channels[1]
        self.last = (LumaDetailConv2d if to_low else SphereConv2d)(width, channels_out, gain=0.0)
        self.knows_file = config.knows_file

    @property
    def radius(self) -> int:
        dst = 0 if self.dst is None else self.dst.radius
        return self.first.radius + self.middle.radius + dst + self.last.radius

    def forward(self, x: Tensor, wrap: bool, latitude: Tensor | None = None, coarse: Coarse | None = None) -> Tensor:
        """latitude: the distortion map, (B or 1,1,H,1), for deformation that starts from the sphere."""
        with role(self.reads):
            features = self.activation(self.first(x, wrap, coarse))
        with role("features"):
            if isinstance(self.middle, DConv):
                residual = self.middle(features, wrap, latitude)
            else:
                residual = self.middle(features, wrap)
            features = self.activation(features + residual)
        if self.dst is not None:
            features = self.dst(features, wrap, latitude)
        with role("last convolutions"):
            if isinstance(self.last, LumaDetailConv2d) and self.knows_file and coarse is not None:
                return self.last(features, wrap, coarse[2])
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

    def forward(
        self, low: Tensor, high: Tensor, wrap: bool, latitude: Tensor | None = None, coarse: Coarse | None = None
    ) -> tuple[Tensor, Tensor]:
        eta = self.eta(low, wrap, latitude, coarse).to(high.dtype)
        with role("details"):
            high = high + eta
        phi = self.phi(high, wrap, latitude, coarse).to(low.dtype)
        with role("low path"):
            return low + phi, high

    def inverse(
        self, low: Tensor, high: Tensor, wrap: bool, latitude: Tensor | None = None, coarse: Coarse | None = None
    ) -> tuple[Tensor, Tensor]:
        phi = self.phi(high, wrap, latitude, coarse).to(low.dtype)
        with role("low path"):
            low = low - phi
        eta = self.eta(low, wrap, latitude, coarse).to(high.dtype)
        with role("details"):
            return low, high - eta


class ResidualBlock(nn.Module):
    """x + conv(activation(conv(x))), the trunk block of the content head."""

    def __init__(self, channels: int, activation: Callable[[Tensor], Tensor], steered: int) -> None:
        super().__init__()
        self.activation = activation
        self.first = SteeredConv2d(channels, channels, 0.5, steered)
        self.last = SphereConv2d(channels, channels)

    @property
    def radius(self) -> int:
        return self.first.radius + self.last.radius

    def forward(self, x: Tensor, wrap: bool, coarse: Coarse | None) -> Tensor:
        return x + self.last(self.activation(self.first(x, wrap, coarse)), wrap)


class Condition(nn.Module):
    """G_SC: c = [c_con, c_lat] from y at the working resolution and the distortion map, as a list of the heads.

    low: (B,kept,H,W). latitude: the map, (B or 1,1,H,1). c_con: (B,content_width,H,W), c_lat: (B,latitude_width,H,W).
    """

    def __init__(self, config: FlatConfig) -> None:
        super().__init__()
        width, latitude = config.content_width, config.latitude_width
        self.activation, steered = rectifier(config), DECODER if config.reads_coarseness else 0
        self.first = SteeredConv2d(config.channels[1], width, 1.0, steered)
        self.content_head: nn.ModuleList | None = None
        if config.content_head:
            self.content_head = nn.ModuleList(
                ResidualBlock(width, self.activation, steered) for _ in range(config.content_blocks)
            )
        self.latitude_head: nn.ModuleList | None = None
        if config.latitude_head:  # of features and map, of the map, of both
            sizes = ((width, latitude), (1, latitude), (latitude, latitude))
            self.latitude_head = nn.ModuleList(SphereConv2d(*size, 1, gain=1.0) for size in sizes)
        self.channels = [width] * config.content_head + [latitude] * config.latitude_head

    @property
    def radius(self) -> int:
        blocks = cast(Sequence[ResidualBlock], self.content_head or ())
        return self.first.radius + sum(block.radius for block in blocks)

    def forward(self, low: Tensor, latitude: Tensor, wrap: bool, coarse: Coarse | None) -> list[Tensor]:
        features = self.first(low, wrap, coarse)
        heads = []
        if self.content_head is not None:
            content = features
            for block in self.content_head:
                content = block(content, wrap, coarse)
            heads.append(content)
        if self.latitude_head is not None:
            of_features, of_map, of_both = self.latitude_head
            seen = of_features(features, wrap) + of_map(latitude, False).to(features.dtype)
            heads.append(self.activation(of_both(self.activation(seen), wrap)))
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

    At x2 the LR image is finer than the work, and squeezed by one step itself.
    """

    config: FlatConfig

    def __init__(self, config: FlatConfig) -> None:
        super().__init__(config)
        total, kept = config.channels
        further = config.reduction // config.scale  # of the LR image at x2, which is one step finer than the work
        self.register_buffer("bands", haar_bands(config.reduction, config.scale), persistent=False)
        self.register_buffer("lr_bands", haar_bands(further, 1) if further > 1 else None, persistent=False)
        self.bands: Tensor
        self.lr_bands: Tensor | None
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
        return windows * self.extension

    @property
    def extension(self) -> int:
        """A working pixel."""
        return self.config.reduction // self.config.scale

    def predict(self, low: Tensor, frame: Frame) -> Tensor:
        """h as far as y, squeezed, tells."""
        latitude = frame.latitude(low, self.config.reduction)
        with role("condition"):
            condition = self.condition(low, latitude, frame.wrap, self.coarse(low, frame))
        with role("projection functions"):
            return self.projection.mean(condition, frame.wrap).to(low.dtype)

    def split(self, x: Tensor, frame: Frame = PANORAMA) -> Split:
        """x: (B,3,H,W), H and W multiples of the working pixel, max(4, scale)."""
        low, high = self.forward_blocks(x, frame)
        y = self.lr_image(low)
        return Split(y, [high], [y])

    def reconstruct(
        self, y: Tensor, z: Sequence[Tensor | None] | None = None, frame: Frame = PANORAMA
    ) -> Reconstruction:
        return self.inverse_blocks(y, z, frame)

    def project(
        self, high: Sequence[Tensor], y: Tensor, frame: Frame = PANORAMA, kept: Sequence[Tensor] | None = None
    ) -> list[Tensor]:
        return [high[0] - self.predict(self.low(y), frame)]

    def forward_blocks(self, x: Tensor, frame: Frame) -> tuple[Tensor, Tensor]:
        """x (B,3,H,W) to y, squeezed, and h. The low part is read apart: it may be more precise than the rest."""
        kept = self.config.channels[1]
        with role("low path"):
            low = squeeze(x, self.bands[:kept])
        with role("haar"):
            high = squeeze(x, self.bands[kept:])
        latitude = self.latitude(low, frame)
        with role("condition"):
            coarse = self.file(low, frame)
        for block in self.blocks:
            low, high = block(low, high, frame.wrap, latitude, coarse)
        return low, high

    def inverse_blocks(
        self, y: Tensor, z: Sequence[Tensor | None] | None, frame: Frame, margin: int = 0
    ) -> Reconstruction:
        """The way back; the image without `margin` working pixels on both sides."""
        low = self.low(y)
        predicted = self.predict(low, frame)
        if z is not None and z[0] is not None:
            predicted = predicted + z[0]
        high = predicted
        latitude = self.latitude(low, frame)
        with role("condition"):
            coarse = self.coarse(low, frame)
        for block in reversed(self.blocks):
            low, high = block.inverse(low, high, frame.wrap, latitude, coarse)
        with role("haar"):
            return Reconstruction(unsqueeze(torch.cat([low, high], dim=1), self.bands, margin), [predicted])

    def latitude(self, low: Tensor, frame: Frame) -> Tensor | None:
        """The distortion map where the blocks read it."""
        return frame.latitude(low, self.config.reduction) if self.config.encoder_reads_latitude else None

    def coarse(self, low: Tensor, frame: Frame) -> Coarse | None:
        """The coarseness of the LR picture where the decoder reads it."""
        return coarse(frame, low, DECODER) if self.config.reads_coarseness else None

    def file(self, low: Tensor, frame: Frame) -> Coarse | None:
        """What the LR picture's file is going to be where the encoder knows."""
        return coarse(frame, low, ENCODER) if self.config.knows_file else None

    def low(self, y: Tensor) -> Tensor:
        """y at the working resolution."""
        with role("low path"):
            return y if self.lr_bands is None else squeeze(y, self.lr_bands)

    def lr_image(self, low: Tensor, margin: int = 0) -> Tensor:
        """The inverse of `low` at x2, without `margin` working pixels on both sides."""
        with role("low path"):
            return low if self.lr_bands is None else unsqueeze(low, self.lr_bands, margin)

    def extend(self, x: Tensor, pixel: int, frame: Frame) -> tuple[Tensor, int, Frame]:
        """x (B,3,H,W) in whole working pixels of `pixel` columns, with its margin; how wide that is; the frame."""
        if not (self.config.margin and frame.wrap):
            return pad_to_multiple(x, pixel), 0, frame
        margin = self.config.margin
        return pad_to_multiple(x, pixel, margin * pixel), margin, replace(frame, wrap=False)

    def downscale(self, x: Tensor, frame: Frame = PANORAMA) -> Tensor:
        extended, margin, frame = self.extend(x, self.config.reduction, frame)
        low, _ = self.forward_blocks(extended, frame)
        if self.lr_bands is None:
            return crop(low, x, 1, self.config.scale, margin) if margin else low
        return crop(self.lr_image(low, margin), x, 1, self.config.scale)

    def upscale(
        self,
        y: Tensor,
        z: Sequence[Tensor | None] | None = None,
        size: tuple[int, int] | None = None,
        frame: Frame = PANORAMA,
    ) -> Tensor:
        """With latents, which are of y as it is, every layer wraps: the way back of `split`."""
        if z is None:
            extended, margin, frame = self.extend(y, self.extension, frame)
        else:
            extended, margin = pad_to_multiple(y, self.extension), 0
        x = self.inverse_blocks(extended, z, frame, margin).x
        if size is not None:
            return x[..., : size[0], : size[1]]
        return x if self.lr_bands is None else crop(x, y, self.config.scale, 1)

    def decoder_weights(self) -> dict[str, Tensor]:
        weights = {n: tensor for n, tensor in super().decoder_weights().items() if not is_steering(n)}
        for name, module in self.named_modules():
            if isinstance(module, LumaDetailConv2d):
                kernel, bias = module.projected()
                weights |= {f"{name}.weight": kernel.detach(), f"{name}.bias": bias.detach()}
        return weights

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
