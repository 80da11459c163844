"""What every invertible rescaling network can do: the interface of training, evaluation and export."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor, nn

from dinn360.networks.config import NetworkConfig
from dinn360.networks.invertible import ChannelMixing
from dinn360.networks.layers import DST, DConv
from dinn360.sphere import PANORAMA, Frame, pad_to_multiple


class Split(NamedTuple):
    """What an image is taken apart into. Lists go from the finest level to the coarsest.

    y: LR image (B,3,H/s,W/s), not rounded. high: what was split off, h. kept: what was passed on where h was split off.
    """

    y: Tensor
    high: list[Tensor]
    kept: list[Tensor]


class Reconstruction(NamedTuple):
    """An HR image (B,3,H,W), not clamped, and the h that it was made with, as `Split.high`."""

    x: Tensor
    high: list[Tensor]


class RescalingNetwork(nn.Module, ABC):
    """An invertible network from an image to a smaller one and a latent z, which decoding does without.

    Images are (B,3,H,W) RGB in [0,1]. `frame` says where on the sphere they lie (default: a whole panorama, columns
    cyclic). A latent z is shaped like the h that it stands for; None stands for zeros.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config

    @abstractmethod
    def split(self, x: Tensor, frame: Frame = PANORAMA) -> Split:
        """x: (B,3,H,W), H and W multiples of the scale."""

    @abstractmethod
    def reconstruct(
        self, y: Tensor, z: Sequence[Tensor | None] | None = None, frame: Frame = PANORAMA
    ) -> Reconstruction:
        """The way back from y (B,3,h,w), with h made from the latents z and what y tells of it."""

    @abstractmethod
    def project(
        self, high: Sequence[Tensor], y: Tensor, frame: Frame = PANORAMA, kept: Sequence[Tensor] | None = None
    ) -> list[Tensor]:
        """The latents z of `high` (as `split` gives it), given y. For training and exact round trips.

        kept: what `split` gave; without it, it is recovered from y and `high`.
        """

    @abstractmethod
    def parts(self) -> dict[str, nn.Module]:
        """The network's parts by their names in the literature; together they hold all parameters."""

    @abstractmethod
    def receptive_field(self) -> dict[str, int]:
        """How far from a pixel another one can change it, in HR pixels to each side, for "downscale" and "upscale".

        An upper bound from the radii of the layers, max_offset, windows and DST.query_reach, added along the longest
        path. A network without weights (on the meta device) has no reach: its queries count as not displaced.
        """

    @property
    def alignment(self) -> int:
        """Tiles must start on multiples of this number of LR pixels."""
        return 1

    def downscale(self, x: Tensor, frame: Frame = PANORAMA) -> Tensor:
        """x: (B,3,H,W) in [0,1] to y: (B,3,ceil(H/s),ceil(W/s)), not rounded; round it to 8 bits to store it."""
        return self.split(pad_to_multiple(x, self.config.scale), frame).y

    def upscale(
        self,
        y: Tensor,
        z: Sequence[Tensor | None] | None = None,
        size: tuple[int, int] | None = None,
        frame: Frame = PANORAMA,
    ) -> Tensor:
        """y: (B,3,h,w) to x: (B,3,s*h,s*w), cropped to `size` (H,W) when given; not clamped.

        z: the latents; None is the deterministic decoder (z = 0 is our choice; the slides, IRN and HCFlow sample).
        """
        x = self.reconstruct(y, z, frame).x
        return x if size is None else x[..., : size[0], : size[1]]

    def set_deformation(self, on: bool) -> None:
        """Switches all sampling offsets on or off; the weights stay (zero offsets equal plain convolutions)."""
        for module in self.modules():
            if isinstance(module, DConv | DST):
                module.deform = on

    def sampling_heads(self) -> list[nn.Module]:
        """The layers that say where DConv and DST sample; none where a network has neither."""
        heads: list[nn.Module] = []
        for module in self.modules():
            if isinstance(module, DConv | DST):
                heads.append(module.offset_head)
            if isinstance(module, DST):
                heads.append(module.scale_head)
        return heads

    def freeze_inverses(self) -> None:
        """Stores the inverse of every 1x1 mixing matrix, for export and repeated inference."""
        for module in self.modules():
            if isinstance(module, ChannelMixing):
                module.freeze_inverse()
