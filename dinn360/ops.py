"""The two deformable operators, each one function, one `torch.library` operator and one plain reference.

An exporter sees `dinn360::deform_conv2d` and `dinn360::dst_attention` as single nodes; eager PyTorch, autograd and
torch.compile run their composed definition below, which samples all taps by one `grid_sample` and multiplies by one
matrix product (the training command has faster kernels for CPU cores: dinn360.native). Sampling coordinates are never
below fp32: at 16 bits they would step by whole pixels on wide panoramas.

Both act on the sphere: with `wrap` the column of a sample is taken modulo W, so no padded copy is part of the schema.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dinn360.sphere import conv2d, cyclic

NAMESPACE = "dinn360"


def sphere_conv2d(x: Tensor, weight: Tensor, bias: Tensor, wrap: bool) -> Tensor:
    """sphere.conv2d as one node for exporters (slices of symbolic width make a trace slow). x: (B,C,H,W)."""
    return (
        torch.ops.dinn360.sphere_conv2d(x, weight, bias, wrap)
        if torch.compiler.is_exporting()
        else conv2d(x, weight, bias, wrap)
    )


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
    run = torch.ops.dinn360.deform_conv2d if torch.compiler.is_exporting() else _deform_conv2d
    return run(x, offset, weight, bias, mask, max_offset, wrap)


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
    run = torch.ops.dinn360.dst_attention if torch.compiler.is_exporting() else _dst_attention
    return run(q, k, v, scale, offset, bias, window, shift, wrap)


def _sample(image: Tensor, rows: Tensor, columns: Tensor, wrap: bool, padding_mode: str) -> Tensor:
    """Bilinear samples of image (N,C,H,W) at pixel positions rows, columns (N,h,w): (N,C,h,w)."""
    height, width = image.shape[-2:]
    if wrap:
        columns = columns.remainder(width)
        image = torch.cat([image, image[..., :1]], dim=-1)
        width = width + 1
    grid = torch.stack([(2 * columns + 1) / width - 1, (2 * rows + 1) / height - 1], dim=-1)
    return F.grid_sample(image.to(grid.dtype), grid, mode="bilinear", padding_mode=padding_mode, align_corners=False)


def _coordinate_dtype(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def _deform_conv2d(
    x: Tensor, offset: Tensor, weight: Tensor, bias: Tensor, mask: Tensor | None, max_offset: float, wrap: bool
) -> Tensor:
    batch, channels, height, width = x.shape
    kernel = weight.shape[-1]
    taps = kernel * kernel
    groups = offset.shape[1] // (2 * taps)
    dtype = _coordinate_dtype(x)
    reach = torch.arange(kernel, device=x.device, dtype=dtype) - kernel // 2
    tap_row, tap_column = reach.repeat_interleave(kernel), reach.repeat(kernel)
    offset_BGT2HW = offset.to(dtype).reshape(batch, groups, taps, 2, height, width)
    row = torch.arange(height, device=x.device, dtype=dtype)[:, None] + tap_row[:, None, None]
    column = torch.arange(width, device=x.device, dtype=dtype) + tap_column[:, None, None]
    rows = (offset_BGT2HW[:, :, :, 0] + row).reshape(batch * groups, taps * height, width)
    columns = (offset_BGT2HW[:, :, :, 1] + column).reshape(batch * groups, taps * height, width)
    image = x.reshape(batch * groups, channels // groups, height, width)
    taps_BCTHW = _sample(image, rows, columns, wrap, "zeros").reshape(
        batch, groups, channels // groups, taps, height * width
    )
    if mask is not None:
        taps_BCTHW = taps_BCTHW * mask.to(dtype).reshape(batch, groups, 1, taps, height * width)
    matrix = taps_BCTHW.reshape(batch, channels * taps, height * width).to(x.dtype)
    out = torch.matmul(weight.reshape(weight.shape[0], channels * taps).to(x.dtype), matrix)
    return out.reshape(batch, -1, height, width) + bias.to(x.dtype)[:, None, None]


def window_index(size: int, window: int, shift: int, wrap: bool, device: torch.device) -> Tensor:
    """Source pixel of each position of the displaced windows along one axis, int64 (ceil(size/window)*window,)."""
    padded = (size + window - 1) // window * window
    index = cyclic(torch.arange(padded, device=device) + shift, padded)
    return cyclic(index, size) if wrap else index.clamp(max=size - 1)


def _regions(size: int, window: int, shift: int, masked: bool, device: torch.device) -> Tensor:
    """0 or 1 for each position of the displaced windows: 1 where the displacement ran past the end. (padded,)"""
    padded = (size + window - 1) // window * window
    return ((torch.arange(padded, device=device) + shift) >= padded).long() * int(masked)


def _dst_attention(
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
    dtype = _coordinate_dtype(q)
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
    sampled = _sample(image, row.reshape(shape), column.reshape(shape), wrap, "border")
    sampled = sampled.reshape(batch, heads, depth, down * across, window * window).permute(0, 3, 1, 4, 2)
    return sampled.reshape(batch * down * across, heads, window * window, depth)


def _register(name: str, schema: str, composed: Callable[..., Tensor], fake: Callable[..., Tensor]) -> None:
    """Makes `composed` the operator dinn360::name, opaque to tracers.

    Its gradient recomputes the composed definition; eager code calls that definition directly and keeps what it needs.
    """

    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.places = [i for i, value in enumerate(inputs) if isinstance(value, Tensor)]
        ctx.others = [None if isinstance(value, Tensor) else value for value in inputs]
        ctx.save_for_backward(*(inputs[i] for i in ctx.places))

    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        inputs = list(ctx.others)
        for place, tensor in zip(ctx.places, ctx.saved_tensors, strict=True):
            inputs[place] = tensor.detach().requires_grad_(ctx.needs_input_grad[place])
        wanted = [place for place in ctx.places if ctx.needs_input_grad[place]]
        with torch.enable_grad():
            grads = torch.autograd.grad(composed(*inputs), [inputs[place] for place in wanted], grad, allow_unused=True)
        found = dict(zip(wanted, grads, strict=True))
        return tuple(found.get(place) for place in range(len(inputs)))

    operator = torch.library.custom_op(f"{NAMESPACE}::{name}", composed, mutates_args=(), schema=schema)
    operator.register_fake(fake)
    operator.register_autograd(backward, setup_context=setup_context)


_register(
    "sphere_conv2d",
    "(Tensor x, Tensor weight, Tensor bias, bool wrap) -> Tensor",
    conv2d,
    lambda x, weight, *_: x.new_empty(x.shape[0], weight.shape[0], x.shape[2], x.shape[3]),
)
_register(
    "deform_conv2d",
    "(Tensor x, Tensor offset, Tensor weight, Tensor bias, Tensor? mask, float max_offset, bool wrap) -> Tensor",
    _deform_conv2d,
    lambda x, offset, weight, *_: x.new_empty(x.shape[0], weight.shape[0], x.shape[2], x.shape[3]),
)
_register(
    "dst_attention",
    "(Tensor q, Tensor k, Tensor v, Tensor? scale, Tensor? offset, Tensor bias, int window, int shift, bool wrap)"
    " -> Tensor",
    _dst_attention,
    lambda q, *_: q.new_empty(q.shape),
)
