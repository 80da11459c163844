"""Validation: the whole rescaling chain on whole panoramas, through an 8-bit LR image, beside bicubic."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, astuple, dataclass, fields
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from dinn360.codec.coders import Through
from dinn360.data.crops import read_folder
from dinn360.evaluation.interpolation import bicubic_round_trip, resize
from dinn360.evaluation.metrics import luma, psnr, ws_psnr
from dinn360.networks import RescalingNetwork
from engines.support.arrays import Image8, to_image, to_tensor


@dataclass(frozen=True)
class Figures:
    """Of one panorama or, as means, of several; all in dB.

    ws_psnr_y, ws_psnr_rgb: 8-bit reconstruction against the original. bicubic_y, bicubic_rgb: the same for
    anti-aliased bicubic down, 8-bit rounding, bicubic up. lr_psnr: the LR image against anti-aliased bicubic.
    gain_y: ws_psnr_y - bicubic_y.
    """

    ws_psnr_y: float
    ws_psnr_rgb: float
    bicubic_y: float
    bicubic_rgb: float
    lr_psnr: float
    gain_y: float


@dataclass(frozen=True)
class Restored:
    """One panorama with what the network made of it; images are uint8 (H,W,3)."""

    name: str
    image: Image8
    lr: Image8
    hr: Image8
    figures: Figures


def round_trip(network: RescalingNetwork, image: Image8, through: Through | None = None) -> tuple[Image8, Image8]:
    """HR image (H,W,3) uint8 to its 8-bit LR image and its 8-bit reconstruction, of the same size as the input.

    through: the LR image as its reader sees it, where a codec lies between.
    """
    lr = downscaled(network, image)
    seen = lr if through is None else through(lr)
    return lr, upscaled(network, seen, (image.shape[0], image.shape[1]))


def downscaled(network: RescalingNetwork, image: Image8) -> Image8:
    """HR image (H,W,3) uint8 to its 8-bit LR image."""
    device = next(network.parameters()).device
    with torch.inference_mode():
        return to_image(network.downscale(torch.from_numpy(to_tensor(image)).to(device)).cpu().numpy())


def upscaled(network: RescalingNetwork, lr: Image8, size: tuple[int, int]) -> Image8:
    """LR image (h,w,3) uint8 to its 8-bit reconstruction (*size,3)."""
    device = next(network.parameters()).device
    with torch.inference_mode():
        return to_image(network.upscale(torch.from_numpy(to_tensor(lr)).to(device), size=size).cpu().numpy())


def mean(rows: list[Figures]) -> Figures:
    return Figures(*np.mean([astuple(row) for row in rows], axis=0).tolist())


class Validation:
    """A folder of panoramas, read once, with its bicubic figures. Calling it with a network gives the mean Figures.

    through: a codec for all LR images, as `round_trip` takes it.
    """

    def __init__(self, folder: Path, scale: int, through: Through | None = None) -> None:
        self.images = read_folder(folder, 8 * scale, "validation images")
        self.through = through
        bicubic = [(image, self._bicubic(image, scale)) for image in self.images.values()]
        self.bicubic_y = [ws_psnr(luma(restored), luma(image)) for image, restored in bicubic]
        self.bicubic_rgb = [ws_psnr(restored, image) for image, restored in bicubic]

    def _bicubic(self, image: Image8, scale: int) -> Image8:
        if self.through is None:
            return bicubic_round_trip(image, scale)
        height, width = image.shape[:2]
        return resize(self.through(resize(image, (-(-height // scale), -(-width // scale)))), (height, width))

    def __call__(self, network: RescalingNetwork) -> Figures:
        return self.with_sample(network)[0]

    def with_sample(self, network: RescalingNetwork) -> tuple[Figures, Restored]:
        """The mean Figures, and the first panorama, always the same, to look at."""
        panoramas = self.each(network)
        sample = next(panoramas)
        return mean([sample.figures, *(restored.figures for restored in panoramas)]), sample

    def each(self, network: RescalingNetwork) -> Iterator[Restored]:
        """Every panorama through the network, in the order of names."""
        network = network.eval()
        network.freeze_inverses()
        bar = tqdm(self.images.items(), "validate", leave=False, unit="image")
        for (name, image), bicubic_y, bicubic_rgb in zip(bar, self.bicubic_y, self.bicubic_rgb, strict=True):
            lr, hr = round_trip(network, image, self.through)
            y = ws_psnr(luma(hr), luma(image))
            guide = resize(image, (lr.shape[0], lr.shape[1]), "bicubic")
            rgb = ws_psnr(hr, image)
            figures = Figures(y, rgb, bicubic_y, bicubic_rgb, psnr(lr, guide), y - bicubic_y)
            yield Restored(name, image, lr, hr, figures)


def as_dict(figures: Figures) -> dict[str, float]:
    return {field.name: round(asdict(figures)[field.name], 4) for field in fields(Figures)}
