"""The invertible parts: Haar transform, the coupling of ID blocks, invertible projection (IP) blocks.

Every class has `forward` and `inverse`, exact inverses of each other up to rounding. Equations after IRN (ID) and
HCFlow (IP).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dinn360.networks.layers import SphereConv2d
from dinn360.ops import haar, haar_inverse
from dinn360.tracing import role


class Haar(nn.Module):
    """2x2 Haar transform with the low band as the mean, so that it stays an image in [0,1].

    (B,C,H,W) <-> (B,4C,H/2,W/2), channels [LL of all C | LH | HL | HH]. H and W even.
    """

    def forward(self, x: Tensor) -> Tensor:
        return haar(x)

    def inverse(self, x: Tensor) -> Tensor:
        return haar_inverse(x)


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
        with role("log scale"):
            return self.clamp * (2 * torch.sigmoid(rho) - 1), eta

    def forward(self, x: Tensor, wrap: bool) -> Tensor:
        low, high = x[:, :3], x[:, 3:]
        moved = self.phi(high, wrap)
        with role("low path"):
            low = low + moved
        s, eta = self._coupling(low, wrap)
        with role("log scale"):
            scale = torch.exp(s)
        with role("high path"):
            return torch.cat([low, high * scale + eta], dim=1)

    def inverse(self, x: Tensor, wrap: bool) -> Tensor:
        low, high = x[:, :3], x[:, 3:]
        s, eta = self._coupling(low, wrap)
        with role("log scale"):
            scale = torch.exp(-s)
        with role("high path"):
            high = (high - eta) * scale
        moved = self.phi(high, wrap)
        with role("low path"):
            return torch.cat([low - moved, high], dim=1)


class ActNorm(nn.Module):
    """Learned scale and shift per channel, identity at the start (simpler to resume than data-driven, our choice)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.shift = nn.Parameter(torch.zeros(1, channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        with role("high path"):
            return (x + self.shift) * torch.exp(self.log_scale)

    def inverse(self, x: Tensor) -> Tensor:
        with role("high path"):
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
        with role("high path"):
            return F.conv2d(x, self.weight[:, :, None, None])

    def inverse(self, x: Tensor) -> Tensor:
        matrix = torch.linalg.inv(self.weight) if self.inverse_weight is None else self.inverse_weight
        with role("high path"):
            return F.conv2d(x, matrix[:, :, None, None])


def bounded(x: Tensor) -> Tensor:
    """HCFlow's bounded log-scale: 0.318 * atan(2x), within (-0.5, 0.5)."""
    with role("log scale"):
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
        with role("projection functions"):
            features = F.relu(self.first(torch.cat([fixed, condition], dim=1), wrap))
            out = self.last(F.relu(self.middle(features, wrap)), wrap).to(fixed.dtype)
        shift, scale = out.chunk(2, dim=1)
        return shift, bounded(scale)

    def forward(self, h: Tensor, condition: Tensor, wrap: bool) -> Tensor:
        h = self.mix(self.norm(h))
        fixed, moved = h[:, : self.fixed], h[:, self.fixed :]
        shift, scale = self._coupling(fixed, condition, wrap)
        with role("log scale"):
            factor = torch.exp(scale)
        with role("high path"):
            return torch.cat([fixed, (moved + shift) * factor], dim=1)

    def inverse(self, z: Tensor, condition: Tensor, wrap: bool) -> Tensor:
        fixed, moved = z[:, : self.fixed], z[:, self.fixed :]
        shift, scale = self._coupling(fixed, condition, wrap)
        with role("log scale"):
            factor = torch.exp(-scale)
        with role("high path"):
            moved = moved * factor - shift
        return self.norm.inverse(self.mix.inverse(torch.cat([fixed, moved], dim=1)))


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
        with role("projection functions"):
            mean, scale = self.gaussian(condition, wrap).to(h.dtype).chunk(2, dim=1)
        return (h - mean) * torch.exp(-bounded(scale))

    def inverse(self, z: Tensor | None, condition: Tensor, wrap: bool) -> Tensor:
        with role("projection functions"):
            mean, scale = self.gaussian(condition, wrap).chunk(2, dim=1)
        h = mean if z is None else z * torch.exp(bounded(scale)) + mean
        for block in reversed(cast(Sequence[IPBlock], self.blocks)):
            h = block.inverse(h, condition, wrap)
        return h
