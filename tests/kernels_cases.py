"""Calls of the two operators that kernels are tested with, on any processor, and how far a result may be off.

The expected values are computed in fp64 from the very numbers that the kernel was given. fp32 kernels may differ by
1e-5 of the largest expected value. For fp16 kernels the measure is an ideal fp16 implementation: all in fp64, but what
the tensor cores take (bilinear samples, sampled queries, attention weights) and the output are rounded to fp16 once.
That much rounding is the price of fp16 storage and fp16 matrix operands; it is independent from element to element, so
its size is well known from its root mean square and its largest value. A kernel may have twice as much of either: room
for products in another order and for a rounding more, none for fp16 sums or fp16 coordinates.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from plugins.testing.native import Array

TYPES = [np.float32, np.float16]


def assert_close(got: Array, expected: Array, ideal: Array, what: str) -> None:
    """Holds `got` to this file's tolerance; `ideal` is the ideal fp16 implementation's result."""
    assert got.shape == expected.shape
    error = np.abs(got.astype(np.float64) - expected)
    if got.dtype == np.float32:
        assert error.max() <= 1e-5 * np.abs(expected).max(), f"{what}: {error.max() / np.abs(expected).max():.2e}"
        return
    price = np.abs(ideal - expected)
    for name, mine, allowed in (
        ("root mean square", np.sqrt((error**2).mean()), 2 * np.sqrt((price**2).mean())),
        ("largest", error.max(), 2 * price.max()),
    ):
        assert mine <= allowed, f"{what}, {name} error: {mine:.2e}, twice the ideal one is {allowed:.2e}"


def snr(got: Array, expected: Array) -> float:
    """Signal to noise in dB."""
    return float(10 * np.log10((expected**2).mean() / ((got - expected) ** 2).mean()))


# ---- deformable convolution

CONVOLUTIONS: dict[str, dict[str, Any]] = {
    "plain": dict(channels=16, out=16, size=(7, 13)),
    "wrap": dict(channels=16, out=16, size=(7, 13), wrap=True),
    "mask": dict(channels=8, out=24, size=(6, 11), mask=True, wrap=True),
    "odd channels": dict(channels=5, out=3, size=(5, 9), wrap=True),
    "one channel": dict(channels=1, out=1, size=(3, 3)),
    "one pixel": dict(channels=8, out=8, size=(1, 1), wrap=True),
    "one row": dict(channels=8, out=8, size=(1, 37), wrap=True, mask=True),
    "batch": dict(batch=3, channels=8, out=8, size=(5, 7), wrap=True),
    "wide": dict(channels=32, out=32, size=(3, 70), wrap=True),
    "many channels": dict(channels=64, out=72, size=(3, 9), wrap=True),
    "beyond 128": dict(channels=136, out=130, size=(2, 5), wrap=True),
    "offset groups": dict(channels=16, out=8, size=(5, 9), fields=2, mask=True, wrap=True),
    "narrow offset groups": dict(channels=12, out=8, size=(5, 9), fields=4),
    "groups": dict(channels=16, out=24, size=(5, 9), groups=2, wrap=True),
    "depthwise": dict(channels=6, out=12, size=(5, 9), groups=6, fields=2),
    "stride": dict(channels=8, out=8, size=(9, 14), stride=(2, 3), wrap=True),
    "dilation": dict(channels=8, out=8, size=(9, 14), dilation=(2, 3), wrap=True),
    "1x1": dict(channels=16, out=8, size=(5, 9), kernel=(1, 1), mask=True),
    "5x5": dict(channels=8, out=8, size=(6, 7), kernel=(5, 5), wrap=True),
    "3x1": dict(channels=8, out=8, size=(6, 7), kernel=(3, 1)),
    "even kernel, no pad": dict(channels=8, out=8, size=(6, 9), kernel=(2, 4), pad=(0, 0)),
    "all at once": dict(batch=2, channels=24, out=16, size=(11, 9), kernel=(3, 5), stride=(2, 1), dilation=(1, 2),
                        pad=(2, 1), groups=2, fields=3, mask=True, wrap=True),
}  # fmt: skip


def convolution(
    type_: Any,
    *,
    channels: int,
    out: int,
    size: tuple[int, int],
    batch: int = 1,
    kernel: tuple[int, int] = (3, 3),
    groups: int = 1,
    fields: int = 1,
    mask: bool = False,
    wrap: bool = False,
    stride: tuple[int, int] = (1, 1),
    dilation: tuple[int, int] = (1, 1),
    pad: tuple[int, int] | None = None,
    reach: float = 2.0,
    seed: int = 0,
) -> tuple[list[Array | None], dict[str, Any]]:
    """Random arrays and options of a call; offsets have a standard deviation of `reach` pixels."""
    random = np.random.default_rng(seed)
    pads = tuple(d * (k // 2) for d, k in zip(dilation, kernel, strict=True)) if pad is None else pad
    spans = zip(size, pads, dilation, kernel, stride, strict=True)
    out_size = [(n + 2 * p - d * (k - 1) - 1) // s + 1 for n, p, d, k, s in spans]
    taps = kernel[0] * kernel[1]
    inner = channels // groups
    arrays = [
        random.normal(size=(batch, channels, *size)),
        random.normal(size=(batch, 2 * fields * taps, *out_size), scale=reach),
        random.normal(size=(out, inner, *kernel)) / math.sqrt(inner * taps),
        random.normal(size=out),
        random.uniform(size=(batch, fields * taps, *out_size)) if mask else None,
    ]
    options = dict(wrap=wrap, stride=stride, dilation=dilation, pad=pads, groups=groups)
    return [None if a is None else a.astype(type_) for a in arrays], options


# ---- DST attention

ATTENTIONS: dict[str, dict[str, Any]] = {
    "plain": dict(heads=2, depth=8, size=(8, 16), deformed=False),
    "deformed": dict(heads=2, depth=8, size=(8, 16)),
    "deformed, no wrap": dict(heads=2, depth=8, size=(8, 16), wrap=False),
    "shift": dict(heads=2, depth=8, size=(16, 16), shift=4),
    "shift, no wrap": dict(heads=1, depth=16, size=(16, 16), shift=4, wrap=False),
    "shift by three": dict(heads=1, depth=8, size=(16, 24), shift=3),
    "plain, shift": dict(heads=1, depth=8, size=(16, 16), shift=4, deformed=False),
    "partial windows": dict(heads=2, depth=8, size=(11, 19)),
    "partial windows, shift": dict(heads=2, depth=8, size=(11, 19), shift=4),
    "partial windows, shift, no wrap": dict(heads=1, depth=8, size=(11, 19), shift=4, wrap=False),
    "smaller than a window": dict(heads=1, depth=8, size=(3, 5), shift=4),
    "one pixel": dict(heads=1, depth=8, size=(1, 1)),
    "batch": dict(batch=3, heads=1, depth=8, size=(8, 8)),
    "four heads": dict(heads=4, depth=8, size=(8, 8), shift=4),
    "three heads, five windows": dict(heads=3, depth=8, size=(8, 35)),
    "depth 4": dict(heads=2, depth=4, size=(8, 8)),
    "depth 5": dict(heads=3, depth=5, size=(8, 9)),
    "depth 12": dict(heads=2, depth=12, size=(8, 8)),
    "depth 24": dict(heads=1, depth=24, size=(8, 8)),
    "depth 32": dict(heads=2, depth=32, size=(8, 8), shift=4),
    "depth 64": dict(heads=1, depth=64, size=(8, 8), shift=4, wrap=False),
    "window 4": dict(heads=2, depth=16, size=(9, 10), window=4, shift=2),
    "window 2": dict(heads=1, depth=8, size=(3, 5), window=2, shift=1),
    "window 6": dict(heads=2, depth=8, size=(5, 13), window=6, shift=3, wrap=False),
    "window 10": dict(heads=1, depth=16, size=(10, 9), window=10, shift=5),
    "window 16": dict(heads=2, depth=8, size=(16, 16), window=16, shift=8, wrap=False),
    "far": dict(heads=1, depth=8, size=(8, 16), reach=30.0),
    "far, no wrap": dict(heads=1, depth=8, size=(8, 16), reach=30.0, wrap=False),
}


def attention(
    type_: Any,
    *,
    heads: int,
    depth: int,
    size: tuple[int, int],
    batch: int = 1,
    window: int = 8,
    shift: int = 0,
    wrap: bool = True,
    deformed: bool = True,
    reach: float = 1.5,
    seed: int = 0,
) -> tuple[list[Array | None], dict[str, Any]]:
    """Random arrays and options of a call; offsets have a standard deviation of `reach` pixels."""
    random = np.random.default_rng(seed)
    image = (batch, heads * depth, *size)
    field = (batch, 2 * heads, -(-size[0] // window), -(-size[1] // window))
    arrays = [
        *(random.normal(size=image) for _ in range(3)),
        random.normal(size=(heads, window**2, window**2)),
        random.normal(size=field, scale=0.4) if deformed else None,
        random.normal(size=field, scale=reach) if deformed else None,
    ]
    return [None if a is None else a.astype(type_) for a in arrays], dict(window=window, shift=shift, wrap=wrap)
