"""Deformable convolution: samples all taps by one `grid_sample` and multiplies by one matrix product."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor

from dinn360.ops.registry import implementation, register_operator
from dinn360.ops.sampling import bilinear_sample, bilinear_samples, coordinate_dtype


def deform_conv2d(
    x: Tensor, offset: Tensor, weight: Tensor, bias: Tensor, mask: Tensor | None, max_offset: float, wrap: bool
) -> Tensor:
    """Deformable convolution (DCNv1; DCNv2 when `mask` is given), stride 1, same size.

    x: (B,C,H,W). weight: (O,C,k,k), k odd. bias: (O,).
    offset: (B,2*G*k*k,H,W) in pixels, ordered [offset group, tap, (row, column)] as in torchvision and ONNX DeformConv,
        every value in [-max_offset, max_offset] (the caller clamps; lowerings use the bound as a padding margin).
    mask: None or (B,G*k*k,H,W). Samples beyond the first and last row are zero; columns wrap or, without `wrap`,
    are zero outside too. Returns (B,O,H,W) in the dtype of x.
    """
    return implementation("deform_conv2d", composed, x)(x, offset, weight, bias, mask, max_offset, wrap)


def composed(
    x: Tensor, offset: Tensor, weight: Tensor, bias: Tensor, mask: Tensor | None, max_offset: float, wrap: bool
) -> Tensor:
    batch, channels, height, width = x.shape
    kernel = weight.shape[-1]
    taps = kernel * kernel
    groups = offset.shape[1] // (2 * taps)
    dtype = coordinate_dtype(x)
    reach = torch.arange(kernel, device=x.device, dtype=dtype) - kernel // 2
    tap_row, tap_column = reach.repeat_interleave(kernel), reach.repeat(kernel)
    offset_BGT2HW = offset.to(dtype).reshape(batch, groups, taps, 2, height, width)
    row = torch.arange(height, device=x.device, dtype=dtype)[:, None] + tap_row[:, None, None]
    column = torch.arange(width, device=x.device, dtype=dtype) + tap_column[:, None, None]
    rows = (offset_BGT2HW[:, :, :, 0] + row).reshape(batch * groups, taps * height, width)
    columns = (offset_BGT2HW[:, :, :, 1] + column).reshape(batch * groups, taps * height, width)
    image = x.reshape(batch * groups, channels // groups, height, width)
    taps_BCTHW = bilinear_samples(image, rows, columns, wrap, "zeros").reshape(
        batch, groups, channels // groups, taps, height * width
    )
    if mask is not None:
        taps_BCTHW = taps_BCTHW * mask.to(dtype).reshape(batch, groups, 1, taps, height * width)
    matrix = taps_BCTHW.reshape(batch, channels * taps, height * width).to(x.dtype)
    out = torch.matmul(weight.reshape(weight.shape[0], channels * taps).to(x.dtype), matrix)
    return out.reshape(batch, -1, height, width) + bias.to(x.dtype)[:, None, None]


def reference(
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
    """The plain reference: one pixel and one tap at a time, in fp64. (B,O,H,W) in the dtype of x; slow.

    `max_offset` changes nothing.

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
                sample = bilinear_sample(part, row, column, wrap) if finite else torch.zeros_like(part[:, 0, 0])
                samples.append(sample if mask is None else sample * mask[b, group * taps + tap, i, j].double())
            sampled = torch.cat(samples)
            for group in range(groups):
                mine = slice(group * outputs, (group + 1) * outputs)
                seen = sampled[group * per_group : (group + 1) * per_group]
                out[b, mine, i, j] += weights[mine, :, tap_row, tap_column] @ seen
    return out.to(x.dtype)


register_operator(
    "deform_conv2d",
    "(Tensor x, Tensor offset, Tensor weight, Tensor bias, Tensor? mask, float max_offset, bool wrap) -> Tensor",
    composed,
    lambda x, offset, weight, *_: x.new_empty(x.shape[0], weight.shape[0], x.shape[2], x.shape[3]),
)
