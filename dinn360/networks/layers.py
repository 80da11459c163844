"""The parts of affine functions and trunks: convolution on the sphere and dense blocks of it, DConv and DST."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dinn360.ops import channel_norm, deform_conv2d, dst_attention, sphere_conv2d, spread, window_mean
from dinn360.sphere import stretch
from dinn360.tracing import role


def leaky_relu(x: Tensor) -> Tensor:
    return F.leaky_relu(x, 0.2)


class SphereConv2d(nn.Module):
    """Stride-1, same-size convolution whose columns wrap (sphere.conv2d).

    gain: factor on the Xavier-normal initialisation (slides: Gaussian initialisation; 0.1 as in IRN). 0 starts at zero.
    """

    def __init__(self, channels_in: int, channels_out: int, kernel: int = 3, gain: float = 0.1) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(channels_out, channels_in, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(channels_out))
        nn.init.xavier_normal_(self.weight, gain=gain) if gain else nn.init.zeros_(self.weight)

    @property
    def radius(self) -> int:
        """How many pixels away it sees, to each side; so for all parts."""
        return int(self.weight.shape[-1]) // 2

    def forward(self, x: Tensor, wrap: bool) -> Tensor:
        return sphere_conv2d(x, self.weight, self.bias, wrap)


class DenseFunction(nn.Module):
    """Five densely connected convolutions (IRN's and HCFlow's functions; ESRGAN's blocks are made of it, too).

    (B,in,H,W) -> (B,out,H,W). growth: channels that each of the first four adds. last_gain: of the last one.
    """

    role, last_role = "features", "last convolutions"

    def __init__(self, channels_in: int, channels_out: int, growth: int, last_gain: float = 0.1) -> None:
        super().__init__()
        self.convs = nn.ModuleList(SphereConv2d(channels_in + i * growth, growth) for i in range(4))
        self.last = SphereConv2d(channels_in + 4 * growth, channels_out, gain=last_gain)

    @property
    def radius(self) -> int:
        return 5

    def forward(self, x: Tensor, wrap: bool) -> Tensor:
        features = _as_convolved(x)
        with role(self.role):
            for conv in self.convs:
                features = torch.cat([features, leaky_relu(conv(features, wrap))], dim=1)
        with role(self.last_role):
            return self.last(features, wrap)


def _as_convolved(x: Tensor) -> Tensor:
    """x in the 16 bits that autocast convolves it in; once, for a concatenation would bring everything back to 32."""
    kind = x.device.type  # "meta", where work is counted, knows no autocast
    on = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
    return x.to(torch.get_autocast_dtype(kind)) if on else x


class DenseBlock(DenseFunction):
    """x + 0.2 f(x) with five densely connected convolutions f (ESRGAN's RDB)."""

    role = last_role = "condition"

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


class DConv(nn.Module):
    """3x3 deformable convolution with one offset group; its offset head starts at zero (our choice: DCNv1).

    At zero offsets it is the plain convolution of the same weights, which is also what `deform=False` computes.

    on_sphere: the head's offsets are added to those of a kernel that covers as much of the sphere at every latitude:
        its columns lie 1/cos apart, where that is no more than `max_offset` beyond their place. reads_latitude: a
        second head, from the distortion map alone, adds to the offsets.
    """

    def __init__(
        self,
        channels: int,
        offset_kernel: int,
        max_offset: float,
        deform: bool,
        on_sphere: bool = False,
        reads_latitude: bool = False,
    ) -> None:
        super().__init__()
        self.conv = SphereConv2d(channels, channels)
        self.offset_head = SphereConv2d(channels, 2 * 9, offset_kernel, gain=0.0)
        self.latitude_head = SphereConv2d(1, 2 * 9, 1, gain=0.0) if reads_latitude else None
        taps = torch.tensor([[0.0, column - 1.0] for _ in range(3) for column in range(3)])
        self.register_buffer("columns", taps.reshape(1, 18, 1, 1) if on_sphere else None, persistent=False)
        self.columns: Tensor | None
        self.max_offset = max_offset
        self.deform = deform

    @property
    def radius(self) -> int:
        return max(self.conv.radius + (math.ceil(self.max_offset) if self.deform else 0), self.offset_head.radius)

    def offsets(self, x: Tensor, wrap: bool, latitude: Tensor | None = None) -> Tensor:
        """(B,18,H,W), ordered [tap, (row, column)], within max_offset pixels. latitude: the map, (B or 1,1,H,1)."""
        with role("offsets"):
            offset = self.offset_head(x, wrap)
            if self.latitude_head is not None and latitude is not None:
                offset = offset + self.latitude_head(latitude, False)
            if self.columns is not None and latitude is not None:
                with role("latitude map"):
                    further = stretch(latitude, self.max_offset)
                offset = offset + further * self.columns
            return offset.clamp(-self.max_offset, self.max_offset)

    def forward(self, x: Tensor, wrap: bool, latitude: Tensor | None = None) -> Tensor:
        if not self.deform:
            return self.conv(x, wrap)
        offset = self.offsets(x, wrap, latitude)
        return deform_conv2d(x, offset, self.conv.weight, self.conv.bias, None, self.max_offset, wrap)


class LayerNorm2d(nn.Module):
    """Layer normalisation over the channels of (B,C,H,W)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        return channel_norm(x, self.weight, self.bias)


def pointwise(channels_in: int, channels_out: int, std: float = 0.02) -> nn.Conv2d:
    layer = nn.Conv2d(channels_in, channels_out, 1)
    nn.init.normal_(layer.weight, std=std) if std else nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


class DST(nn.Module):
    """Deformable Swin transformer module (slides, figure caption b; structure after Swin and VSA is our choice).

    The scale head and the offset head read the mean token of each window and tell, per head, where the window's
    queries are sampled. `shift` displaces the windows (0, or window/2 in every second block). activation: of the MLP.
    spread: pixels by which queries at a window's sides start further out where the sphere asks for it: columns lie
    1/cos of the window's latitude apart, as far as that is no more. 0: everywhere as on the equator.
    """

    def __init__(
        self,
        channels: int,
        heads: int,
        window: int,
        shift: int,
        mlp_ratio: int,
        deform: bool,
        activation: Callable[[Tensor], Tensor] = F.gelu,
        spread: float = 0.0,
    ) -> None:
        super().__init__()
        self.spread = spread
        columns = torch.tensor([0.0, 1.0] * heads).reshape(1, 2 * heads, 1, 1)
        self.register_buffer("columns", columns if spread else None, persistent=False)
        self.columns: Tensor | None
        self.activation = activation
        self.heads, self.window, self.shift, self.deform = heads, window, shift, deform
        self.norm_attention = LayerNorm2d(channels)
        self.qkv = pointwise(channels, 3 * channels, std=channels**-0.5)
        self.scale_head = pointwise(channels, 2 * heads, std=0.0)
        self.offset_head = pointwise(channels, 2 * heads, std=0.0)
        self.position_bias = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))
        nn.init.trunc_normal_(self.position_bias, std=0.02)
        self.out = pointwise(channels, channels)
        self.norm_mlp = LayerNorm2d(channels)
        self.mlp_in = pointwise(channels, mlp_ratio * channels, std=channels**-0.5)
        self.mlp_out = pointwise(mlp_ratio * channels, channels)
        at = torch.arange(window)
        place = torch.cartesian_prod(at, at)
        apart = place[:, None] - place[None] + window - 1
        self.register_buffer("bias_index", apart[..., 0] * (2 * window - 1) + apart[..., 1], persistent=False)
        self.bias_index: Tensor

    def bias(self) -> Tensor:
        """Relative position bias, (heads, window^2, window^2)."""
        return self.position_bias[self.bias_index].permute(2, 0, 1)

    def query_reach(self) -> float:
        """How far from its pixel a query can be sampled, in pixels along one axis: a bound that holds for any input.

        A normalised token n has length sqrt(channels), the mean of several at most that, and leaky_relu does not
        stretch; so a head's output lies within sqrt(channels) * |weight * gain| of its value at n = 0.
        """
        if not self.deform:
            return 0.0
        gain, shift = self.norm_attention.weight.detach(), self.norm_attention.bias.detach()

        def largest(head: nn.Conv2d) -> Tensor:  # (2 * heads,)
            assert head.bias is not None
            matrix = head.weight.detach()[:, :, 0, 0]
            centre = matrix @ leaky_relu(shift) + head.bias.detach()
            return centre.abs() + len(gain) ** 0.5 * (matrix * gain).norm(dim=1)

        reach = (self.window - 1) / 2 * largest(self.scale_head) + self.window * largest(self.offset_head)
        return float(reach.max()) + self.spread

    @property
    def radius(self) -> int:
        """Any key of the window, whose mean also steers the heads; a query is a bilinear sample. Of weights that are
        not there (on the meta device) no reach is known.
        """
        reach = 0 if self.qkv.weight.is_meta else math.ceil(self.query_reach()) + 1
        return max(self.window - 1, reach)

    def scale(self, mean: Tensor, latitude: Tensor | None, like: Tensor) -> Tensor:
        """By how much each window's queries lie further out, (B,2*heads,h,w). mean: (B,C,h,w), of its tokens.

        latitude: the distortion map of `like` (B,C,H,W), of the image that the windows are of.
        """
        scale = self.scale_head(mean)
        if self.columns is None or latitude is None:
            return scale
        row = window_mean(spread(latitude, like), self.window, self.shift, False)
        return scale + stretch(row, self.spread / ((self.window - 1) / 2)).to(scale.dtype) * self.columns

    def forward(self, x: Tensor, wrap: bool, latitude: Tensor | None = None) -> Tensor:
        with role("tokens"):
            tokens = self.norm_attention(x)
            q, k, v = self.qkv(tokens).chunk(3, dim=1)
            scale = offset = None
            if self.deform:
                with role("window heads"):
                    mean = leaky_relu(window_mean(tokens, self.window, self.shift, wrap))
                    scale = self.scale(mean, latitude, tokens)
                    offset = self.window * self.offset_head(mean)
            attended = dst_attention(q, k, v, scale, offset, self.bias(), self.window, self.shift, wrap)
            x = x + self.out(attended)
            return x + self.mlp_out(self.activation(self.mlp_in(self.norm_mlp(x))))
