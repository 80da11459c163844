"""The invertible parts: Haar transform, invertible deformable (ID) blocks, invertible projection (IP) blocks.

Every class has `forward` and `inverse`, exact inverses of each other up to rounding. Equations after IRN (ID) and
HCFlow (IP); the affine functions of ID blocks are those of the slides, built from DConv and DST.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dinn360.networks.config import LevelConfig, ModelConfig
from dinn360.networks.layers import DST, DConv, SphereConv2d, leaky_relu


class Haar(nn.Module):
    """2x2 Haar transform with the low band as the mean, so that it stays an image in [0,1].

    (B,C,H,W) <-> (B,4C,H/2,W/2), channels [LL of all C | LH | HL | HH]. H and W even.
    """

    def forward(self, x: Tensor) -> Tensor:
        a, b = x[..., 0::2, 0::2], x[..., 0::2, 1::2]
        c, d = x[..., 1::2, 0::2], x[..., 1::2, 1::2]
        return torch.cat([a + b + c + d, a - b + c - d, a + b - c - d, a - b - c + d], dim=1) * 0.25

    def inverse(self, x: Tensor) -> Tensor:
        low, lh, hl, hh = x.chunk(4, dim=1)
        quads = torch.stack([low + lh + hl + hh, low - lh + hl - hh, low + lh - hl - hh, low - lh - hl + hh], dim=2)
        return F.pixel_shuffle(quads.flatten(1, 2), 2)


class AffineFunction(nn.Module):
    """Residual structure with DConv layers and, where the level has it, a DST module (slides, figure caption a).

    (B,in,H,W) -> (B,out,H,W); zero at the start, so that a fresh block is the identity. The features start at the size
    of the image (gain 1, our choice; IRN has 0.1): DST normalises its tokens, and to features a tenth of that size its
    untrained branches would add six times what they carry.
    """

    def __init__(self, channels_in: int, channels_out: int, level: LevelConfig, config: ModelConfig, shift: int | None):
        super().__init__()
        width = level.width
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
        features = leaky_relu(self.first(x, wrap))
        residual = features
        for index, dconv in enumerate(self.dconvs):
            residual = dconv(leaky_relu(residual) if index else residual, wrap)
        residual = features + residual
        if self.dst is not None:
            residual = self.dst(residual, wrap)
        if self.merge is not None:
            residual = features + self.merge(residual, wrap)
        return self.last(leaky_relu(residual), wrap)


class InvertibleBlock(nn.Module, ABC):
    """(B,C,H,W) to the same shape and back."""

    @property
    @abstractmethod
    def radius(self) -> int:
        """How many pixels away either direction sees."""

    @abstractmethod
    def forward(self, x: Tensor, wrap: bool) -> Tensor: ...

    @abstractmethod
    def inverse(self, x: Tensor, wrap: bool) -> Tensor: ...


class AdditiveAffineBlock(InvertibleBlock):
    """A coupling of the running low-pass image, three channels, and the rest (IRN's InvBlockExp).

    forward:  low' = low + phi(high);  high' = high * exp(s) + eta(low'),  s = clamp * (2 sigmoid(rho(low')) - 1)
    """

    phi: nn.Module

    def __init__(self, clamp: float) -> None:
        super().__init__()
        self.clamp = clamp

    @abstractmethod
    def rho_and_eta(self, low: Tensor, wrap: bool) -> tuple[Tensor, Tensor]:
        """rho(low) and eta(low) in the dtype of low."""

    def _coupling(self, low: Tensor, wrap: bool) -> tuple[Tensor, Tensor]:
        rho, eta = self.rho_and_eta(low, wrap)
        return self.clamp * (2 * torch.sigmoid(rho) - 1), eta

    def forward(self, x: Tensor, wrap: bool) -> Tensor:
        low, high = x[:, :3], x[:, 3:]
        low = low + self.phi(high, wrap)
        s, eta = self._coupling(low, wrap)
        return torch.cat([low, high * torch.exp(s) + eta], dim=1)

    def inverse(self, x: Tensor, wrap: bool) -> Tensor:
        low, high = x[:, :3], x[:, 3:]
        s, eta = self._coupling(low, wrap)
        high = (high - eta) * torch.exp(-s)
        return torch.cat([low - self.phi(high, wrap), high], dim=1)


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


class ActNorm(nn.Module):
    """Learned scale and shift per channel, identity at the start (simpler to resume than data-driven, our choice)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.shift = nn.Parameter(torch.zeros(1, channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return (x + self.shift) * torch.exp(self.log_scale)

    def inverse(self, x: Tensor) -> Tensor:
        return x * torch.exp(-self.log_scale) - self.shift


class ChannelMixing(nn.Module):
    """Invertible 1x1 convolution, orthogonal at the start (Glow).

    `freeze_inverse` stores the inverse matrix, for exporters that have no matrix inversion.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.linalg.qr(torch.randn(channels, channels))[0].contiguous())
        self.register_buffer("inverse_weight", None, persistent=False)
        self.inverse_weight: Tensor | None

    def freeze_inverse(self) -> None:
        self.inverse_weight = torch.linalg.inv(self.weight.detach().double()).to(self.weight.dtype)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight[:, :, None, None])

    def inverse(self, x: Tensor) -> Tensor:
        matrix = torch.linalg.inv(self.weight) if self.inverse_weight is None else self.inverse_weight
        return F.conv2d(x, matrix[:, :, None, None])


def bounded(x: Tensor) -> Tensor:
    """HCFlow's bounded log-scale: 0.318 * atan(2x), within (-0.5, 0.5)."""
    return 0.318 * torch.atan(2 * x)


class IPBlock(nn.Module):
    """Invertible projection block, conditional on c: ActNorm, invertible 1x1, affine coupling (HCFlow's step).

    h or z: (B,C,H,W); condition: (B,Cc,H,W) at the same resolution. width: hidden channels of the coupling.
    """

    def __init__(self, channels: int, condition: int, width: int) -> None:
        super().__init__()
        self.fixed = channels // 2
        moved = channels - self.fixed
        self.norm = ActNorm(channels)
        self.mix = ChannelMixing(channels)
        self.first = SphereConv2d(self.fixed + condition, width, gain=1.0)
        self.middle = SphereConv2d(width, width, 1, gain=1.0)
        self.last = SphereConv2d(width, 2 * moved, gain=0.0)

    @property
    def radius(self) -> int:
        return self.first.radius + self.middle.radius + self.last.radius

    def _coupling(self, fixed: Tensor, condition: Tensor, wrap: bool) -> tuple[Tensor, Tensor]:
        features = F.relu(self.first(torch.cat([fixed, condition], dim=1), wrap))
        out = self.last(F.relu(self.middle(features, wrap)), wrap).to(fixed.dtype)
        shift, scale = out.chunk(2, dim=1)
        return shift, bounded(scale)

    def forward(self, h: Tensor, condition: Tensor, wrap: bool) -> Tensor:
        h = self.mix(self.norm(h))
        fixed, moved = h[:, : self.fixed], h[:, self.fixed :]
        shift, scale = self._coupling(fixed, condition, wrap)
        return torch.cat([fixed, (moved + shift) * torch.exp(scale)], dim=1)

    def inverse(self, z: Tensor, condition: Tensor, wrap: bool) -> Tensor:
        fixed, moved = z[:, : self.fixed], z[:, self.fixed :]
        shift, scale = self._coupling(fixed, condition, wrap)
        return self.norm.inverse(self.mix.inverse(torch.cat([fixed, moved * torch.exp(-scale) - shift], dim=1)))


class Projection(nn.Module):
    """I_P of one level: IP blocks, then a conditional Gaussian z = (h - mu(c)) * exp(-log sigma(c)) (HCFlow).

    With z = 0, `inverse` is the deterministic prediction of h from c.
    """

    def __init__(self, channels: int, condition: int, blocks: int, width: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(IPBlock(channels, condition, width) for _ in range(blocks))
        self.gaussian = SphereConv2d(condition, 2 * channels, gain=0.0)

    @property
    def radius(self) -> int:
        return self.gaussian.radius + sum(block.radius for block in cast(Sequence[IPBlock], self.blocks))

    def forward(self, h: Tensor, condition: Tensor, wrap: bool) -> Tensor:
        for block in self.blocks:
            h = block(h, condition, wrap)
        mean, scale = self.gaussian(condition, wrap).to(h.dtype).chunk(2, dim=1)
        return (h - mean) * torch.exp(-bounded(scale))

    def inverse(self, z: Tensor | None, condition: Tensor, wrap: bool) -> Tensor:
        mean, scale = self.gaussian(condition, wrap).chunk(2, dim=1)
        h = mean if z is None else z * torch.exp(bounded(scale)) + mean
        for block in reversed(cast(Sequence[IPBlock], self.blocks)):
            h = block.inverse(h, condition, wrap)
        return h
