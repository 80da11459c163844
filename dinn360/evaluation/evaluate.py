"""Every system on every panorama: WS-PSNR and WS-SSIM on Y and RGB, LR likeness, and errors by latitude."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dinn360.evaluation.metrics import latitude_weights, luma, psnr, ssim, ws_psnr, ws_ssim
from dinn360.evaluation.published import SOURCE, published
from dinn360.evaluation.systems import System, reference_lr
from engines.support.arrays import Image8
from engines.support.progress import progress

BANDS = 9  # of 20 degrees of latitude each
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Scores:
    """One system on one panorama.

    psnr_y, ssim_y, psnr_rgb, ssim_rgb: WS-PSNR (dB) and WS-SSIM (0..1) of the 8-bit reconstruction, Y in BT.601.
    lr_psnr, lr_ssim: PSNR (dB) and SSIM of the LR image against anti-aliased bicubic, RGB; None for a resized LR image.
    """

    psnr_y: float
    ssim_y: float
    psnr_rgb: float
    ssim_rgb: float
    lr_psnr: float | None
    lr_ssim: float | None


@dataclass(frozen=True)
class Result:
    """One system on all panoramas. scores: by panorama. band_error: mean squared error of Y per band, north first."""

    name: str
    scores: dict[str, Scores]
    band_error: Floats

    def column(self, name: str) -> Floats | None:
        values = [getattr(score, name) for score in self.scores.values()]
        return None if None in values else np.array(values)

    def band_psnr(self) -> Floats:
        """PSNR (dB) of each band from its mean squared error over all panoramas."""
        return 10 * np.log10(255**2 / np.maximum(self.band_error, 1e-12))

    def to_dict(self) -> dict[str, Any]:
        columns = {field.name: self.column(field.name) for field in fields(Scores)}
        return {
            "mean": {n: None if c is None else float(c.mean()) for n, c in columns.items()},
            "std": {n: None if c is None else float(c.std()) for n, c in columns.items()},
            "panoramas": {n: {f.name: getattr(s, f.name) for f in fields(Scores)} for n, s in self.scores.items()},
            "band_psnr_y": self.band_psnr().tolist(),
        }


def evaluate(systems: Sequence[System], images: dict[str, Image8], scale: int) -> list[Result]:
    """Runs every system on every panorama. One progress bar step a reconstruction."""
    results = []
    with progress(total=len(systems) * len(images), unit="image") as bar:
        for system in systems:
            scores, errors = {}, np.zeros(BANDS)
            for name, image in images.items():
                bar.set_description(f"{system.name}: {name}")
                lr, hr = system(image)
                scores[name] = score(image, lr, hr, scale, system.learned_lr)
                errors += by_latitude((luma(hr) - luma(image)) ** 2)
                bar.update()
            results.append(Result(system.name, scores, errors / len(images)))
    return results


def score(image: Image8, lr: Image8, hr: Image8, scale: int, learned_lr: bool) -> Scores:
    """The figures of one reconstruction; all images uint8 (H,W,3)."""
    y, y_hr = luma(image), luma(hr)
    guide = reference_lr(image, scale)
    return Scores(
        ws_psnr(y_hr, y),
        ws_ssim(y_hr, y),
        ws_psnr(hr, image),
        ws_ssim(hr, image),
        psnr(lr, guide) if learned_lr else None,
        ssim(lr, guide) if learned_lr else None,
    )


def by_latitude(values: Floats, bands: int = BANDS) -> Floats:
    """Mean of values (H,W) in each of `bands` bands of equal latitude, weighted by area: (bands,), north first.

    Every band needs a row: H >= bands.
    """
    height = values.shape[0]
    band = (np.arange(height) * bands) // height
    weights = latitude_weights(height)
    rows = values.mean(axis=1) * weights
    return np.bincount(band, rows, bands) / np.bincount(band, weights, bands)


def high_frequency(image: Image8, scale: int, bands: int = BANDS) -> Floats:
    """Mean squared Y about its block mean by band: what downscaling by `scale` removes (the slides' finding 1)."""
    y = luma(image)
    height, width = (n // scale * scale for n in y.shape)
    blocks = y[:height, :width].reshape(height // scale, scale, width // scale, scale)
    lost = (blocks - blocks.mean(axis=(1, 3), keepdims=True)) ** 2
    return by_latitude(lost.reshape(height, width), bands)


def markdown(results: Sequence[Result], scale: int, test_set: str | None = None) -> str:
    """The table of the slides: mean ± deviation over panoramas, WS-SSIM and SSIM x 100.

    test_set: a name of `published.SETS`, whose printed rows follow, marked as published.
    """
    lines = [
        [f"x{scale}", "WS-PSNR Y", "WS-SSIM Y", "WS-PSNR RGB", "WS-SSIM RGB", "LR PSNR", "LR SSIM"],
        ["---"] * 7,
    ]
    for result in results:
        cells = [result.name]
        for field in fields(Scores):
            values = result.column(field.name)
            factor = 100 if "ssim" in field.name else 1
            cells.append("–" if values is None else f"{factor * values.mean():.2f} ± {factor * values.std():.2f}")
        lines.append(cells)
    for method, row in published(scale, test_set).items() if test_set else ():
        name = f"*published:* {method}"
        lines.append([name, f"{row.psnr} ± {row.psnr_std}", f"{row.ssim} ± {row.ssim_std}", *["–"] * 4])
    text = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    if test_set:
        text += (
            f"\n\n*published:* {test_set} as printed in the {SOURCE}; channel not stated (Y by our inference). "
            f"Comparable only where the panoramas above are those of {test_set}."
        )
    return text


def per_panorama(result: Result, baseline: Result) -> str:
    """One row a panorama: a system, a baseline, and the gain on Y in dB."""
    lines = [["panorama", "WS-PSNR Y", "WS-PSNR RGB", f"{baseline.name} Y", f"{baseline.name} RGB", "gain Y"]]
    lines.append(["---"] * 6)
    table = []
    for name, mine in result.scores.items():
        other = baseline.scores[name]
        table.append([mine.psnr_y, mine.psnr_rgb, other.psnr_y, other.psnr_rgb, mine.psnr_y - other.psnr_y])
        lines.append([name, *(f"{value:.2f}" for value in table[-1])])
    centre, spread = np.mean(table, axis=0), np.std(table, axis=0)
    lines.append(["**mean ± std**", *(f"{m:.2f} ± {s:.2f}" for m, s in zip(centre, spread, strict=True))])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
