"""The operators' parameter structures (plugins/params.h) for ctypes, filled from numpy arrays."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
LINEAR, HWC8, HWC = 0, 1, 2
_TYPES = {np.dtype(np.float32): 0, np.dtype(np.float16): 1}
_INT, _POINTER = ctypes.c_int32, ctypes.c_void_p


class DeformConvParams(ctypes.Structure):
    """dinn360::DeformConvParams."""

    _fields_ = [
        *((name, _POINTER) for name in ("x", "offset", "weight", "bias", "mask", "y")),
        *((name, _INT) for name in ("batch", "channels", "height", "width")),
        *((name, _INT) for name in ("out_channels", "out_height", "out_width", "kernel_rows", "kernel_columns")),
        *((name, _INT) for name in ("stride_row", "stride_column", "pad_row", "pad_column")),
        *((name, _INT) for name in ("dilation_row", "dilation_column", "groups", "offset_groups")),
        *((name, _INT) for name in ("wrap", "type", "layout")),
    ]


class DstAttentionParams(ctypes.Structure):
    """dinn360::DstAttentionParams."""

    _fields_ = [
        *((name, _POINTER) for name in ("q", "k", "v", "bias", "scale", "offset", "y")),
        *((name, _INT) for name in ("batch", "channels", "height", "width", "heads", "window", "shift")),
        *((name, _INT) for name in ("wrap", "type", "layout")),
    ]


def _address(array: Array | None) -> int | None:
    if array is None:
        return None
    if not array.flags.c_contiguous:
        raise ValueError("expected a C-contiguous array")
    return array.ctypes.data


def to_hwc8(x: Array) -> Array:
    """(B,C,H,W) to (B,H,W,8*ceil(C/8)), zeros beyond C."""
    batch, channels, height, width = x.shape
    out = np.zeros((batch, height, width, -(-channels // 8) * 8), x.dtype)
    out[..., :channels] = x.transpose(0, 2, 3, 1)
    return out


def from_hwc8(x: Array, channels: int) -> Array:
    """The inverse of `to_hwc8`, and of HWC."""
    return np.ascontiguousarray(x[..., :channels].transpose(0, 3, 1, 2))


def arranged(x: Array, layout: int) -> Array:
    """(B,C,H,W) as it lies in memory in a layout."""
    if layout == HWC8:
        return to_hwc8(x)
    return np.ascontiguousarray(x if layout == LINEAR else x.transpose(0, 2, 3, 1))


def deform_conv_params(
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
    layout: int = LINEAR,
) -> tuple[DeformConvParams, Array, list[Array | None]]:
    """Parameters of one call, its y (B,O,Ho,Wo) in `layout`, and the arrays to keep alive meanwhile.

    All arrays are given as (B,C,H,W); `layout` rearranges the activations. pad: default dilation*(k//2), same size.
    y is filled with NaN, so that what a kernel does not write is seen.
    """
    batch, channels, height, width = x.shape
    out_channels, _, rows, columns = weight.shape
    pad = (dilation[0] * (rows // 2), dilation[1] * (columns // 2)) if pad is None else pad
    out_height = (height + 2 * pad[0] - dilation[0] * (rows - 1) - 1) // stride[0] + 1
    out_width = (width + 2 * pad[1] - dilation[1] * (columns - 1) - 1) // stride[1] + 1
    if offset.shape[2:] != (out_height, out_width):
        raise ValueError(f"offset: expected {out_height}x{out_width} pixels, found {offset.shape}")
    y = arranged(np.empty((batch, out_channels, out_height, out_width), x.dtype), layout)
    y.fill(np.nan)
    keep = [
        arranged(x, layout),
        arranged(offset, layout),
        np.ascontiguousarray(weight),
        np.ascontiguousarray(bias),
        None if mask is None else arranged(mask, layout),
    ]
    params = DeformConvParams(
        *map(_address, keep), y.ctypes.data,
        batch, channels, height, width, out_channels, out_height, out_width, rows, columns,
        *stride, *pad, *dilation, groups, offset.shape[1] // (2 * rows * columns),
        int(wrap), _TYPES[x.dtype], layout,
    )  # fmt: skip
    return params, y, keep


def dst_attention_params(
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
    layout: int = LINEAR,
) -> tuple[DstAttentionParams, Array, list[Array | None]]:
    """Parameters of one call, its y in `layout` (filled with NaN), and the arrays to keep alive meanwhile."""
    batch, channels, height, width = q.shape
    keep: list[Array | None] = [*(arranged(a, layout) for a in (q, k, v)), np.ascontiguousarray(bias)]
    keep += [None if a is None else np.ascontiguousarray(a) for a in (scale, offset)]
    y = np.full(keep[0].shape, np.nan, q.dtype)  # type: ignore[union-attr]
    params = DstAttentionParams(
        *map(_address, keep), y.ctypes.data,
        batch, channels, height, width, bias.shape[0], window, shift, int(wrap), _TYPES[q.dtype], layout,
    )  # fmt: skip
    return params, y, keep
