"""The main job on one panorama: export, downscale, upscale, compare, and show."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from dinn360.baselines import bicubic_round_trip, resize
from dinn360.metrics import luma, psnr, ws_psnr, ws_ssim
from engines.files import make_folder
from engines.images import Image8, read_panorama, write_png
from engines.rescale import downscale_image, scale_of, upscale_image
from engines.session import open_session
from export.lowering import Lowering
from export.onnx import export_checkpoint
from export.parity import Row, aligned, compare


@dataclass(frozen=True)
class Demo:
    """What the demo found and made."""

    parity: list[Row]
    quality: str
    files: dict[str, Path]


def run(ckpt: Path, image_path: Path, out: Path, lowering: Lowering = "standard") -> Demo:
    """Everything of `make demo`; pictures and graphs go to `out`."""
    image = read_panorama(image_path)
    make_folder(out)
    exported = export_checkpoint(ckpt, out, lowering)
    with open_session(exported.down) as down, open_session(exported.up) as up:
        scale = scale_of(down)
        lr = downscale_image(down, image)
        hr = upscale_image(up, lr, (image.shape[0], image.shape[1]))
    bicubic = bicubic_round_trip(image, scale)
    files = {
        "downscale graph": exported.down,
        "upscale graph": exported.up,
        "LR image": out / "lr.png",
        "reconstruction": out / "reconstruction.png",
        "error picture": out / "error.png",
        "close-up": out / "closeup.png",
    }
    write_png(files["LR image"], lr)
    write_png(files["reconstruction"], hr)
    write_png(files["error picture"], error_picture(image, {"bicubic": bicubic, "DINN360": hr}))
    write_png(files["close-up"], closeup(image, {"original": image, "bicubic": bicubic, "DINN360": hr}))
    return Demo(compare(ckpt, out, image), quality_table(image, lr, hr, bicubic, scale), files)


def quality_table(image: Image8, lr: Image8, hr: Image8, bicubic: Image8, scale: int) -> str:
    """Reconstructions against the original, and the LR image against anti-aliased bicubic."""
    guide = resize(image, (lr.shape[0], lr.shape[1]), "bicubic")
    lines = [["reconstruction", "WS-PSNR Y", "WS-PSNR RGB", "WS-SSIM Y", "LR against bicubic"]]
    for name, restored, small in ((f"bicubic x{scale}", bicubic, None), (f"DINN360 x{scale}", hr, lr)):
        lines.append(
            [
                name,
                f"{ws_psnr(luma(restored), luma(image)):.2f} dB",
                f"{ws_psnr(restored, image):.2f} dB",
                f"{ws_ssim(luma(restored), luma(image)):.4f}",
                "-" if small is None else f"{psnr(small, guide):.2f} dB",
            ]
        )
    return aligned(lines)


def error_picture(image: Image8, restored: dict[str, Image8]) -> Image8:
    """Absolute luma error of each reconstruction, one above the other, black 0 to white 32 levels and more."""
    parts = []
    for name, other in restored.items():
        error = np.abs(luma(other) - luma(image)) / 32
        parts.append(_titled(_heat(np.clip(error, 0, 1)), f"|error| {name}: black 0, white >= 32 levels"))
    return np.concatenate(parts, axis=0)


def _heat(x: np.ndarray) -> Image8:
    """Values in [0,1] as black, purple, orange, white."""
    stops = np.array([[0, 0, 4], [87, 16, 110], [188, 55, 84], [249, 142, 9], [252, 255, 240]], dtype=float)
    at = np.linspace(0, 1, len(stops))
    channels = [np.interp(x, at, stops[:, c]) for c in range(3)]
    return np.stack(channels, axis=-1).round().astype(np.uint8)


def closeup(image: Image8, pictures: dict[str, Image8], size: int = 128, zoom: int = 3) -> Image8:
    """The most detailed square of the original, side by side in each picture, enlarged without smoothing."""
    size = min(size, image.shape[0], image.shape[1])
    top, left = _busiest(luma(image), size)
    parts = []
    for name, picture in pictures.items():
        square = picture[top : top + size, left : left + size].repeat(zoom, axis=0).repeat(zoom, axis=1)
        parts.append(_titled(square, name))
    return np.concatenate(parts, axis=1)


def _busiest(y: np.ndarray, size: int) -> tuple[int, int]:
    """Top left corner of the square with the largest mean gradient, weighted by its area on the sphere."""
    steps = np.abs(np.diff(y, axis=0))[:, :-1] + np.abs(np.diff(y, axis=1))[:-1]
    rows = np.cos((np.arange(steps.shape[0]) + 0.5) / steps.shape[0] * np.pi - np.pi / 2)
    total = np.pad(np.cumsum(np.cumsum(steps * rows[:, None], axis=0), axis=1), ((1, 0), (1, 0)))
    span = size - 1
    sums = total[span:, span:] - total[:-span, span:] - total[span:, :-span] + total[:-span, :-span]
    top, left = np.unravel_index(int(sums.argmax()), sums.shape)
    return int(top), int(left)


def _titled(picture: Image8, title: str) -> Image8:
    canvas = Image.new("RGB", (picture.shape[1], picture.shape[0] + 16), (24, 24, 24))
    canvas.paste(Image.fromarray(picture), (0, 16))
    ImageDraw.Draw(canvas).text((4, 2), title, fill=(255, 255, 255))
    return np.asarray(canvas)
