"""What the released checkpoints make of a piece of a panorama, pinned: tests/figures holds LR images and decibels.

python tests/golden.py writes it anew, for new checkpoints. A change of the code must not need that.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from dinn360.checkpoint import load_checkpoint
from dinn360.evaluation.metrics import luma, ws_psnr
from engines.support.arrays import Image8, to_image, to_tensor
from engines.support.files import sha256_of
from engines.support.images import read_panorama

ROOT = Path(__file__).parents[1]
FOLDER = Path(__file__).parent / "figures"
FIGURES = FOLDER / "figures.json"
NAMES = ("x2", "x4", "x8")


def panorama() -> Image8:
    """uint8 (128,256,3): a busy piece of a picture of assets/, taken for a panorama with its own seam and poles."""
    return np.ascontiguousarray(read_panorama(ROOT / "assets" / "courtyard.png")[192:320, 300:556])


def decibels(hr: Image8) -> float:
    """WS-PSNR (luma) of a reconstruction of `panorama`."""
    return ws_psnr(luma(hr), luma(panorama()))


def lr_image(name: str) -> Image8:
    """The pinned LR image of a checkpoint."""
    return np.asarray(Image.open(FOLDER / f"{name}.png"))


def in_torch(name: str) -> tuple[Image8, float]:
    """The LR image, and the decibels of what is made of the LR image after 8 bits."""
    network = load_checkpoint(ROOT / "checkpoints" / f"{name}.pth").build()
    with torch.inference_mode():
        lr = to_image(network.downscale(torch.from_numpy(to_tensor(panorama()))).numpy())
        return lr, decibels(to_image(network.upscale(torch.from_numpy(to_tensor(lr))).clamp(0, 1).numpy()))


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    figures = {}
    for name in NAMES:
        lr, quality = in_torch(name)
        Image.fromarray(lr).save(FOLDER / f"{name}.png", optimize=True)
        digest = sha256_of(ROOT / "checkpoints" / f"{name}.pth")
        figures[name] = {"checkpoint_sha256": digest, "ws_psnr_y": round(quality, 4)}
    FIGURES.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
