"""Pictures of an evaluation: quality and lost detail by latitude, and a grid of close-ups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from dinn360.codec.coders import Coder
from dinn360.evaluation.evaluate import BANDS, Result
from dinn360.evaluation.metrics import luma
from dinn360.evaluation.rate_distortion import DIRECT, LOSSLESS, Curve
from dinn360.evaluation.systems import System, reference_lr
from engines.support.arrays import Image8
from engines.support.files import atomic_path
from engines.support.images import write_png

matplotlib.use("Agg")  # no display is needed

CLOSEUP = 160  # HR pixels a side
CAPTION = 16
LR_CROP, LR_ZOOM = 96, 3  # LR pixels a side of a crop, and how often each is repeated


def latitude_plot(results: Sequence[Result], detail: NDArray[np.float64], path: Path) -> None:
    """Left: high-frequency energy by latitude (the slides' finding 1). Right: PSNR by latitude (finding 2)."""
    edges = np.linspace(90, -90, BANDS + 1)
    latitude = (edges[:-1] + edges[1:]) / 2
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.barh(latitude, detail, height=0.8 * 180 / BANDS, color="0.6")
    left.set(xlabel="energy that downscaling removes (mean squared Y)", ylabel="latitude (degrees)", ylim=(-90, 90))
    for result in results:
        right.plot(latitude, result.band_psnr(), marker="o", markersize=3, label=result.name)
    right.set(xlabel="latitude (degrees)", ylabel="PSNR Y (dB)", xlim=(-90, 90))
    right.legend(fontsize=7)
    right.grid(alpha=0.3)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png")


def busiest(image: Image8, size: int) -> tuple[int, int]:
    """Top left corner of the most detailed square between 45 degrees north and south, on a grid of half squares."""
    y = luma(image)
    step = max(1, size // 2)
    top = min(image.shape[0] // 4, image.shape[0] - size)
    rows = range(top, max(top + 1, 3 * image.shape[0] // 4 - size), step)
    columns = range(0, max(1, image.shape[1] - size), step)
    return max(((r, c) for r in rows for c in columns), key=lambda at: float(np.var(_cut(y, at, size))))


def _cut(image: NDArray, at: tuple[int, int], size: int) -> NDArray:
    return image[at[0] : at[0] + size, at[1] : at[1] + size]


def closeups(systems: Sequence[System], images: dict[str, Image8], path: Path, rows: int = 4) -> None:
    """A grid of close-ups at the busiest place of the first `rows` panoramas: the original, then each system."""
    size = min(CLOSEUP, *(min(image.shape[:2]) for image in images.values()))
    chosen = list(images.values())[:rows]
    names = ["original", *(system.name for system in systems)]
    sheet = Image.new("RGB", (len(names) * (size + 4), CAPTION + len(chosen) * (size + 4)), "white")
    draw = ImageDraw.Draw(sheet)
    for column, name in enumerate(names):
        draw.text((column * (size + 4) + 2, 2), name[: size // 6], fill="black")
    for row, image in enumerate(chosen):
        at = busiest(image, size)
        for column, shown in enumerate([image, *(system(image)[1] for system in systems)]):
            place = (column * (size + 4), CAPTION + row * (size + 4))
            sheet.paste(Image.fromarray(np.ascontiguousarray(_cut(shown, at, size))), place)
    write_png(path, np.asarray(sheet))


def lr_sheet(
    lrs: Mapping[str, Image8], images: Mapping[str, Image8], scale: int, coder: Coder, path: Path, quality: int = 75
) -> None:
    """LR images to look at, at their busiest places: bicubic, ours, ours as its reader sees it, and what ours has more.

    lrs: LR images by the names of their `images`. The last column is the difference to bicubic, eight times, around
    grey: dots, halos and false colours show there first.
    """
    size = min(LR_CROP, *(min(lr.shape[:2]) for lr in lrs.values()))
    side = size * LR_ZOOM
    titles = ("bicubic", "LR image", f"as {coder.title}, quality {quality}", "LR image less bicubic, x8")
    sheet = Image.new("RGB", (len(titles) * (side + 4), CAPTION + len(lrs) * (side + 4)), "white")
    for column, title in enumerate(titles):
        ImageDraw.Draw(sheet).text((column * (side + 4) + 2, 2), title[: side // 6], fill="black")
    for row, (name, lr) in enumerate(lrs.items()):
        guide, seen = reference_lr(images[name], scale), coder.round_trip(lr, quality)[0]
        apart = np.clip(128 + 8 * (lr.astype(int) - guide), 0, 255).astype(np.uint8)
        at = busiest(lr, size)
        for column, shown in enumerate((guide, lr, seen, apart)):
            enlarged = _cut(shown, at, size).repeat(LR_ZOOM, axis=0).repeat(LR_ZOOM, axis=1)
            sheet.paste(Image.fromarray(enlarged), (column * (side + 4), CAPTION + row * (side + 4)))
    write_png(path, np.asarray(sheet))


def rate_distortion_plot(curves: Sequence[Curve], path: Path) -> None:
    """WS-PSNR Y over bits per HR pixel, a panel a codec, a line a system; lossless LR files as stars.

    Where LR pictures and the full picture are compared, a panel shows the range of the former.
    """
    codecs = [codec for codec in dict.fromkeys(curve.codec for curve in curves) if codec != LOSSLESS]
    columns = min(3, len(codecs))
    rows = -(-len(codecs) // columns)
    figure = Figure(figsize=(4.6 * columns, 3.4 * rows + 0.6), layout="constrained")
    names = list(dict.fromkeys(curve.system for curve in curves))
    panels = figure.subplots(rows, columns, squeeze=False).flat
    for panel in panels[len(codecs) :]:
        panel.set_axis_off()
    labelled: dict[str, Any] = {}
    for panel, codec in zip(panels, codecs, strict=False):
        reduced = []  # decibels of LR pictures
        for curve in curves:
            if curve.codec in (codec, LOSSLESS):
                colour = f"C{names.index(curve.system)}"
                bits, quality = [p.bits for p in curve.points], [p.psnr_y for p in curve.points]
                full = curve.system.startswith(DIRECT)
                label, style = curve.system, "s--" if full else "o-"
                if curve.codec == LOSSLESS:
                    label, style = LOSSLESS, "*"
                lines = panel.plot(bits, quality, style, color="0.4" if full else colour, markersize=4, linewidth=1.2)
                labelled.setdefault(label, lines[0])
                reduced += [] if full else quality
        panel.set(title=codec, xscale="log", xlabel="bits per HR pixel", ylabel="WS-PSNR Y (dB)")
        if reduced:
            margin = 0.05 * (max(reduced) - min(reduced)) + 0.1
            panel.set_ylim(min(reduced) - margin, max(reduced) + margin)
        panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        panel.xaxis.set_major_formatter("{x:g}")
        panel.xaxis.set_minor_formatter(NullFormatter())
        panel.grid(alpha=0.3, which="both")
    figure.legend(labelled.values(), labelled.keys(), loc="outside lower center", ncols=4, fontsize=8)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png")
