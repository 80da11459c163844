"""The rescaling systems that an evaluation compares: interpolation, our networks, and anybody's ONNX graphs.

Each one turns an HR image into its 8-bit LR image and its 8-bit reconstruction of the HR image's size.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from dinn360.checkpoint import load_checkpoint
from dinn360.codec.coders import Coder
from dinn360.evaluation.interpolation import Method, resize
from dinn360.evaluation.validate import downscaled, upscaled
from dinn360.networks import RescalingNetwork
from engines.panorama.coding import Coding
from engines.panorama.graph import scale_of
from engines.panorama.rescale_image import downscale_image, upscale_image
from engines.runtimes.base import Session
from engines.session import open_session
from engines.support.arrays import Image8, to_image, to_tensor
from engines.support.errors import UserError

METHODS: tuple[Method, ...] = get_args(Method)
ALIASED = "-aliased"  # suffix of an interpolation without anti-aliasing, as OpenCV shrinks
BASELINES = tuple(method + suffix for suffix in ("", ALIASED) for method in METHODS)

Range = Literal[1, 255]
File = tuple[Coder, int] | None  # a codec and its quality; None: lossless


class System(ABC):
    """One row of the table. name: what the row is called. learned_lr: whether its LR image is more than a resize.

    knows_file: whether its LR image depends on the file that it is going to be.
    """

    name: str
    learned_lr: bool
    knows_file: bool = False

    @abstractmethod
    def shrink(self, image: Image8, file: File = None) -> Image8:
        """LR image (ceil(H/s),ceil(W/s),3) of image (H,W,3), both uint8. file: what it is going to be."""

    @abstractmethod
    def grow(self, lr: Image8, size: tuple[int, int], coarseness: float = 0.0) -> Image8:
        """Reconstruction (*size,3) of an LR image, both uint8, as it comes out of its file, whose coarseness it may
        know (`Coder.coarseness`)."""

    def __call__(self, image: Image8) -> tuple[Image8, Image8]:
        """LR image and reconstruction of image (H,W,3), all uint8."""
        lr = self.shrink(image)
        return lr, self.grow(lr, (image.shape[0], image.shape[1]))


class Interpolation(System):
    """Down and up by one kernel; see `interpolation.resize` for the two families."""

    learned_lr = False

    def __init__(self, name: str, scale: int) -> None:
        if name not in BASELINES:
            raise UserError(f"expected some of {', '.join(BASELINES)}, found {name!r}", "baselines")
        self.name, self.scale = name, scale
        self.antialias = not name.endswith(ALIASED)
        self.method: Method = next(m for m in METHODS if m == name.removesuffix(ALIASED))

    def shrink(self, image: Image8, file: File = None) -> Image8:
        height, width = image.shape[:2]
        return resize(image, (-(-height // self.scale), -(-width // self.scale)), self.method, self.antialias)

    def grow(self, lr: Image8, size: tuple[int, int], coarseness: float = 0.0) -> Image8:
        return resize(lr, size, self.method, self.antialias)


class Network(System):
    """A checkpoint of ours in PyTorch."""

    learned_lr = True

    def __init__(self, network: RescalingNetwork, name: str) -> None:
        self.network, self.name = network.eval(), name
        self.network.freeze_inverses()
        self.knows_file = network.config.knows_file

    @classmethod
    def load(cls, path: Path) -> Network:
        """A checkpoint's network; of one that was trained behind a bicubic reduction the decoder (see `Decoder`)."""
        checkpoint = load_checkpoint(path)
        if checkpoint.decoder_only:
            return Decoder(checkpoint.build(), path.name)
        return cls(checkpoint.build(), f"{checkpoint.config.name} ({path.name})")

    def shrink(self, image: Image8, file: File = None) -> Image8:
        if file is None:
            return downscaled(self.network, image)
        coder, quality = file
        return downscaled(self.network, image, coder.coarseness(quality), coder.halved)

    def grow(self, lr: Image8, size: tuple[int, int], coarseness: float = 0.0) -> Image8:
        return upscaled(self.network, lr, size, coarseness)


class Decoder(Network):
    """The decoder of a checkpoint of ours behind an ordinary bicubic reduction."""

    learned_lr = False

    def __init__(self, network: RescalingNetwork, name: str) -> None:
        super().__init__(network, f"bicubic & decoder of {name}")

    def shrink(self, image: Image8, file: File = None) -> Image8:
        return reference_lr(image, self.network.config.scale)


class Rescaler(System):
    """A pair of ONNX graphs with the contract of ours: `hr` -> `lr` and `lr` -> `hr`, metadata `scale`."""

    learned_lr = True

    def __init__(self, down: Path, up: Path, scale: int) -> None:
        self.down, self.up = open_session(down), open_session(up)
        for session in (self.down, self.up):
            if scale_of(session) != scale:
                raise UserError(f"{session.path}: expected a graph of scale {scale}, found another scale", "rescaler")
        self.name = f"{down.name} + {up.name}"
        self.knows_file = any(spec.name == "halved" for spec in self.down.optional)

    def shrink(self, image: Image8, file: File = None) -> Image8:
        if file is None:
            return downscale_image(self.down, image)
        coder, quality = file
        coding = Coding(coder.name, False, coder.chroma, coarseness=coder.coarseness(quality))
        return downscale_image(self.down, image, coding)

    def grow(self, lr: Image8, size: tuple[int, int], coarseness: float = 0.0) -> Image8:
        return upscale_image(self.up, lr, size, Coding("", coarseness == 0, coarseness=coarseness))


class Upscaler(System):
    """Any super-resolution network as ONNX, after an interpolated reduction (as "Bicubic & LAU-Net" in the slides).

    The graph takes one float image (1,3,h,w) RGB and gives (1,3,s*h,s*w), both in [0, value_range].
    """

    learned_lr = False

    def __init__(self, path: Path, down: str, scale: int, value_range: Range = 1) -> None:
        self.session: Session = open_session(path)
        if len(self.session.inputs) != 1 or len(self.session.outputs) != 1:
            raise UserError(
                f"{path}: expected one input and one output, found {len(self.session.inputs)} and "
                f"{len(self.session.outputs)}",
                "upscaler",
            )
        self.down, self.scale, self.value_range = Interpolation(down, scale), scale, value_range
        self.name = f"{down} & {path.stem}"

    def shrink(self, image: Image8, file: File = None) -> Image8:
        return self.down.shrink(image)

    def grow(self, lr: Image8, size: tuple[int, int], coarseness: float = 0.0) -> Image8:
        source, result = self.session.inputs[0], self.session.outputs[0]
        x: NDArray[np.floating] = (to_tensor(lr) * np.float32(self.value_range)).astype(source.dtype)
        y = self.session.run(**{source.name: x})[result.name]
        wanted = (1, 3, lr.shape[0] * self.scale, lr.shape[1] * self.scale)
        if y.shape != wanted:
            raise UserError(f"{self.session.path}: expected an output of {wanted}, found {y.shape}", "upscaler")
        hr = to_image(y.astype(np.float32) / np.float32(self.value_range))
        return np.ascontiguousarray(hr[: size[0], : size[1]])


def reference_lr(image: Image8, scale: int) -> Image8:
    """Anti-aliased bicubic reduction, what every learned LR image is compared with."""
    return Interpolation("bicubic", scale).shrink(image)
