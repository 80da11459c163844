"""The plainest question about bytes: is the full picture in an ordinary codec better at those of a lossless LR file?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dinn360.evaluation.rate_distortion import DIRECT, LOSSLESS, Curve


@dataclass(frozen=True)
class Full:
    """The full picture through a codec at a given number of bytes.

    psnr_y: WS-PSNR of Y in dB, between two measured qualities linear in log(bytes); None: all files are larger.
    share: of those bytes that it takes: less than 1 where even its largest measured file is smaller.
    """

    codec: str
    psnr_y: float | None
    share: float


@dataclass(frozen=True)
class Comparison:
    """A system whose LR image is a lossless file, and the full picture at its bytes. bits: per HR pixel."""

    system: str
    bits: float
    psnr_y: float
    full: tuple[Full, ...]


def compare(curves: Sequence[Curve]) -> list[Comparison]:
    """Every system with a lossless LR file against the full picture in every codec that was measured."""
    direct = [curve for curve in curves if curve.system == DIRECT]
    found = []
    for curve in curves:
        if curve.codec == LOSSLESS:
            (point,) = curve.points
            full = tuple(_full(other, point.bits) for other in direct)
            found.append(Comparison(curve.system, point.bits, point.psnr_y, full))
    return found


def _full(curve: Curve, bits: float) -> Full:
    x, y = curve.rising()
    if bits > x[-1]:
        return Full(curve.codec, float(y[-1]), float(x[-1] / bits))
    value = float(curve.at(np.array([bits]))[0])
    return Full(curve.codec, None if np.isnan(value) else value, 1.0)


def markdown(found: Sequence[Comparison], pixels: float) -> str:
    """A table with one row a system, and a sentence for each. pixels: of a panorama, for the size of a file."""
    if not found:
        return "No system here has an LR picture of its own: nothing to compare at the bytes of a lossless file."
    codecs = [full.codec for full in found[0].full]
    heads = ["WS-PSNR Y at the bytes of the LR file", "bits/HR pixel", "kB a panorama", "this system"]
    lines = [heads + [f"full picture, {codec}" for codec in codecs]]
    lines += [["---"] * len(lines[0])]
    for one in found:
        size = one.bits * pixels / 8e3
        lines.append([f"{one.system}, {LOSSLESS}", f"{one.bits:.3f}", f"{size:.0f}", f"{one.psnr_y:.2f}"])
        lines[-1] += map(_cell, one.full)
    return "\n".join(["| " + " | ".join(line) + " |" for line in lines] + ["", *map(_sentence, found)])


def _cell(full: Full) -> str:
    if full.psnr_y is None:
        return "larger"
    return f"{full.psnr_y:.2f}" if full.share == 1 else f"{full.psnr_y:.2f} at {full.share:.0%} of them"


def _sentence(one: Comparison) -> str:
    better = [full.codec for full in one.full if full.psnr_y is not None and full.psnr_y > one.psnr_y]
    if not better:
        return f"{one.system}: at the bytes of its lossless LR file no codec here is better with the full picture."
    names = ", ".join(better)
    return f"{one.system}: at the bytes of its lossless LR file the full picture is better as {names}."
