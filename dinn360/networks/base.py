"""What all networks have in common: the config that fixes one, and the interface of training, evaluation and export."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, NamedTuple

from torch import Tensor, nn

from dinn360.networks.errors import ConfigError
from dinn360.networks.invertible import ChannelMixing
from dinn360.networks.layers import DST, DConv
from dinn360.networks.size import LARGEST_NUMBER
from dinn360.ops import pad_to_multiple
from dinn360.sphere import PANORAMA, Frame

SCALES = (2, 4, 8)


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """Everything that fixes a network.

    architecture: its tag in files. title: what people call it. preset: the name under which the sizes are known, or
    "custom". untie: the decoder has weights of its own (untied.py).
    """

    architecture: ClassVar[str]
    title: ClassVar[str]

    scale: int
    preset: str = "custom"
    untie: bool = False

    def __post_init__(self) -> None:
        if self.scale not in SCALES:
            raise ConfigError(f"scale: expected one of {SCALES}, found {self.scale}")

    @property
    def deform(self) -> bool:
        """Whether sampling offsets are on, in an architecture that has them."""
        return False

    @property
    def encoder_reads_latitude(self) -> bool:
        """Whether downscaling, too, depends on where on the sphere an image lies."""
        return False

    @property
    def reads_coarseness(self) -> bool:
        """Whether the decoder asks how coarsely the LR picture was quantised (`Frame.coarseness`)."""
        return False

    @property
    def knows_file(self) -> bool:
        """Whether the encoder asks how the LR picture's file is going to be (`Frame.coarseness`, `Frame.halved`)."""
        return False

    def told_of_file(self, direction: str) -> tuple[str, ...]:
        """What a direction, "down" or "up", asks of the LR picture's file: fields of `Frame`, inputs of its graph."""
        if direction == "up":
            return ("coarseness",) if self.reads_coarseness else ()
        return ("coarseness", "halved") if self.knows_file else ()

    def of_encoder(self) -> NetworkConfig:
        """Of an encoder whose decoder has weights of its own: without what binds or helps the decoder alone."""
        return self

    def of_decoder(self) -> NetworkConfig:
        """Of a decoder with weights of its own: without what binds the encoder alone."""
        return self

    @property
    def name(self) -> str:
        """Architecture and size for tables, as "IRN edge"."""
        return f"{self.title} {self.preset.removeprefix(f'{self.architecture}-')}"

    def to_dict(self) -> dict[str, Any]:
        """Plain types only, for checkpoints and JSON. `untie` only where it is on: files from before have none."""
        values = {"architecture": self.architecture, **asdict(self)}
        return {name: value for name, value in values.items() if name != "untie" or value}


@dataclass(frozen=True, kw_only=True)
class LevelsConfig(NetworkConfig):
    """Of a network in levels, one for each factor of two, listed from fine (0) to coarse.

    level_type: the dataclass of one level.
    """

    level_type: ClassVar[type]

    levels: tuple[Any, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        if 2 ** len(self.levels) != self.scale:
            raise ConfigError(f"levels: scale {self.scale} needs log2(scale) levels, found {len(self.levels)}")

    def level_channels(self, index: int) -> tuple[int, int]:
        """Channels (total, kept) of level `index`: after its Haar, and after its split (the last keeps y: 3).

        HCFlow's hierarchy: each level but the last splits off half of its channels.
        """
        kept_before = 3
        for i in range(index + 1):
            total = 4 * kept_before
            kept_before = 3 if i == len(self.levels) - 1 else total // 2
        return total, kept_before

    def to_dict(self) -> dict[str, Any]:
        return {**super().to_dict(), "levels": [asdict(level) for level in self.levels]}

    def _check_whole_numbers(self, besides: tuple[str, ...] = ()) -> None:
        """Raises ConfigError unless every field of every level, `besides` some, is a whole number within bounds."""
        for index, level in enumerate(self.levels):
            for name, value in asdict(level).items():
                if name not in besides and (type(value) is not int or not 1 <= value <= LARGEST_NUMBER):
                    expected = f"a whole number of 1 to {LARGEST_NUMBER}"
                    raise ConfigError(f"levels[{index}].{name}: expected {expected}, found {value!r}")


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

    def decoder_weights(self) -> dict[str, Tensor]:
        """The weights with which a network of `config.of_decoder()` undoes what this one does."""
        return dict(self.state_dict())

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

    @property
    def extension(self) -> int:
        """The LR pixels to a multiple of which `upscale` extends an image."""
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
            if isinstance(module, DConv) and module.latitude_head is not None:
                heads.append(module.latitude_head)
            if isinstance(module, DST):
                heads.append(module.scale_head)
        return heads

    def freeze_inverses(self) -> None:
        """Stores the inverse of every 1x1 mixing matrix, for export and repeated inference."""
        for module in self.modules():
            if isinstance(module, ChannelMixing):
                module.freeze_inverse()
