"""Validation: the whole rescaling chain on whole panoramas, through an 8-bit LR image, beside bicubic."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, astuple, dataclass, replace
from pathlib import Path
from typing import ClassVar, TypeVar

import numpy as np
import torch

from dinn360.data.crops import read_folder
from dinn360.evaluation.interpolation import bicubic_round_trip, resize
from dinn360.evaluation.metrics import luma, psnr, ws_psnr
from dinn360.networks import RescalingNetwork
from dinn360.sphere import PANORAMA
from engines.support.arrays import Image8, to_image, to_tensor
from engines.support.progress import progress


@dataclass(frozen=True)
class Figures:
    """Of one panorama or, as means, of several; all in dB.

    ws_psnr_y, ws_psnr_rgb: 8-bit reconstruction against the original. bicubic_y, bicubic_rgb: the same for
    anti-aliased bicubic down, 8-bit rounding, bicubic up. lr_psnr: the LR image against anti-aliased bicubic.
    gain_y: ws_psnr_y - bicubic_y. best_by: the figure by which a run's best checkpoint is chosen.
    """

    best_by: ClassVar[str] = "ws_psnr_y"

    ws_psnr_y: float
    ws_psnr_rgb: float
    bicubic_y: float
    bicubic_rgb: float
    lr_psnr: float
    gain_y: float


@dataclass(frozen=True)
class Restored:
    """One panorama with what the network made of it, and the bicubic pair; images are uint8 (H,W,3)."""

    name: str
    image: Image8
    lr: Image8
    hr: Image8
    bicubic: Image8
    figures: Figures


def round_trip(network: RescalingNetwork, image: Image8) -> tuple[Image8, Image8]:
    """HR image (H,W,3) uint8 to its 8-bit LR image and its 8-bit reconstruction, of the same size as the input."""
    lr = downscaled(network, image)
    return lr, upscaled(network, lr, (image.shape[0], image.shape[1]))


def downscaled(network: RescalingNetwork, image: Image8, coarseness: float = 0.0, halved: bool = False) -> Image8:
    """HR image (H,W,3) uint8 to its 8-bit LR image.

    coarseness, halved: of the file that it is going to be, for an encoder that asks, as `Coder` has them.
    """
    device = next(network.parameters()).device
    told = torch.tensor([[coarseness], [float(halved)]], device=device)
    frame = replace(PANORAMA, coarseness=told[0], halved=told[1])
    with torch.inference_mode():
        return to_image(network.downscale(torch.from_numpy(to_tensor(image)).to(device), frame).cpu().numpy())


def upscaled(network: RescalingNetwork, lr: Image8, size: tuple[int, int], coarseness: float = 0.0) -> Image8:
    """LR image (h,w,3) uint8 to its 8-bit reconstruction (*size,3). coarseness: of its file (`Coder.coarseness`)."""
    device = next(network.parameters()).device
    frame = replace(PANORAMA, coarseness=torch.tensor([coarseness], device=device))
    with torch.inference_mode():
        x = network.upscale(torch.from_numpy(to_tensor(lr)).to(device), size=size, frame=frame)
        return to_image(x.cpu().numpy())


AnyFigures = TypeVar("AnyFigures", bound=Figures)


def mean(rows: list[AnyFigures]) -> AnyFigures:
    return type(rows[0])(*np.mean([astuple(row) for row in rows], axis=0).tolist())


class Validation:
    """A folder of panoramas, read once, with its bicubic figures. Calling it with a network gives the mean Figures."""

    figures: type[Figures] = Figures  # what it measures

    def __init__(self, folder: Path, scale: int) -> None:
        self.images = read_folder(folder, 8 * scale, "validation images")
        self.measure_bicubic(scale)

    def measure_bicubic(self, scale: int) -> None:
        """The pair that the network is compared with and its figures, panorama by panorama."""
        self.bicubic = [bicubic_round_trip(image, scale) for image in self.images.values()]
        pairs = list(zip(self.bicubic, self.images.values(), strict=True))
        self.bicubic_y = [ws_psnr(luma(restored), luma(image)) for restored, image in pairs]
        self.bicubic_rgb = [ws_psnr(restored, image) for restored, image in pairs]

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
        bar = progress(self.images.items(), desc="validate", unit="image")
        for number, (name, image) in enumerate(bar):
            yield self.restored(network, number, name, image)

    def restored(self, network: RescalingNetwork, number: int, name: str, image: Image8) -> Restored:
        """One panorama, the `number`-th."""
        lr, hr = round_trip(network, image)
        y, rgb = ws_psnr(luma(hr), luma(image)), ws_psnr(hr, image)
        bicubic_y, bicubic_rgb = self.bicubic_y[number], self.bicubic_rgb[number]
        figures = Figures(y, rgb, bicubic_y, bicubic_rgb, likeness(lr, image), y - bicubic_y)
        return Restored(name, image, lr, hr, self.bicubic[number], figures)


def likeness(lr: Image8, image: Image8) -> float:
    """PSNR (dB) of an LR image against the anti-aliased bicubic reduction of its HR image."""
    return psnr(lr, resize(image, (lr.shape[0], lr.shape[1]), "bicubic"))


def as_dict(figures: Figures) -> dict[str, float]:
    return {name: round(value, 4) for name, value in asdict(figures).items()}
