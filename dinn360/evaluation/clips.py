"""Clips with a moving camera, made from a panorama, through video codecs: bytes, quality and flicker.

Hidden detail that a codec damages differently from frame to frame would flicker where a single picture looks well.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from dinn360.codec.coders import VIDEO, Coder, decode_frames, encode_frames
from dinn360.evaluation.metrics import latitude_weights, luma, ws_psnr, ws_ssim
from dinn360.evaluation.rate_distortion import Curve, Direct, Point
from dinn360.evaluation.systems import System
from dinn360.sphere import wrap_columns
from engines.support.arrays import Image8
from engines.support.errors import UserError
from engines.support.progress import progress

_YAW, _PITCH = 0.8, 2.0  # degrees a frame, and of nodding to each side
_NOD = 40  # frames of a nod


def turning(image: Image8, frames: int) -> list[Image8]:
    """A camera that turns and nods: `image` (H,W,3) on the sphere, rendered anew for every frame, bicubic."""
    return [turned(image, _YAW * n, _PITCH * math.sin(2 * math.pi * n / _NOD)) for n in range(frames)]


def turned(image: Image8, yaw: float, pitch: float) -> Image8:
    """The panorama seen by a camera turned by yaw to the east and pitch upwards, in degrees."""
    height, width = image.shape[:2]
    latitude = (0.5 - (torch.arange(height, dtype=torch.float64) + 0.5) / height)[:, None] * math.pi
    longitude = ((torch.arange(width, dtype=torch.float64) + 0.5) / width - 0.5)[None] * 2 * math.pi
    x, z = latitude.cos() * longitude.cos(), latitude.sin().expand(height, width)
    y = latitude.cos() * longitude.sin()
    tilt = math.radians(pitch)
    ahead, up = math.cos(tilt) * x - math.sin(tilt) * z, math.sin(tilt) * x + math.cos(tilt) * z
    column = (torch.atan2(y, ahead) / (2 * math.pi) + 0.5 + yaw / 360) % 1 * width
    row = (0.5 - torch.asin(up.clamp(-1, 1)) / math.pi) * height
    margin = 4
    pixels = wrap_columns(torch.from_numpy(image.astype(np.float64)).permute(2, 0, 1)[None], margin)
    grid = torch.stack([2 * (column + margin) / (width + 2 * margin) - 1, 2 * row / height - 1], dim=-1)[None]
    sampled = F.grid_sample(pixels, grid, mode="bicubic", padding_mode="border", align_corners=False)
    return np.ascontiguousarray(sampled[0].permute(1, 2, 0).round().clamp(0, 255).to(torch.uint8).numpy())


@dataclass(frozen=True)
class ClipPoint:
    """One clip. point: as of pictures, means over frames. flicker: see `flicker`."""

    point: Point
    flicker: float


def flicker(frames: Sequence[Image8], restored: Sequence[Image8]) -> float:
    """Root mean square, in levels of Y, of how the error changes from frame to frame, weighted by area on the sphere.

    A restoration that errs the same in every frame has none.
    """
    errors = [luma(b) - luma(a) for a, b in zip(frames, restored, strict=True)]
    weights = latitude_weights(frames[0].shape[0])
    squares = [np.average(np.square(b - a).mean(1), weights=weights) for a, b in zip(errors, errors[1:], strict=False)]
    return float(np.sqrt(np.mean(squares)))


def measure_clips(
    systems: Sequence[System],
    frames: Sequence[Image8],
    coders: Sequence[Coder],
    qualities: Sequence[int],
    ssim: bool = True,
) -> dict[tuple[str, str], list[ClipPoint]]:
    """The full picture and every system through every video coder, by (system, coder's title), in the order given."""
    found: dict[tuple[str, str], list[ClipPoint]] = {}
    if not all(coder.name in VIDEO for coder in coders):
        raise UserError(f"clips: expected video codecs ({', '.join(VIDEO)})")
    everyone = [Direct(), *systems]
    size = (frames[0].shape[0], frames[0].shape[1])
    with progress(total=len(everyone) * len(coders) * len(qualities), unit="clip") as bar:
        for system in everyone:
            lrs = [] if system.knows_file else [system.shrink(frame) for frame in frames]
            for coder in coders:
                for quality in qualities:
                    if system.knows_file:
                        lrs = [system.shrink(frame, (coder, quality)) for frame in frames]
                    packets = encode_frames(lrs, coder, quality)
                    seen = decode_frames(packets, coder, (lrs[0].shape[0], lrs[0].shape[1]))
                    restored = [system.grow(lr, size, coder.coarseness(quality)) for lr in seen]
                    bits = 8 * sum(map(len, packets)) / (size[0] * size[1] * len(frames))
                    point = _point(quality, bits, frames, restored, ssim)
                    found.setdefault((system.name, coder.title), []).append(ClipPoint(point, flicker(frames, restored)))
                    bar.update()
    return found


def curves_of(found: dict[tuple[str, str], list[ClipPoint]]) -> list[Curve]:
    """The clips as curves, for gains and ranges."""
    return [
        Curve(system, codec, tuple(sorted((clip.point for clip in clips), key=lambda p: p.bits)))
        for (system, codec), clips in found.items()
    ]


def _point(quality: int, bits: float, frames: Sequence[Image8], restored: Sequence[Image8], ssim: bool) -> Point:
    pairs = list(zip(frames, restored, strict=True))
    y = [(luma(a), luma(b)) for a, b in pairs]
    similar: tuple[float | None, float | None] = (None, None)
    if ssim:
        similar = (
            float(np.mean([ws_ssim(b, a) for a, b in y])),
            float(np.mean([ws_ssim(b, a) for a, b in pairs])),
        )
    return Point(
        quality,
        bits,
        float(np.mean([ws_psnr(b, a) for a, b in y])),
        float(np.mean([ws_psnr(b, a) for a, b in pairs])),
        *similar,
    )
