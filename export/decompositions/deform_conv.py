"""DeformConv2d in elementary ONNX operators, and as ONNX DeformConv."""

from __future__ import annotations

import math

import numpy as np

from export.decompositions.emitter import FLOAT, INT64, Emitter, Value, attribute, bilinear, extent
from export.decompositions.layers import around


def primitive(e: Emitter) -> Value:
    """The definition. Positions are (B,Ho,Wo,G,T): image, pixel, offset group, tap; pixels are gathered channels last.

    Coordinates are fp32 whatever the data type is.
    """
    x, offset, weight, bias, *mask = e.inputs
    assert x.dtype is not None
    kernel_rows, kernel_columns = extent(weight, 2), extent(weight, 3)
    groups, fields, wrap = (attribute(e.node, name) for name in ("group", "offset_group", "wrap"))
    taps = kernel_rows * kernel_columns
    batch, channels, height, width = e.sizes(x)
    out_height, out_width = e.sizes(offset, 2, 2)
    depth = e.Div(channels, (fields,))
    height_f, width_f = e.cast(height, FLOAT), e.cast(width, FLOAT)
    one = e.float(1.0)
    rows = e.Reshape(e.Transpose(x, perm=[0, 2, 3, 1]), e.shape(-1, depth))

    split = e.Reshape(offset, e.shape(batch, fields, taps, 2, out_height, out_width))
    pairs = e.split(e.cast(e.Transpose(split, perm=[3, 0, 4, 5, 1, 2]), FLOAT, x.dtype), 2, 0)
    apart_row, apart_column = (e.Squeeze(pair, (0,)) for pair in pairs)
    tap = np.arange(taps)
    places = tap // kernel_columns, tap % kernel_columns
    base = []
    for axis, (size, shape) in enumerate(((out_height, (-1, 1, 1, 1)), (out_width, (-1, 1, 1)))):
        stride, pad, dilation = (attribute(e.node, name)[axis] for name in ("strides", "pads", "dilations"))
        start = e.Mul(e.cast(e.range(size), FLOAT), e.float(stride))
        reach = e.constant((places[axis] * dilation - pad).astype(np.float32))
        base.append(e.Add(e.Reshape(start, shape), reach))
    row, column = e.Add(apart_row, base[0]), e.Add(apart_column, base[1])

    row_at, row_weights = _zero_outside(e, row, e.Sub(height_f, one), one)
    if wrap:
        floor = e.Floor(column)
        part = e.Sub(column, floor)
        column_at = [e.cast(e.modulo(place, width_f), INT64) for place in (floor, e.Add(floor, one))]
        column_weights = [e.Sub(one, part), part]
    else:
        column_at, column_weights = _zero_outside(e, column, e.Sub(width_f, one), one)
    if mask:
        split = e.Reshape(mask[0], e.shape(batch, fields, taps, out_height, out_width))
        factor = e.cast(e.Transpose(split, perm=[0, 3, 4, 1, 2]), FLOAT, x.dtype)
        row_weights = [e.Mul(weight, factor) for weight in row_weights]

    start = e.Reshape(e.Mul(e.range(batch), e.Mul(height, width)), (-1, 1, 1, 1, 1))
    field = None if fields == 1 else ((fields,), e.Reshape(e.ints(*range(fields)), (-1, 1)))
    samples = bilinear(e, x.dtype, rows, width, start, field, (row_at, column_at), (row_weights, column_weights))
    if groups == 1:  # the matrix is permuted, not the samples (B,H,W,G,T,C/G)
        size = e.Mul(depth, (fields * taps,))
        columns = e.Reshape(samples, e.shape(batch, out_height, out_width, size))
        split = e.Reshape(weight, (0, fields, -1, taps))
        matrix = e.Reshape(e.Transpose(split, perm=[1, 3, 2, 0]), e.shape(size, e.Shape(weight, start=0, end=1)))
        product = e.MatMul(columns, matrix)
    else:
        product = _grouped_product(e, samples, weight, channels, groups, taps, (batch, out_height, out_width))
    return e.Transpose(e.Add(product, bias), perm=[0, 3, 1, 2])


def _zero_outside(e: Emitter, at: Value, last: Value, one: Value) -> tuple[list[Value], list[Value]]:
    """Two places along an axis, int64 within [0, last], and their weights, 0 where a place lies outside."""
    floor = e.Floor(at)
    part = e.Sub(at, floor)
    places, weights = [], []
    for place, weight in ((floor, e.Sub(one, part)), (e.Add(floor, one), part)):
        within = e.Min(e.Relu(place), last)
        places.append(e.cast(within, INT64))
        weights.append(e.Mul(weight, e.cast(e.Equal(within, place), FLOAT)))
    return places, weights


def _grouped_product(
    e: Emitter, samples: Value, weight: Value, channels: Value, groups: int, taps: int, size: tuple[Value, ...]
) -> Value:
    """Each group of channels by itself: samples become (group, B*H*W, C/group*T)."""
    rows = e.Mul(e.Div(channels, (groups,)), (taps,))
    turned = e.Transpose(samples, perm=[0, 1, 2, 3, 5, 4])
    columns = e.Transpose(e.Reshape(turned, e.shape(-1, groups, rows)), perm=[1, 0, 2])
    matrix = e.Transpose(e.Reshape(weight, e.shape(groups, -1, rows)), perm=[0, 2, 1])
    product = e.Transpose(e.MatMul(columns, matrix), perm=[1, 0, 2])
    return e.Reshape(product, e.shape(*size, -1))


def standard(e: Emitter) -> Value:
    """ONNX DeformConv, with `wrap` between a wrap and a crop.

    Rows need nothing: DeformConv, too, reads zeros beyond them. Longitude: x is extended on both sides of the circle by
    more than a sample can reach, and the offsets by zeros, one for each stride; the result is cropped.

    The pads are alike on all four sides, in columns too, where zeros then stand beyond all that is kept. TensorRT's
    own plugin (ModulatedDeformConv2d, 10.1 to 11.1) takes the first of a pair, that of the rows, for that of the
    columns, and computes something else where they differ. So it does with strides and dilations, but no network here
    has a pair of those that differs.
    """
    x, offset, weight, bias, *mask = e.inputs
    pad_row, pad_column = attribute(e.node, "pads")
    same = {name: attribute(e.node, name) for name in ("strides", "dilations", "group", "offset_group")}
    same["kernel_shape"] = [extent(weight, axis) for axis in (2, 3)]
    if not attribute(e.node, "wrap"):
        pad = min(pad_row, pad_column)
        if pad_row != pad_column:
            x = e.Pad(x, (pad_row - pad, pad_column - pad) * 2, None, (2, 3))
        return e.DeformConv(x, weight, offset, bias, *mask, pads=[pad] * 4, **same)
    stride = same["strides"][1]
    beside = -(-(math.ceil(attribute(e.node, "max_offset")) + 1 + pad_row) // stride)
    margin = beside * stride + pad_column - pad_row
    wrapped = around(e, x, margin)
    sides = (beside, beside)
    padded = [e.Pad(value, sides, None, (3,)) for value in (offset, *mask)]
    result = e.DeformConv(wrapped, weight, padded[0], bias, *padded[1:], pads=[pad_row] * 4, **same)
    return e.Slice(result, (beside,), (-beside,), (3,))
