"""Window attention with deformable queries (the core of a DST module)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dinn360.ops.registry import implementation, register_operator
from dinn360.ops.sampling import bilinear_sample, bilinear_samples, coordinate_dtype
from dinn360.sphere import cyclic


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
    """Window attention with deformable queries (slides: DST, "deformable token q"; details are our choice).

    q, k, v: (B,C,H,W), C = heads * d. bias: (heads, window^2, window^2), relative position bias.
    scale, offset: None (plain windows) or (B,2*heads,ceil(H/window),ceil(W/window)), ordered [head, (row, column)].
    The query of pixel p in a window with centre m is sampled at p + (p - m) * scale + offset (pixels, bilinear, rows
    clamped to the image, columns modulo W or clamped); keys and values are those of the regular window.
    Windows are displaced by `shift` pixels down and right; the displaced window that joins the last and first rows
    (and columns, without `wrap`) is masked into its parts. H, W need not be multiples of the window: the last window
    is filled with the last row and with the columns that continue around the circle (or the last one).
    Returns (B,C,H,W) in the dtype of q.
    """
    return implementation("dst_attention", composed, q)(q, k, v, scale, offset, bias, window, shift, wrap)


def window_index(size: int, window: int, shift: int, wrap: bool, device: torch.device) -> Tensor:
    """Source pixel of each position of the displaced windows along one axis, int64 (ceil(size/window)*window,)."""
    padded = (size + window - 1) // window * window
    index = cyclic(torch.arange(padded, device=device) + shift, padded)
    return cyclic(index, size) if wrap else index.clamp(max=size - 1)


def _regions(size: int, window: int, shift: int, masked: bool, device: torch.device) -> Tensor:
    """0 or 1 for each position of the displaced windows: 1 where the displacement ran past the end. (padded,)"""
    padded = (size + window - 1) // window * window
    return ((torch.arange(padded, device=device) + shift) >= padded).long() * int(masked)


def composed(
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
    batch, channels, height, width = q.shape
    heads = bias.shape[0]
    depth = channels // heads
    rows = window_index(height, window, shift, False, q.device)
    columns = window_index(width, window, shift, wrap, q.device)
    down, across = rows.shape[0] // window, columns.shape[0] // window
    aligned = shift == 0 and rows.shape[0] == height and columns.shape[0] == width

    def windows(x: Tensor) -> Tensor:  # (B,C,H,W) -> (B*windows, heads, window^2, d)
        if not aligned:
            x = x.index_select(2, rows).index_select(3, columns)
        x = x.permute(0, 2, 3, 1).reshape(batch, down, window, across, window, heads, depth)
        return x.permute(0, 1, 3, 5, 2, 4, 6).reshape(batch * down * across, heads, window * window, depth)

    if scale is None or offset is None:
        query = windows(q)
    else:
        query = _deformed_queries(q, rows, columns, scale, offset, heads, window, wrap).to(q.dtype)
    scores = torch.matmul(query, windows(k).transpose(-1, -2)) * depth**-0.5 + bias
    if shift:
        region_row = _regions(height, window, shift, True, q.device).reshape(down, 1, window, 1)
        region_column = _regions(width, window, shift, not wrap, q.device).reshape(1, across, 1, window)
        region = (2 * region_row + region_column).reshape(down * across, window * window)
        blocked = (region[:, :, None] != region[:, None, :]).to(scores.dtype) * -100.0
        shape = scores.shape
        scores = (scores.reshape(batch, down * across, *shape[1:]) + blocked[None, :, None]).reshape(shape)
    out = torch.matmul(scores.softmax(-1).to(v.dtype), windows(v))
    out = out.reshape(batch, down, across, heads, window, window, depth).permute(0, 3, 6, 1, 4, 2, 5)
    out = out.reshape(batch, channels, down * window, across * window)
    if aligned:
        return out
    row = cyclic(torch.arange(height, device=q.device) - shift, rows.shape[0])
    column = cyclic(torch.arange(width, device=q.device) - shift, columns.shape[0])
    return out.index_select(2, row).index_select(3, column)


def _deformed_queries(
    q: Tensor, rows: Tensor, columns: Tensor, scale: Tensor, offset: Tensor, heads: int, window: int, wrap: bool
) -> Tensor:
    """Queries sampled at the scaled and shifted points of each window: (B*windows, heads, window^2, d)."""
    batch, channels, height, width = q.shape
    dtype = coordinate_dtype(q)
    down, across = rows.shape[0] // window, columns.shape[0] // window
    depth = channels // heads
    base = torch.arange(window, device=q.device, dtype=dtype) - (window - 1) / 2
    scale_ = scale.to(dtype).reshape(batch * heads, 2, down, across, 1, 1)
    offset_ = offset.to(dtype).reshape(batch * heads, 2, down, across, 1, 1)
    row = rows.to(dtype).reshape(1, down, 1, window, 1) + base[:, None] * scale_[:, 0] + offset_[:, 0]
    column = columns.to(dtype).reshape(1, 1, across, 1, window) + base * scale_[:, 1] + offset_[:, 1]
    row, column = torch.broadcast_tensors(row, column)
    shape = (batch * heads, down * across, window * window)
    image = q.reshape(batch * heads, depth, height, width)
    sampled = bilinear_samples(image, row.reshape(shape), column.reshape(shape), wrap, "border")
    sampled = sampled.reshape(batch, heads, depth, down * across, window * window).permute(0, 3, 1, 4, 2)
    return sampled.reshape(batch * down * across, heads, window * window, depth)


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


def reference(
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
    """The plain reference: one window and one query at a time, in fp64. (B,C,H,W) in the dtype of q; slow."""
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
                                token = bilinear_sample(query[b, mine], r, c, wrap)
                            scores = key_Ld @ token / math.sqrt(depth) + biases[head, i * window + j]
                            for key, (r_past, c_past) in enumerate((r[1], c[1]) for r in rows for c in columns):
                                if r_past != row_past or (c_past != column_past and not wrap):
                                    scores[key] = -math.inf
                            out[b, mine, row, column] = scores.softmax(0) @ value_Ld
    return out.to(q.dtype)


register_operator(
    "dst_attention",
    "(Tensor q, Tensor k, Tensor v, Tensor? scale, Tensor? offset, Tensor bias, int window, int shift, bool wrap)"
    " -> Tensor",
    composed,
    lambda q, *_: q.new_empty(q.shape),
)
