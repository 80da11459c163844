"""Validation: the whole rescaling chain on whole panoramas, through an 8-bit LR image, beside bicubic."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from dinn360.baselines import bicubic_round_trip, resize
from dinn360.data import read_folder
from dinn360.metrics import luma, psnr, ws_psnr
from dinn360.model import DINN360
from engines.images import to_image, to_tensor

Image = NDArray[np.uint8]


def round_trip(network: DINN360, image: Image) -> tuple[Image, Image]:
    """HR image (H,W,3) uint8 to its 8-bit LR image and its 8-bit reconstruction, of the same size as the input."""
    with torch.inference_mode():
        lr = to_image(network.downscale(torch.from_numpy(to_tensor(image))).numpy())
        x = network.upscale(torch.from_numpy(to_tensor(lr)), size=(image.shape[0], image.shape[1]))
    return lr, to_image(x.numpy())


class Validation:
    """Mean figures over a folder: ws_psnr_y, ws_psnr_rgb of the reconstruction, lr_psnr of the LR image against
    anti-aliased bicubic, gain_y over the bicubic round trip (all dB)."""

    def __init__(self, folder: Path, scale: int) -> None:
        self.scale = scale
        self.images = read_folder(folder, 8 * scale, "validation images")
        self.bicubic_y = [ws_psnr(luma(bicubic_round_trip(image, scale)), luma(image)) for image in self.images]

    def __call__(self, network: DINN360) -> dict[str, float]:
        network = network.eval()
        network.freeze_inverses()
        rows = []
        for image, bicubic_y in zip(tqdm(self.images, "validate", leave=False), self.bicubic_y, strict=True):
            lr, hr = round_trip(network, image)
            y = ws_psnr(luma(hr), luma(image))
            guide = resize(image, (lr.shape[0], lr.shape[1]), "bicubic")
            rows.append([y, ws_psnr(hr, image), psnr(lr, guide), y - bicubic_y])
        mean = np.mean(rows, axis=0)
        return dict(zip(["ws_psnr_y", "ws_psnr_rgb", "lr_psnr", "gain_y"], map(float, mean), strict=True))
