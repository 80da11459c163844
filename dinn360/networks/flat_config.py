"""The config of flat DINN360 (flat.py has the network) and its preset."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from dinn360.networks.base import NetworkConfig
from dinn360.networks.coarseness import DECODER, ENCODER
from dinn360.networks.errors import ConfigError
from dinn360.networks.size import LARGEST_NUMBER, LARGEST_WINDOW


@dataclass(frozen=True, kw_only=True)
class FlatConfig(NetworkConfig):
    """Flat DINN360's config.

    blocks, width: number of ID blocks and channels of their functions (a multiple of 16 suits tensor cores).
    deformable: how many of the blocks next to the LR image have DConvs, and a DST with `heads` attention heads.
    content_blocks, content_width: depth and channels of the content head; latitude_width: channels of c_lat.
    margin: working pixels by which a panorama is extended around the circle on both sides before it goes through the
        network as if it had edges, and which are cut off behind: once, where every convolution would have to be
        extended. At 16 no 8-bit value of a panorama changed, at 8 one in 200,000, by one (docs/choices.md); 0 is
        the exact form, a wrap in every layer. Crops have no margin.
    negative_slope: of the rectifiers, LeakyReLU's, on negative values. At 0, ReLU, functions die: in the first released
        networks most features were zero everywhere (docs/choices.md).
    deform, dst, latitude_head, content_head: the ablations of the slides.
    sphere_offsets: offsets of the DConvs start from the sphere, columns 1/cos of the latitude apart, where their heads
        start at zero. latitude_offsets: the DConvs have heads that read the latitude, too. sphere_windows: the scale of
        a DST's windows starts from the latitude in the same way. All within max_offset working pixels.
    luma_details: downscaling changes Cb and Cr of the LR image no finer than 4:2:0 keeps them, luma as it likes
        (`LumaDetailConv2d`). An untied decoder is free.
    reads_coarseness: G_SC, and the blocks of an untied decoder, know how coarsely the LR picture was quantised
        (`SteeredConv2d`).
    knows_file: the blocks of an encoder whose decoder is untied know how coarsely the LR picture is going to be
        quantised, and whether its colours will be halved; `luma_details` holds for those that will.
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
    margin: int = 16
    negative_slope: float = 0.0
    sphere_offsets: bool = False
    latitude_offsets: bool = False
    sphere_windows: bool = False
    luma_details: bool = False
    reads_coarseness: bool = False
    knows_file: bool = False

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
        if type(self.margin) is not int or not 0 <= self.margin <= LARGEST_NUMBER:
            raise ConfigError(f"margin: expected 0 to {LARGEST_NUMBER} pixels, found {self.margin!r}")
        if self.dst and self.deformable and self.margin % self.window:
            raise ConfigError(f"margin: expected a multiple of the window of {self.window}, found {self.margin}")
        if self.knows_file and not self.untie:
            raise ConfigError("knows_file: expected an untied decoder (untie), which need not undo it, found none")
        if not 0 <= self.negative_slope < 1:
            raise ConfigError(f"negative_slope: expected 0 or more and less than 1, found {self.negative_slope}")
        if not 0 < self.max_offset <= LARGEST_NUMBER:
            raise ConfigError(f"max_offset: expected a positive number of pixels, found {self.max_offset}")

    @property
    def encoder_reads_latitude(self) -> bool:
        on_sphere = self.sphere_offsets or self.latitude_offsets or (self.sphere_windows and self.dst)
        return self.deform and self.deformable > 0 and on_sphere

    @property
    def steered_blocks(self) -> int:
        """How many values steer the blocks (`SteeredConv2d`). Tied blocks undo what an encoder did that knew none."""
        if self.knows_file:
            return ENCODER
        return DECODER if self.reads_coarseness and self.untie else 0

    def of_encoder(self) -> FlatConfig:
        return replace(self, reads_coarseness=False)

    def of_decoder(self) -> FlatConfig:
        return replace(self, luma_details=False, knows_file=False)

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
        negative_slope=0.2,
        dst=False,
    )
