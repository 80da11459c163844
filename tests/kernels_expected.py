"""What the kernels have to compute, in numpy and fp64: the definitions of plugins/params.h, vectorised.

`rounded` is applied where an ideal fp16 implementation would round: tests/kernels_cases.py says why.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from plugins.testing.native import Array

Round = Callable[[Array], Array]


def exact(value: Array) -> Array:
    return value


def to_half(value: Array) -> Array:
    """fp64 rounded to fp16."""
    return value.astype(np.float16).astype(np.float64)


def expected_deform_conv(
    x: Array,
    offset: Array,
    weight: Array,
    bias: Array,
    mask: Array | None,
    *,
    wrap: bool,
    stride: tuple[int, int] = (1, 1),
    dilation: tuple[int, int] = (1, 1),
    pad: tuple[int, int] | None = None,
    groups: int = 1,
    rounded: Round = exact,
) -> Array:
    """params.h's definition in fp64, (B,O,Ho,Wo); `rounded` is applied to the samples and to the output."""
    batch, channels, height, width = x.shape
    out_channels, _, rows, columns = weight.shape
    taps = rows * columns
    pad = (dilation[0] * (rows // 2), dilation[1] * (columns // 2)) if pad is None else pad
    fields = offset.shape[1] // (2 * taps)
    out_height, out_width = offset.shape[2:]
    move = offset.astype(np.float64).reshape(batch, fields, taps, 2, out_height, out_width)
    tap_row, tap_column = (axis.reshape(taps, 1, 1) for axis in np.divmod(np.arange(taps), columns))
    row = move[:, :, :, 0] + np.arange(out_height)[:, None] * stride[0] - pad[0] + tap_row * dilation[0]
    column = move[:, :, :, 1] + np.arange(out_width) * stride[1] - pad[1] + tap_column * dilation[1]
    finite = np.isfinite(row) & np.isfinite(column)
    row, column = np.where(finite, row, -9), np.where(finite, column, -9)
    image = x.astype(np.float64).reshape(batch, fields, channels // fields, height * width)
    samples = np.zeros((batch, fields, channels // fields, *row.shape[2:]))
    for down, across in np.ndindex(2, 2):
        top, left = np.floor(row), np.floor(column)
        share = np.abs(1 - down - (row - top)) * np.abs(1 - across - (column - left)) * finite
        r, c = top + down, left + across
        c = np.mod(c, width) if wrap else c
        inside = (r >= 0) & (r < height) & (c >= 0) & (c < width)
        place = np.where(inside, r * width + c, 0).astype(np.int64).reshape(batch, fields, 1, -1)
        pixel = np.take_along_axis(image, place, -1).reshape(samples.shape)
        samples += np.where(inside[:, :, None], share[:, :, None] * pixel, 0)
    if mask is not None:
        samples = samples * mask.astype(np.float64).reshape(batch, fields, 1, taps, out_height, out_width)
    matrix = rounded(samples).reshape(batch, groups, -1, out_height * out_width)
    kernel = weight.astype(np.float64).reshape(1, groups, out_channels // groups, -1)
    y = (kernel @ matrix).reshape(batch, out_channels, out_height, out_width) + bias.astype(np.float64)[:, None, None]
    return rounded(y)


def expected_dst_attention(
    q: Array,
    k: Array,
    v: Array,
    bias: Array,
    scale: Array | None,
    offset: Array | None,
    *,
    window: int,
    shift: int,
    wrap: bool,
    rounded: Round = exact,
) -> Array:
    """params.h's definition in fp64; `rounded` is applied to the queries, the attention weights and the output."""
    batch, channels, height, width = q.shape
    heads = bias.shape[0]
    depth = channels // heads
    down, across = -(-height // window), -(-width // window)
    place_row, place_column = np.arange(down * window) + shift, np.arange(across * window) + shift
    past_row, past_column = place_row >= down * window, (place_column >= across * window) & (not wrap)
    place_row, place_column = place_row % (down * window), place_column % (across * window)
    rows = np.minimum(place_row, height - 1)
    columns = place_column % width if wrap else np.minimum(place_column, width - 1)

    def windows(image: Array) -> Array:  # (B,heads*n,down*window,across*window) -> (B,heads,windows,window^2,n)
        parts = image.reshape(batch, heads, -1, down, window, across, window)
        return parts.transpose(0, 1, 3, 5, 4, 6, 2).reshape(batch, heads, down * across, window * window, -1)

    def gathered(image: Array) -> Array:
        return windows(image.astype(np.float64)[:, :, rows][..., columns])

    if scale is None or offset is None:
        query = gathered(q)
    else:
        factor, move = (a.astype(np.float64).reshape(batch, heads, 2, down, across) for a in (scale, offset))
        base = np.tile(np.arange(window) - (window - 1) / 2, down)[:, None]
        grow, shove = (np.repeat(np.repeat(a, window, 3), window, 4) for a in (factor, move))
        base_column = np.tile(np.arange(window) - (window - 1) / 2, across)
        with np.errstate(invalid="ignore"):  # infinity minus itself
            row = rows[:, None] + base * grow[:, :, 0] + shove[:, :, 0]
            column = columns + base_column * grow[:, :, 1] + shove[:, :, 1]
        finite = np.isfinite(row) & np.isfinite(column)
        row, column = np.where(finite, row, 0), np.where(finite, column, 0)
        row = np.clip(row, 0, height - 1)
        column = column if wrap else np.clip(column, 0, width - 1)
        image = q.astype(np.float64).reshape(batch, heads, depth, height * width)
        sampled = np.zeros((batch, heads, depth, *row.shape[2:]))
        for lower, right in np.ndindex(2, 2):
            top, left = np.floor(row), np.floor(column)
            share = np.abs(1 - lower - (row - top)) * np.abs(1 - right - (column - left)) * finite
            r = np.minimum(top + lower, height - 1)
            c = np.mod(left + right, width) if wrap else np.minimum(left + right, width - 1)
            at = (r * width + c).astype(np.int64).reshape(batch, heads, 1, -1)
            sampled += share[:, :, None] * np.take_along_axis(image, at, -1).reshape(sampled.shape)
        query = rounded(windows(sampled.reshape(batch, channels, *row.shape[2:])))
    scores = query @ gathered(k).swapaxes(-1, -2) / math.sqrt(depth) + bias.astype(np.float64)[:, None]
    part = windows(np.broadcast_to(2 * past_row[:, None] + past_column, (batch, heads, len(rows), len(columns))))
    scores = np.where(part == part.swapaxes(-1, -2), scores, -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights = rounded(weights / weights.sum(-1, keepdims=True))
    parts = (weights @ gathered(v)).reshape(batch, heads, down, across, window, window, depth)
    y = parts.transpose(0, 1, 6, 2, 4, 3, 5).reshape(batch, channels, down * window, across * window)
    back_row = (np.arange(height) - shift) % (down * window)
    back_column = (np.arange(width) - shift) % (across * window)
    return rounded(y[:, :, back_row][..., back_column])
