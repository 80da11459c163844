"""Plain references of the two operators of `dinn360.ops`: one pixel, one tap, one window at a time.

They are the definition that every implementation is tested against (PyTorch, ONNX, CPU and CUDA kernels).
Signatures and meaning are those of `dinn360.ops`; slow, and all arithmetic in fp64.
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor


def pixel(image_CHW: Tensor, row: int, column: int, wrap: bool) -> Tensor:
    """Channels (C,) of one pixel: columns are cyclic with `wrap`; what lies outside is zero."""
    _, height, width = image_CHW.shape
    if wrap:
        column %= width
    if not (0 <= row < height and 0 <= column < width):
        return torch.zeros_like(image_CHW[:, 0, 0])
    return image_CHW[:, row, column]


def bilinear(image_CHW: Tensor, row: float, column: float, wrap: bool) -> Tensor:
    """Bilinear sample (C,) at a position in pixels; pixel centres lie on whole numbers."""
    top, left = math.floor(row), math.floor(column)
    down, right = row - top, column - left
    return (
        (1 - down) * (1 - right) * pixel(image_CHW, top, left, wrap)
        + (1 - down) * right * pixel(image_CHW, top, left + 1, wrap)
        + down * (1 - right) * pixel(image_CHW, top + 1, left, wrap)
        + down * right * pixel(image_CHW, top + 1, left + 1, wrap)
    )


def deform_conv2d(
    x: Tensor,
    offset: Tensor,
    weight: Tensor,
    bias: Tensor,
    mask: Tensor | None,
    max_offset: float,
    wrap: bool,
    *,
    stride: tuple[int, int] = (1, 1),
    dilation: tuple[int, int] = (1, 1),
    pad: tuple[int, int] | None = None,
    groups: int = 1,
) -> Tensor:
    """Reference of `ops.deform_conv2d`: (B,O,H,W) in the dtype of x. `max_offset` changes nothing.

    The keywords are what the plugins know beyond the network's own use; pad defaults to the same size. A sample at a
    coordinate that is not finite is zero.
    """
    batch, channels, _, _ = x.shape
    rows, columns = weight.shape[2:]
    taps = rows * columns
    top, left = (dilation[0] * (rows // 2), dilation[1] * (columns // 2)) if pad is None else pad
    offset_groups = offset.shape[1] // (2 * taps)
    shared, per_group = channels // offset_groups, channels // groups
    outputs = weight.shape[0] // groups
    image, offsets, weights = x.double(), offset.double(), weight.double()
    out = bias.double()[None, :, None, None].repeat(batch, 1, *offset.shape[2:])
    for b, i, j in itertools.product(range(batch), *map(range, offset.shape[2:])):
        for tap in range(taps):
            tap_row, tap_column = divmod(tap, columns)
            samples = []
            for group in range(offset_groups):
                at = 2 * (group * taps + tap)
                row = i * stride[0] - top + tap_row * dilation[0] + float(offsets[b, at, i, j])
                column = j * stride[1] - left + tap_column * dilation[1] + float(offsets[b, at + 1, i, j])
                part = image[b, group * shared : (group + 1) * shared]
                finite = math.isfinite(row) and math.isfinite(column)
                sample = bilinear(part, row, column, wrap) if finite else torch.zeros_like(part[:, 0, 0])
                samples.append(sample if mask is None else sample * mask[b, group * taps + tap, i, j].double())
            sampled = torch.cat(samples)
            for group in range(groups):
                mine = slice(group * outputs, (group + 1) * outputs)
                seen = sampled[group * per_group : (group + 1) * per_group]
                out[b, mine, i, j] += weights[mine, :, tap_row, tap_column] @ seen
    return out.to(x.dtype)


def window_pixels(size: int, window: int, shift: int, wrap: bool) -> list[list[tuple[int, bool, bool]]]:
    """The displaced windows along one axis: for each of their positions (source pixel, past the end, real).

    Windows start at shift, shift + window, ...; the last one, displaced past the end of the padded axis,
    continues at its start. Positions beyond the image repeat its last pixel or, with `wrap`, continue around
    the circle; they serve as keys but are not `real`: no output belongs to them.
    """
    count = math.ceil(size / window)
    padded = count * window
    windows = []
    for index in range(count):
        places = []
        for i in range(window):
            place = index * window + i + shift
            past_end = place >= padded
            place %= padded
            source = place % size if wrap else min(place, size - 1)
            places.append((source, past_end, place < size))
        windows.append(places)
    return windows


def dst_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    scale: Tensor | None,
    offset: Tensor | None,
    bias: Tensor,
    window: int,
    shift: int,
    wrap: bool,
) -> Tensor:
    """Reference of `ops.dst_attention`: (B,C,H,W) in the dtype of q."""
    batch, channels, height, width = q.shape
    heads = bias.shape[0]
    depth = channels // heads
    middle = (window - 1) / 2
    query, keys, values, biases = q.double(), k.double(), v.double(), bias.double()
    out = torch.zeros_like(query)
    for b in range(batch):
        for down, rows in enumerate(window_pixels(height, window, shift, False)):
            for across, columns in enumerate(window_pixels(width, window, shift, wrap)):
                for head in range(heads):
                    mine = slice(head * depth, (head + 1) * depth)
                    key_Ld = torch.stack([keys[b, mine, r[0], c[0]] for r in rows for c in columns])
                    value_Ld = torch.stack([values[b, mine, r[0], c[0]] for r in rows for c in columns])
                    for i, (row, row_past, row_real) in enumerate(rows):
                        for j, (column, column_past, column_real) in enumerate(columns):
                            if not (row_real and column_real):
                                continue
                            if scale is None or offset is None:
                                token = query[b, mine, row, column]
                            else:
                                s, o = scale[b, 2 * head : 2 * head + 2], offset[b, 2 * head : 2 * head + 2]
                                r = row + (i - middle) * float(s[0, down, across]) + float(o[0, down, across])
                                c = column + (j - middle) * float(s[1, down, across]) + float(o[1, down, across])
                                r = min(max(r, 0.0), height - 1.0)
                                c = c if wrap else min(max(c, 0.0), width - 1.0)
                                token = bilinear(query[b, mine], r, c, wrap)
                            scores = key_Ld @ token / math.sqrt(depth) + biases[head, i * window + j]
                            for key, (r_past, c_past) in enumerate((r[1], c[1]) for r in rows for c in columns):
                                if r_past != row_past or (c_past != column_past and not wrap):
                                    scores[key] = -math.inf
                            out[b, mine, row, column] = scores.softmax(0) @ value_Ld
    return out.to(q.dtype)
