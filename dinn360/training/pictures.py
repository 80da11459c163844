"""Pictures of a run: close-ups of one panorama at each validation, and the learning curve."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from dinn360.evaluation.figures import busiest
from dinn360.evaluation.validate import Restored
from engines.support.arrays import Image8
from engines.support.files import atomic_path

SQUARE = 128  # HR pixels a side of a close-up
ZOOM = 3
CAPTION = 16
GAP = 4
SMOOTHED = 100  # points of the loss curve at most, each the mean of its steps


def sample_sheet(sample: Restored, scale: int) -> Image8:
    """The busiest square of the panorama, enlarged by repeating pixels, with captions: the original, the 8-bit LR
    image, the reconstruction, and the bicubic reconstruction. uint8 (H,W,3)."""
    image, figures = sample.image, sample.figures
    size = min(SQUARE, image.shape[0] // 2, image.shape[1])  # `busiest` looks in the middle half of the rows
    top, left = busiest(image, size)
    low = sample.lr.repeat(scale, axis=0).repeat(scale, axis=1)
    shown = {
        f"original, {sample.name}": image,
        f"LR, x{scale} smaller": low,
        f"reconstruction, WS-PSNR Y {figures.ws_psnr_y:.2f} dB": sample.hr,
        f"bicubic, WS-PSNR Y {figures.bicubic_y:.2f} dB": sample.bicubic,
    }
    side = size * ZOOM
    sheet = Image.new("RGB", (len(shown) * (side + GAP) - GAP, CAPTION + side), "white")
    draw = ImageDraw.Draw(sheet)
    for column, (caption, picture) in enumerate(shown.items()):
        square = picture[top : top + size, left : left + size].repeat(ZOOM, axis=0).repeat(ZOOM, axis=1)
        sheet.paste(Image.fromarray(np.ascontiguousarray(square)), (column * (side + GAP), CAPTION))
        draw.text((column * (side + GAP) + 2, 2), caption, fill="black")
    return np.asarray(sheet)


def learning_curve(training: Sequence[dict[str, str]], validation: Sequence[dict[str, str]], path: Path) -> None:
    """The losses on HR and LR images over steps; beside them, where there is a validation set, its WS-PSNR (Y).

    training, validation: rows of train.csv and val.csv, at least one of the former.
    """
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    losses, *quality = figure.subplots(1, 2 if validation else 1, squeeze=False)[0]
    steps = _smooth([float(row["step"]) for row in training])
    for name, title in (("hr", "HR loss of x - x^"), ("lr", "l2(y, y^)")):
        losses.plot(steps, _smooth([float(row[name]) for row in training]), label=title)
    losses.set(ylabel="loss", yscale="log")
    at = [int(row["step"]) for row in validation]
    for panel in quality:
        panel.plot(at, [float(row["ws_psnr_y"]) for row in validation], marker="o", markersize=3, label="the network")
        panel.plot(at, [float(row["bicubic_y"]) for row in validation], color="0.5", linestyle="--", label="bicubic")
        panel.set(ylabel="WS-PSNR Y (dB)")
    for panel in (losses, *quality):
        panel.set(xlabel="step")
        panel.legend(fontsize=8)
        panel.grid(alpha=0.3)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png")


def _smooth(values: Sequence[float]) -> NDArray[np.float64]:
    """Means of at most SMOOTHED equal stretches; steps that were not finite do not count."""
    parts = np.array_split(np.asarray(values), min(SMOOTHED, len(values)))
    finite = [part[np.isfinite(part)] for part in parts]
    return np.array([part.mean() if part.size else np.nan for part in finite])
