"""DSTAttention in elementary ONNX operators. Windows are batch entries: (B*windows, heads, window^2, d)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from export.decompositions.emitter import FLOAT, INT64, Emitter, Value, attribute, bilinear, wide


@dataclass(frozen=True)
class Axis:
    """The windows along one axis.

    size: pixels, int64 (1,). windows, padded: windows and their pixels, int64 (1,). source: the pixel that each
    position of the displaced windows shows, int64 (padded,). region: 1 where the displacement ran past the end, else 0,
    int64 (padded,). back: the position that shows each pixel, int64 (size,).
    """

    size: Value
    windows: Value
    padded: Value
    source: Value
    region: Value
    back: Value


def axis_of(e: Emitter, size: Value, window: int, shift: int, wrap: bool) -> Axis:
    """Integer arithmetic avoids Mod: a - a / b * b."""
    windows = e.Div(e.Add(size, (window - 1,)), (window,))
    padded = e.Mul(windows, (window,))
    displaced = e.Add(e.range(padded), (shift,))
    region = e.Div(displaced, padded)
    turned = e.Sub(displaced, e.Mul(region, padded))
    source = e.Sub(turned, e.Mul(e.Div(turned, size), size)) if wrap else e.Min(turned, e.Sub(size, (1,)))
    out = e.Add(e.Sub(e.range(size), (shift,)), padded)
    back = e.Sub(out, e.Mul(e.Div(out, padded), padded))
    return Axis(size, windows, padded, source, region, back)


def primitive(e: Emitter) -> Value:
    """The definition. Coordinates and softmax are fp32 whatever the data type is."""
    q, k, v, bias, *moved = e.inputs
    assert q.dtype is not None
    heads, window, shift, wrap = (attribute(e.node, name) for name in ("heads", "window", "shift", "wrap"))
    sums, area = wide(q.dtype), window * window
    batch, channels, height, width = e.sizes(q)
    depth = e.Div(channels, (heads,))
    rows, columns = axis_of(e, height, window, shift, False), axis_of(e, width, window, shift, bool(wrap))

    def windows(x: Value | None) -> Value:
        shown = e.Gather(e.Gather(x, rows.source, axis=2), columns.source, axis=3)
        split = e.Reshape(shown, e.shape(batch, heads, depth, rows.windows, window, columns.windows, window))
        return e.Reshape(e.Transpose(split, perm=[0, 3, 5, 1, 4, 6, 2]), e.shape(-1, heads, area, depth))

    queries = _deformed_queries(e, batch, depth, rows, columns) if moved else windows(q)
    products = e.MatMul(queries, e.Transpose(windows(k), perm=[0, 1, 3, 2]))
    factor = e.Reciprocal(e.Sqrt(e.cast(depth, sums)))
    scores = e.Add(e.Mul(e.cast(products, sums, q.dtype), factor), e.cast(bias, sums, q.dtype))
    if shift:
        split = e.Reshape(scores, e.shape(batch, e.Mul(rows.windows, columns.windows), heads, area, area))
        blocked = e.Mul(e.cast(_apart(e, rows, columns, window, bool(wrap)), sums), e.float(-100.0, sums))
        scores = e.Reshape(e.Add(split, blocked), e.shape(-1, heads, area, area))
    attended = e.MatMul(e.cast(e.Softmax(scores, axis=-1), q.dtype, sums), windows(v))
    split = e.Reshape(attended, e.shape(batch, rows.windows, columns.windows, heads, window, window, depth))
    turned = e.Transpose(split, perm=[0, 3, 6, 1, 4, 2, 5])
    padded = e.Reshape(turned, e.shape(batch, channels, rows.padded, columns.padded))
    return e.Gather(e.Gather(padded, rows.back, axis=2), columns.back, axis=3)


def _apart(e: Emitter, rows: Axis, columns: Axis, window: int, wrap: bool) -> Value:
    """Whether query and key of a displaced window lie in different parts of it: bool (1, windows, 1, area, area)."""
    area = window * window
    region = e.Reshape(rows.region, e.shape(rows.windows, 1, window, 1))
    if wrap:
        region = e.Expand(region, e.shape(rows.windows, columns.windows, window, window))
    else:
        column = e.Reshape(columns.region, e.shape(1, columns.windows, 1, window))
        region = e.Add(e.Mul(region, (2,)), column)
    return e.Not(e.Equal(e.Reshape(region, (1, -1, 1, area, 1)), e.Reshape(region, (1, -1, 1, 1, area))))


def _deformed_queries(e: Emitter, batch: Value, depth: Value, rows: Axis, columns: Axis) -> Value:
    """Queries at the scaled and shifted points. Positions are (B, windows down, across, heads, i, j)."""
    q, _, _, _, scale, offset = e.inputs
    assert q.dtype is not None
    heads, window, wrap = (attribute(e.node, name) for name in ("heads", "window", "wrap"))
    height_f, width_f = e.cast(rows.size, FLOAT), e.cast(columns.size, FLOAT)
    one = e.float(1.0)
    pixels = e.Reshape(e.Transpose(q, perm=[0, 2, 3, 1]), e.shape(-1, depth))
    base = (np.arange(window) - (window - 1) / 2).astype(np.float32)

    def per_axis(x: Value | None) -> list[Value]:
        split = e.Reshape(x, e.shape(batch, heads, 2, rows.windows, columns.windows))
        pair = e.split(e.cast(e.Transpose(split, perm=[2, 0, 3, 4, 1]), FLOAT, q.dtype), 2, 0)
        return [e.Unsqueeze(e.Squeeze(part, (0,)), (-1, -2)) for part in pair]

    scales, offsets = per_axis(scale), per_axis(offset)
    row_grid = e.Reshape(e.cast(rows.source, FLOAT), e.shape(rows.windows, 1, 1, window, 1))
    column_grid = e.Reshape(e.cast(columns.source, FLOAT), e.shape(columns.windows, 1, 1, window))
    row = e.Add(row_grid, e.Add(e.Mul(e.constant(base[:, None]), scales[0]), offsets[0]))
    column = e.Add(column_grid, e.Add(e.Mul(e.constant(base), scales[1]), offsets[1]))
    row_at, row_weights = _clamped(e, row, e.Sub(height_f, one), one)
    if wrap:
        floor = e.Floor(column)
        part = e.Sub(column, floor)
        column_at = [e.cast(e.modulo(place, width_f), INT64) for place in (floor, e.Add(floor, one))]
        column_weights = [e.Sub(one, part), part]
    else:
        column_at, column_weights = _clamped(e, column, e.Sub(width_f, one), one)
    start = e.Reshape(e.Mul(e.range(batch), e.Mul(rows.size, columns.size)), (-1, 1, 1, 1, 1, 1))
    head = (e.ints(heads), e.Reshape(e.ints(*range(heads)), (-1, 1, 1)))
    places, weights = (row_at, column_at), (row_weights, column_weights)
    samples = bilinear(e, q.dtype, pixels, columns.size, start, head, places, weights)
    return e.Reshape(samples, e.shape(-1, heads, window * window, depth))


def _clamped(e: Emitter, at: Value, last: Value, one: Value) -> tuple[list[Value], list[Value]]:
    """The two places around a position that is moved into [0, last], int64, and their weights."""
    within = e.Min(e.Relu(at), last)
    floor = e.Floor(within)
    part = e.Sub(within, floor)
    places = [floor, e.Min(e.Add(floor, one), last)]
    return [e.cast(place, INT64) for place in places], [e.Sub(one, part), part]
