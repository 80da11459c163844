"""Quality against bytes: rescalers whose LR image goes through a codec, beside the full picture through the same one.

Bits are those of the whole file per pixel of the HR panorama. Gains are told at equal bytes: at equal quality settings
half of a gain may be paid in bytes.
"""

from __future__ import annotations

import importlib.util
import io
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dinn360.codec.coders import Coder
from dinn360.evaluation.metrics import luma, ws_psnr, ws_ssim
from dinn360.evaluation.systems import File, System
from engines.support.arrays import Image8
from engines.support.errors import UserError
from engines.support.progress import progress

DIRECT = "full picture"
LOSSLESS = "lossless WebP"
QUALITIES = (30, 50, 75, 90, 95)
_LOWER = (5, 10, 20)  # further qualities of the full picture, whose files are several times as large at any of them
_PLACES = 200  # between the smallest and the largest file, at which systems are compared
_EQUAL = 0.02  # dB within which two systems count as equal: files of the same quality differ by more

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Point:
    """Means over the panoramas. bits: per HR pixel. psnr_*: WS-PSNR in dB; ssim_*: WS-SSIM, None when left out."""

    quality: int
    bits: float
    psnr_y: float
    psnr_rgb: float
    ssim_y: float | None
    ssim_rgb: float | None


@dataclass(frozen=True)
class Curve:
    """A system through a codec, points in the order of bits. codec: the coder's title, or LOSSLESS with one point."""

    system: str
    codec: str
    points: tuple[Point, ...]

    def rising(self) -> tuple[Floats, Floats]:
        """Bits and WS-PSNR of Y of the points that are better than all smaller ones, as interpolation needs it."""
        kept: list[Point] = []
        for point in self.points:
            if not kept or (point.psnr_y > kept[-1].psnr_y and point.bits > kept[-1].bits):
                kept.append(point)
        return np.array([p.bits for p in kept]), np.array([p.psnr_y for p in kept])

    def at(self, bits: Floats) -> Floats:
        """WS-PSNR of Y at these bits per pixel, linear in log(bits); NaN outside the measured range."""
        x, y = self.rising()
        return np.asarray(np.interp(np.log(bits), np.log(x), y, left=np.nan, right=np.nan), np.float64)


class Direct(System):
    """No rescaling: what a codec alone makes of the panorama."""

    name, learned_lr = DIRECT, False

    def shrink(self, image: Image8, file: File = None) -> Image8:
        return image

    def grow(self, lr: Image8, size: tuple[int, int], coarseness: float = 0.0) -> Image8:
        return lr


def measure(
    systems: Sequence[System],
    images: Mapping[str, Image8],
    coders: Sequence[Coder],
    qualities: Sequence[int] = QUALITIES,
    ssim: bool = True,
    direct: bool = True,
    lossless: bool = True,
) -> list[Curve]:
    """The full picture and every system through every coder; learned LR images also through lossless WebP.

    images: (H,W,3) uint8 by name. ssim: also WS-SSIM, which takes as long as all the rest. direct, lossless: leave the
    full picture or the lossless files out where they are False.
    """
    everyone = [*([Direct()] if direct else []), *systems]
    ladders = sum(len(_ladder(system, qualities)) for system in everyone)
    files = len(images) * (len(coders) * ladders + lossless * sum(s.learned_lr for s in systems))
    curves = []
    with progress(total=files, unit="file") as bar:
        for system in everyone:
            lrs = {name: system.shrink(image) for name, image in images.items()}
            if system.learned_lr and lossless:
                rows = [
                    _scores(system, image, lr, _webp_bytes(lr), ssim)
                    for image, lr in zip(images.values(), lrs.values(), strict=True)
                ]
                curves.append(Curve(system.name, LOSSLESS, (_mean(100, rows),)))
                bar.update(len(images))
            for coder in coders:
                bar.set_description(f"{system.name}: {coder.title}")
                points = []
                for quality in _ladder(system, qualities):
                    rows = []
                    for name, image in images.items():
                        lr = system.shrink(image, (coder, quality)) if system.knows_file else lrs[name]
                        file = coder.round_trip(lr, quality)
                        rows.append(_scores(system, image, *file, ssim, coder.coarseness(quality)))
                        bar.update()
                    points.append(_mean(quality, rows))
                curves.append(Curve(system.name, coder.title, tuple(sorted(points, key=lambda p: p.bits))))
    return curves


def _ladder(system: System, qualities: Sequence[int]) -> list[int]:
    """The qualities that a system is measured at."""
    return sorted({*qualities, *(_LOWER if isinstance(system, Direct) else ())})


def _scores(system: System, image: Image8, lr: Image8, size: int, ssim: bool, coarseness: float = 0.0) -> list[float]:
    """Of one file of `size` bytes, which its reader sees as `lr`: the numbers of a Point after its quality."""
    hr = system.grow(lr, (image.shape[0], image.shape[1]), coarseness)
    y, y_hr = luma(image), luma(hr)
    similar = [ws_ssim(y_hr, y), ws_ssim(hr, image)] if ssim else []
    return [8 * size / y.size, ws_psnr(y_hr, y), ws_psnr(hr, image), *similar]


def _mean(quality: int, rows: list[list[float]]) -> Point:
    bits, psnr_y, psnr_rgb, *similar = np.mean(rows, axis=0).tolist()
    return Point(quality, bits, psnr_y, psnr_rgb, *(similar or (None, None)))


def _webp_bytes(image: Image8) -> int:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "WEBP", lossless=True, method=4)
    return file.tell()


@dataclass(frozen=True)
class Gain:
    """A system against an anchor through the same codec, over the range that both cover; None: they share none.

    rate: BD-rate, percent of bytes that the system takes more at equal WS-PSNR Y (negative: fewer).
    psnr: BD-PSNR, dB of WS-PSNR Y that it is better at equal bytes. files: the same at the bytes of the system's own
    files, one for each quality, the anchor's quality interpolated; the mean of those that the anchor covers.
    """

    system: str
    codec: str
    anchor: str
    rate: float | None
    psnr: float | None
    files: float | None


def check_packages() -> None:
    """UserError where the package that `gains` needs is missing: to be told before anything is measured."""
    if importlib.util.find_spec("bjontegaard") is None:
        raise UserError("BD-rates need the package bjontegaard: pip install 'dinn360[codec]'")


def gains(curves: Sequence[Curve], anchors: Sequence[str]) -> list[Gain]:
    """Every system against each of `anchors` (names of systems), codec by codec.

    Raises:
        UserError: the package bjontegaard is missing.
    """
    check_packages()
    import bjontegaard

    def delta(function: Any, anchor: Curve, curve: Curve) -> float | None:
        (x, y), (x_anchor, y_anchor) = curve.rising(), anchor.rising()
        if min(len(x), len(x_anchor)) < 3:
            return None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # curves that do not meet give NaN
            value = function(x_anchor, y_anchor, x, y, method="pchip", require_matching_points=False, min_overlap=0)
        return float(value) if np.isfinite(value) else None

    found = []
    for name in anchors:
        for anchor in curves:
            if anchor.system != name or anchor.codec == LOSSLESS:
                continue
            for curve in curves:
                if curve.codec == anchor.codec and curve.system != name:
                    rate, psnr = (delta(f, anchor, curve) for f in (bjontegaard.bd_rate, bjontegaard.bd_psnr))
                    found.append(Gain(curve.system, curve.codec, name, rate, psnr, _at_files(curve, anchor)))
    return found


def _at_files(curve: Curve, anchor: Curve) -> float | None:
    over = np.array([p.psnr_y for p in curve.points]) - anchor.at(np.array([p.bits for p in curve.points]))
    return float(np.nanmean(over)) if np.isfinite(over).any() else None


def winners(curves: Sequence[Curve], codec: str) -> list[tuple[float, float, str]]:
    """Who is best at equal bytes through a codec: (from, to, system) in bits per HR pixel.

    Told where two systems at least have files of that size; alone in a range nobody wins.
    Where the best cannot be told from the full picture (0.02 dB) the full picture has it: it is the simpler one.
    """
    chosen = [curve for curve in curves if curve.codec == codec]
    every = np.concatenate([curve.rising()[0] for curve in chosen])
    bits = np.geomspace(every.min(), every.max(), _PLACES)
    table = np.stack([curve.at(bits) for curve in chosen])
    preference = np.array([_EQUAL if curve.system == DIRECT else 0 for curve in chosen])
    best = np.argmax(np.nan_to_num(table + preference[:, None], nan=-np.inf), axis=0)
    best[np.isfinite(table).sum(axis=0) < 2] = -1
    changes = [0, *(np.flatnonzero(np.diff(best)) + 1), _PLACES]
    return [
        (float(bits[a]), float(bits[min(b, _PLACES - 1)]), chosen[best[a]].system)
        for a, b in zip(changes[:-1], changes[1:], strict=True)
        if best[a] >= 0
    ]


def in_words(curves: Sequence[Curve]) -> list[str]:
    """A sentence for each codec that two systems went through: in which range of bytes which of them is best."""
    sentences = []
    for codec in dict.fromkeys(curve.codec for curve in curves if curve.codec != LOSSLESS):
        ranges = winners(curves, codec)
        told = [f"{name} from {low:.3g} to {high:.3g}" for low, high, name in ranges]
        if told:
            sentences.append(f"{codec}, bits per HR pixel: {'; '.join(told)}.")
    return sentences


def to_dict(curves: Sequence[Curve], found: Sequence[Gain], panoramas: Sequence[str]) -> dict[str, Any]:
    """Everything in JSON's types."""
    return {
        "panoramas": list(panoramas),
        "curves": [asdict(curve) for curve in curves],
        "gains": [asdict(gain) for gain in found],
        "words": in_words(curves),
    }


def markdown(curves: Sequence[Curve], found: Sequence[Gain]) -> str:
    """Both tables and the sentences."""
    lines = [
        "| system | codec | quality | bits/HR pixel | WS-PSNR Y | WS-PSNR RGB | WS-SSIM Y | WS-SSIM RGB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for curve in curves:
        for p in curve.points:
            similar = (("–" if s is None else f"{100 * s:.2f}") for s in (p.ssim_y, p.ssim_rgb))
            quality = "–" if curve.codec == LOSSLESS else str(p.quality)
            figures = (f"{p.bits:.3f}", f"{p.psnr_y:.2f}", f"{p.psnr_rgb:.2f}", *similar)
            lines.append(f"| {' | '.join([curve.system, curve.codec, quality, *figures])} |")
    if found:
        lines += ["", "| system | codec | against | BD-rate | BD-PSNR Y | at its files |", "|---|---|---|---|---|---|"]
    for gain in found:
        rate = "–" if gain.rate is None else f"{gain.rate:+.1f} %"
        psnr, files = ("–" if value is None else f"{value:+.2f} dB" for value in (gain.psnr, gain.files))
        lines.append(f"| {gain.system} | {gain.codec} | {gain.anchor} | {rate} | {psnr} | {files} |")
    return "\n".join([*lines, "", *in_words(curves)])
