"""The package's layers (domain `translate.LAYERS`) in elementary ONNX operators."""

from __future__ import annotations

import math

import numpy as np

from export.decompositions.attention import axis_of
from export.decompositions.emitter import FLOAT, Emitter, Value, attribute, extent

# Rows LL, LH, HL, HH; columns the pixels a b / c d of a block (dinn360.ops.haar). The matrix is symmetric.
BANDS = np.array([[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]])


def sphere_conv_2d(e: Emitter) -> Value:
    """A stride-1, same-size convolution whose columns are cyclic with wrap=1; zeros beyond the rows."""
    x, weight, *bias = e.inputs
    radius = extent(weight, 2) // 2
    if not (radius and attribute(e.node, "wrap")):
        return e.Conv(x, weight, *bias, pads=[radius] * 4)
    assert radius == 1, "an image may have one column only"
    return e.Conv(around(e, x, radius), weight, *bias, pads=[radius, 0, radius, 0])


def wrap_columns(e: Emitter) -> Value:
    """x with `margin` columns of the other end of the circle on both sides. least: columns that x has at least."""
    (x,) = e.inputs
    margin, least = attribute(e.node, "margin"), attribute(e.node, "least")
    return around(e, x, margin, least)


def around(e: Emitter, x: Value | None, margin: int, least: int = 1) -> Value:
    """`wrap_columns`. Builders make one kernel of either form; ONNX Runtime copies slices faster than it gathers."""
    if margin <= least:
        before, after = e.Slice(x, (-margin,), (2**31,), (3,)), e.Slice(x, (0,), (margin,), (3,))
        return e.Concat(before, x, after, axis=3)
    width = e.Squeeze(e.Shape(x, start=3, end=4), (0,))
    places = e.Range(e.scalar(-margin), e.Add(width, e.scalar(margin)), e.scalar(1))
    return e.Gather(x, e.Mod(places, width), axis=3)


def haar(e: Emitter) -> Value:
    """2x2 Haar transform or its inverse, as a strided convolution and its transpose: one kernel each."""
    (x,) = e.inputs
    assert x.dtype is not None
    inverse = attribute(e.node, "inverse")
    channels = extent(x, 1) // (4 if inverse else 1)
    weight = np.einsum("bp,cd->bcdp", BANDS, np.eye(channels)).reshape(4 * channels, channels, 2, 2)
    matrix = e.constant((weight if inverse else weight / 4).astype(x.dtype.numpy()))
    return (e.ConvTranspose if inverse else e.Conv)(x, matrix, strides=[2, 2])


def channel_norm(e: Emitter) -> Value:
    """Layer normalisation over the channels of each pixel."""
    x, weight, bias = e.inputs
    tokens = e.Transpose(x, perm=[0, 2, 3, 1])
    normed = e.LayerNormalization(tokens, weight, bias, axis=-1, epsilon=attribute(e.node, "epsilon"))
    return e.Transpose(normed, perm=[0, 3, 1, 2])


def window_mean(e: Emitter) -> Value:
    """Mean of each displaced window: half-window cells, moved by one cell where the windows are displaced."""
    (x,) = e.inputs
    window, shift, wrap = (attribute(e.node, name) for name in ("window", "shift", "wrap"))
    half = window // 2
    cells = e.AveragePool(x, kernel_shape=[half] * 2, strides=[half] * 2, ceil_mode=1, count_include_pad=0)
    height, width = e.sizes(cells, 2, 2)
    rows = axis_of(e, height, 2, shift // half, False).source
    columns = axis_of(e, width, 2, shift // half, bool(wrap)).source
    shown = e.Gather(e.Gather(cells, rows, axis=2), columns, axis=3)
    return e.AveragePool(shown, kernel_shape=[2, 2], strides=[2, 2])


def gelu(e: Emitter) -> Value:
    """x / 2 * (1 + erf(x / sqrt 2)), or the tanh form; the operator Gelu exists from opset 20 on."""
    (x,) = e.inputs
    assert x.dtype is not None

    def number(value: float) -> Value:
        return e.float(value, x.dtype)  # type: ignore[arg-type]

    if attribute(e.node, "approximate") == "tanh":
        inner = e.Add(x, e.Mul(e.Mul(e.Mul(x, x), x), number(0.044715)))
        gate = e.Tanh(e.Mul(inner, number(math.sqrt(2 / math.pi))))
    else:
        gate = e.Erf(e.Div(x, number(math.sqrt(2))))
    return e.Mul(x, e.Mul(e.Add(gate, number(1.0)), number(0.5)))


def distortion_map(e: Emitter) -> Value:
    """Cosine of the latitude of each row, (1,1,h,1) (dinn360.sphere.distortion_map)."""
    shape, *omitted = e.inputs
    height = e.split(shape, 4, 0)[2]
    rows = e.Add(e.cast(e.range(height), FLOAT), e.float(0.5))
    count = e.cast(height, FLOAT)
    if omitted:
        reduced = e.Div(e.cast(omitted[0], FLOAT), e.float(float(attribute(e.node, "reduction"))))
        above, below, between, at = e.split(reduced, 4, 0)
        beyond = e.Mul(e.cast(e.Greater(rows, at), FLOAT), between)
        rows, count = e.Add(e.Add(rows, beyond), above), e.Add(count, e.Add(e.Add(above, below), between))
    angle = e.Mul(e.Sub(e.Div(rows, count), e.float(0.5)), e.float(math.pi))
    return e.Reshape(e.Cos(angle), (1, 1, -1, 1))


def spread(e: Emitter) -> Value:
    """A map (1,1,h,1) on every column and image of a shape."""
    latitude, shape = e.inputs
    batch, _, height, width = e.split(shape, 4, 0)
    return e.Expand(latitude, e.shape(batch, 1, height, width))


def crop(e: Emitter) -> Value:
    """ceil(size * factor / divisor) rows and columns from column `left` on, for the sizes of a shape."""
    x, shape = e.inputs
    factor, divisor, left = (attribute(e.node, name) for name in ("factor", "divisor", "left"))
    _, _, height, width = e.split(shape, 4, 0)
    ends = e.Div(e.Add(e.Mul(e.Concat(height, width, axis=0), (factor,)), (divisor - 1,)), (divisor,))
    return e.Slice(x, (0, left), e.Add(ends, (0, left)) if left else ends, (2, 3))


def pad_to_multiple(e: Emitter) -> Value:
    """Extended to multiples: rows repeat the last one, columns continue around the circle, beyond by a margin."""
    (x,) = e.inputs
    multiple, margin = (attribute(e.node, name) for name in ("multiple", "margin"))
    height, width = e.sizes(x, 2, 2)
    tall, wide = [e.Mul(e.Div(e.Add(size, (multiple - 1,)), (multiple,)), (multiple,)) for size in (height, width)]
    if multiple > 1:  # no Gather: a builder drops a Pad by no rows or no columns
        below = e.Concat(e.ints(0), e.Sub(tall, height), axis=0)
        x = e.Pad(x, below, None, (2,), mode="edge")
    if not margin:
        return e.Pad(x, e.Concat(e.ints(0), e.Sub(wide, width), axis=0), None, (3,), mode="wrap")
    columns = e.Range(e.scalar(-margin), e.Squeeze(e.Add(wide, (margin,)), (0,)), e.scalar(1))
    return e.Gather(x, e.Mod(columns, width), axis=3)


def zeros(e: Emitter) -> Value:
    """Zeros of the batch and size of a shape."""
    (shape,) = e.inputs
    element = e.node.outputs[0].dtype
    assert element is not None
    batch, _, height, width = e.split(shape, 4, 0)
    return e.Expand(e.float(0.0, element), e.shape(batch, attribute(e.node, "channels"), height, width))


def pixel_unshuffle(e: Emitter) -> Value:
    """The inverse of DepthToSpace in its order CRD; SpaceToDepth has the other order only."""
    (x,) = e.inputs
    size = attribute(e.node, "blocksize")
    batch, channels, height, width = e.sizes(x)
    down, across = e.Div(height, (size,)), e.Div(width, (size,))
    split = e.Reshape(x, e.shape(batch, channels, down, size, across, size))
    turned = e.Transpose(split, perm=[0, 1, 3, 5, 2, 4])
    return e.Reshape(turned, e.shape(batch, e.Mul(channels, (size * size,)), down, across))


LAYERS = {
    "ChannelNorm": channel_norm,
    "Crop": crop,
    "DistortionMap": distortion_map,
    "Gelu": gelu,
    "Haar": haar,
    "PadToMultiple": pad_to_multiple,
    "PixelUnshuffle": pixel_unshuffle,
    "SphereConv2d": sphere_conv_2d,
    "Spread": spread,
    "WindowMean": window_mean,
    "WrapColumns": wrap_columns,
    "Zeros": zeros,
}
