"""Validation of a network for a codec: through files of four qualities, at equal bytes, and with no codec at all."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from dinn360.codec.coders import Coder
from dinn360.evaluation.interpolation import resize
from dinn360.evaluation.metrics import luma, ws_psnr
from dinn360.evaluation.rate_distortion import Curve, Point
from dinn360.evaluation.systems import reference_lr
from dinn360.evaluation.validate import Figures, Restored, Validation, downscaled, likeness, upscaled
from dinn360.networks import RescalingNetwork
from engines.support.arrays import Image8

QUALITIES = (50, 75, 90, 95)
LADDER = (20, 35, 50, 65, 75, 85, 90, 95, 98, 100)  # of the bicubic pair, so that it has files of any size near ours


@dataclass(frozen=True)
class CodecFigures(Figures):
    """Of one panorama or, as means, of several. Those of `Figures` are means over files of the four QUALITIES.

    gain_50 … gain_95: WS-PSNR (Y) over the bicubic pair through the same codec at equal quality, in dB. gain_bytes: at
    equal bytes, the mean over the four. bits: of the four files per HR pixel, the mean. clean_y: WS-PSNR (Y) of the
    reconstruction from the LR image as it was before any codec. dots: what the LR image holds beyond bicubic in luma
    above half of Nyquist in both directions, where it shows as checkerboards: root mean square in 8-bit levels.
    """

    best_by: ClassVar[str] = "gain_bytes"

    gain_50: float
    gain_75: float
    gain_90: float
    gain_95: float
    gain_bytes: float
    bits: float
    clean_y: float
    dots: float


class CodecValidation(Validation):
    """A folder of panoramas, with what the bicubic pair makes of them through a codec.

    coder: the codec. decoder_only: the LR image is the bicubic one.
    """

    figures = CodecFigures

    def __init__(self, folder: Path, scale: int, coder: Coder, decoder_only: bool = False) -> None:
        self.coder, self.decoder_only = coder, decoder_only
        super().__init__(folder, scale)

    def measure_bicubic(self, scale: int) -> None:
        self.pairs: list[Curve] = []
        self.bicubic, self.bicubic_y, self.bicubic_rgb = [], [], []
        for image in self.images.values():
            lr, points = reference_lr(image, scale), {}
            for quality in LADDER:
                seen, size = self.coder.round_trip(lr, quality)
                restored = resize(seen, (image.shape[0], image.shape[1]))
                points[quality] = _point(quality, image, restored, size)
                if quality == QUALITIES[1]:
                    self.bicubic.append(restored)
            self.pairs.append(Curve("bicubic", self.coder.title, tuple(sorted(points.values(), key=lambda p: p.bits))))
            self.bicubic_y.append(float(np.mean([points[q].psnr_y for q in QUALITIES])))
            self.bicubic_rgb.append(float(np.mean([points[q].psnr_rgb for q in QUALITIES])))

    def restored(self, network: RescalingNetwork, number: int, name: str, image: Image8) -> Restored:
        """One panorama; the reconstruction to look at is that of the second quality."""
        size = (image.shape[0], image.shape[1])
        lr = reference_lr(image, network.config.scale) if self.decoder_only else downscaled(network, image)
        lrs = dict.fromkeys(QUALITIES, lr)
        if network.config.knows_file:
            halved = self.coder.halved
            lrs = {q: downscaled(network, image, self.coder.coarseness(q), halved) for q in QUALITIES}
        files = {quality: self.coder.round_trip(lrs[quality], quality) for quality in QUALITIES}
        images = {q: upscaled(network, seen, size, self.coder.coarseness(q)) for q, (seen, _) in files.items()}
        points = [_point(quality, image, images[quality], files[quality][1]) for quality in QUALITIES]
        clean = ws_psnr(luma(upscaled(network, lr, size)), luma(image))
        pair = {point.quality: point.psnr_y for point in self.pairs[number].points}
        y, rgb, bits = (float(np.mean([getattr(p, kind) for p in points])) for kind in ("psnr_y", "psnr_rgb", "bits"))
        bicubic_y, bicubic_rgb = self.bicubic_y[number], self.bicubic_rgb[number]
        figures = CodecFigures(
            ws_psnr_y=y,
            ws_psnr_rgb=rgb,
            bicubic_y=bicubic_y,
            bicubic_rgb=bicubic_rgb,
            lr_psnr=float(np.mean([likeness(each, image) for each in lrs.values()])),
            gain_y=y - bicubic_y,
            **{f"gain_{p.quality}": p.psnr_y - pair[p.quality] for p in points},
            gain_bytes=_at_equal_bytes(points, self.pairs[number]),
            bits=bits,
            clean_y=clean,
            dots=float(np.mean([dots(each, image) for each in lrs.values()])),
        )
        return Restored(name, image, lrs[QUALITIES[1]], images[QUALITIES[1]], self.bicubic[number], figures)


def dots(lr: Image8, image: Image8) -> float:
    """`CodecFigures.dots` of an LR image (h,w,3) of `image`."""
    apart = luma(lr) - luma(resize(image, (lr.shape[0], lr.shape[1])))
    waves = np.abs(np.fft.fft2(apart, norm="ortho")) ** 2
    rows, columns = (np.abs(np.fft.fftfreq(n)) > 0.25 for n in apart.shape)
    return float(np.sqrt((waves * rows[:, None] * columns).sum() / apart.size))


def _point(quality: int, image: Image8, restored: Image8, size: int) -> Point:
    """Of a file of `size` bytes."""
    psnr_y, psnr_rgb = ws_psnr(luma(restored), luma(image)), ws_psnr(restored, image)
    return Point(quality, 8 * size / (image.shape[0] * image.shape[1]), psnr_y, psnr_rgb, None, None)


def _at_equal_bytes(points: list[Point], pair: Curve) -> float:
    """Mean gain in dB; beyond its own files the pair counts as its nearest one (it saturates)."""
    bits, quality = pair.rising()
    anchor = np.interp(np.log([p.bits for p in points]), np.log(bits), quality)
    return float(np.mean([p.psnr_y for p in points] - anchor))
