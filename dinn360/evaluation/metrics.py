"""How far a restored panorama is from its original: PSNR and SSIM, plain and weighted by area on the sphere
(WS-).

Arrays are (H, W) or (H, W, C) with values 0..255, uint8 or floating. Published tables differ in the channel:
RGB, or luma in one of two dialects (`luma`); on one panorama luma PSNR was 1.3 dB above RGB, so name the
channel with every figure.
"""

import math
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Floats = NDArray[np.float64]

_PEAK = 255.0
_C1, _C2 = (0.01 * _PEAK) ** 2, (0.03 * _PEAK) ** 2  # Wang et al. 2004, K1 = 0.01, K2 = 0.03
_LUMA = {
    "bt601": (65.481 / 255, 128.553 / 255, 24.966 / 255),
    "lau-net": (0.257, 0.507, 0.098),
}


def latitude_weights(height: int) -> Floats:
    """Return each row's share of the sphere, w(j) = cos((j + 0.5 - N/2) * pi / N) with N = `height`.

    Source: WS-PSNR, Sun, Lu and Yu 2017 (equirectangular weights); the rows' centres, so no weight is zero.

    Returns:
        float64 (height,), values in (0, 1], symmetric about the equator.

    Raises:
        ValueError: `height` is less than 1.
    """
    if height < 1:
        raise ValueError(f"expected a height of at least 1, found {height}")
    weights: Floats = np.cos((np.arange(height) + 0.5 - height / 2) * np.pi / height)
    return weights


def luma(rgb: Array, dialect: Literal["bt601", "lau-net"] = "bt601") -> Floats:
    """Return the luma of RGB (H, W, 3) values 0..255, in 16..235, not rounded.

    Args:
        rgb: uint8 or floating (H, W, 3).
        dialect: "bt601" (ours) is ITU-R BT.601 with studio swing, 16 + (65.481 R + 128.553 G + 24.966 B) /
            255. "lau-net" has the constants of LAU-Net's and STDAN's code, 16 + 0.257 R + 0.507 G + 0.098 B;
            their 0.507 stands where BT.601 has 0.504, so white becomes 235.8. Take it to compare with tables
            of that lineage.

    Returns:
        float64 (H, W).

    Raises:
        ValueError: the shape or the dialect is another.
    """
    if rgb.ndim != 3 or rgb.shape[2] != 3:
        raise ValueError(f"expected RGB of shape (H, W, 3), found {rgb.shape}")
    if dialect not in _LUMA:
        raise ValueError(f"expected a dialect of {', '.join(_LUMA)}, found {dialect!r}")
    y: Floats = rgb.astype(np.float64) @ np.array(_LUMA[dialect]) + 16
    return y


def psnr(a: Array, b: Array) -> float:
    """Return the peak signal-to-noise ratio in dB over all pixels and channels; identical images give inf.

    Raises:
        ValueError: the shapes differ or are not (H, W) or (H, W, C).
    """
    return _decibel(float(np.mean(_squared_error(a, b))))


def ws_psnr(a: Array, b: Array) -> float:
    """Return WS-PSNR in dB: 10 log10(255^2 / (sum w (a - b)^2 / sum w)), channels averaged; identical images
    give inf.

    Source: Sun, Lu and Yu 2017; `latitude_weights` for w.

    Raises:
        ValueError: the shapes differ or are not (H, W) or (H, W, C).
    """
    rows = _squared_error(a, b).mean(axis=(1, 2))
    return _decibel(float(np.average(rows, weights=latitude_weights(len(rows)))))


def ssim(a: Array, b: Array) -> float:
    """Return the mean structural similarity, in [-1, 1], channels averaged.

    Source: Wang et al. 2004: 11 x 11 Gaussian window with sigma 1.5, C1 = (0.01 * 255)^2, C2 = (0.03 *
    255)^2, population variances. The map has the image's full size with mirrored borders (scipy's "reflect",
    as the 360SR lineage has it); other code crops 5 pixels, which moves the mean by less than 0.002.

    Raises:
        ValueError: the shapes differ or are not (H, W) or (H, W, C).
    """
    return float(ssim_map(a, b).mean())


def ws_ssim(a: Array, b: Array) -> float:
    """Return the mean of `ssim_map` weighted by `latitude_weights`, sum(w * map) / sum(w), channels averaged.

    Papers print it times 100.

    Raises:
        ValueError: the shapes differ or are not (H, W) or (H, W, C).
    """
    rows = ssim_map(a, b).mean(axis=(1, 2))
    return float(np.average(rows, weights=latitude_weights(len(rows))))


def ssim_map(a: Array, b: Array) -> Floats:
    """Return the SSIM of every window, float64 (H, W, C); see `ssim` for the constants and errors."""
    x, y = _pair(a, b)
    mean_x, mean_y = _blur(x), _blur(y)
    variance_x = _blur(x * x) - mean_x**2
    variance_y = _blur(y * y) - mean_y**2
    covariance = _blur(x * y) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + _C1) / (mean_x**2 + mean_y**2 + _C1)
    return luminance * (2 * covariance + _C2) / (variance_x + variance_y + _C2)


def _blur(x_HWC: Floats) -> Floats:
    """Average under the 11 x 11 Gaussian, first along H, then along W."""
    kernel = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
    kernel /= kernel.sum()
    for axis in (0, 1):
        size = x_HWC.shape[axis]
        pad = [(5, 5) if i == axis else (0, 0) for i in range(3)]
        padded = np.pad(x_HWC, pad, mode="symmetric")
        x_HWC = sum(
            (weight * padded.take(range(i, i + size), axis=axis) for i, weight in enumerate(kernel)),
            start=np.zeros_like(x_HWC),
        )
    return x_HWC


def _decibel(mean_squared_error: float) -> float:
    return math.inf if mean_squared_error == 0 else 10 * math.log10(_PEAK**2 / mean_squared_error)


def _squared_error(a: Array, b: Array) -> Floats:
    x, y = _pair(a, b)
    return (x - y) ** 2


def _pair(a: Array, b: Array) -> tuple[Floats, Floats]:
    """Return both as float64 (H, W, C): uint8 differences would wrap around."""
    if a.shape != b.shape:
        raise ValueError(f"expected two images of one shape, found {a.shape} and {b.shape}")
    if a.ndim not in (2, 3) or a.size == 0:
        raise ValueError(f"expected non-empty images (H, W) or (H, W, C), found {a.shape}")
    shape = (*a.shape[:2], -1)
    return a.astype(np.float64).reshape(shape), b.astype(np.float64).reshape(shape)
