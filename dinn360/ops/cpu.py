"""The deformable convolution of training as C++ kernels for CPU cores (plugins/cpu/training): one autograd function.

Its gradients are those of autograd through the composed definition. At whole coordinates, where a bilinear sample has
two slopes, it takes the one towards the next row and column, as grid_sample does; there the composed definition is at
the mercy of rounding.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from dinn360.ops import deform_conv
from dinn360.ops.registry import register_kernel
from engines.support.errors import UserError
from plugins.cpu.training import library
from plugins.libraries import MissingLibraryError

KERNELS = ("auto", "native", "composed")


def choose_kernels(kernels: str) -> str:
    """Takes one of KERNELS for the deformable convolutions of this process; returns one line that tells what will run.

    auto: the C++ kernels where their library is, else the composed definition. Raises UserError when `native` cannot.
    """
    composed = "deformable convolutions: composed of PyTorch's operators"
    register_kernel("deform_conv2d", "cpu", None)
    if kernels == "composed":
        return composed
    try:
        library.load()
    except MissingLibraryError as error:
        if kernels == "native":
            raise UserError(f"native: {error}", "kernels") from None
        return f"{composed} ({error})"
    register_kernel("deform_conv2d", "cpu", deform_conv2d)
    return "deformable convolutions: C++ kernels for CPU cores"


def deform_conv2d(
    x: Tensor, offset: Tensor, weight: Tensor, bias: Tensor, mask: Tensor | None, max_offset: float, wrap: bool
) -> Tensor:
    """`ops.deform_conv2d` by the C++ kernels, channels last. What they do not know is composed as ever.

    They know eager fp32 on the CPU; 16-bit tensors are widened. Equal calls give equal bits, on any number of threads.
    """
    if x.dtype == torch.float64 or x.device.type != "cpu" or torch.compiler.is_compiling():
        return deform_conv.composed(x, offset, weight, bias, mask, max_offset, wrap)
    tensors = [None if t is None else t.float() for t in (x, offset, weight, bias, mask)]
    return _DeformConv2d.apply(*tensors, max_offset, wrap).to(x.dtype)


def _channels_last(tensor: Tensor) -> Tensor:
    return tensor.contiguous(memory_format=torch.channels_last)


def _like(tensor: Tensor) -> Tensor:
    return torch.empty_like(tensor, memory_format=torch.channels_last)


class _DeformConv2d(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        offset: Tensor,
        weight: Tensor,
        bias: Tensor,
        mask: Tensor | None,
        max_offset: float,
        wrap: bool,
    ) -> Tensor:
        x, offset, weight = map(_channels_last, (x, offset, weight))
        bias = bias.contiguous()
        mask = None if mask is None else _channels_last(mask)
        batch, _, height, width = x.shape
        shape = (batch, weight.shape[0], height, width)
        y = torch.empty(shape, dtype=x.dtype, memory_format=torch.channels_last)
        ctx.options = (max_offset, wrap)
        ctx.save_for_backward(x, offset, weight, bias, mask)
        library.forward(_params(ctx.options, x, offset, weight, bias, mask, y=y), torch.get_num_threads())
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        x, offset, weight, bias, mask = ctx.saved_tensors
        grads = {
            "grad_x": _like(x),
            "grad_offset": _like(offset),
            "grad_weight": _like(weight),
            "grad_bias": torch.empty_like(bias),
            "grad_mask": None if mask is None else _like(mask),
        }
        grad_y = _channels_last(grad_y)
        params = _params(ctx.options, x, offset, weight, bias, mask, grad_y=grad_y, **grads)
        library.backward(params, torch.get_num_threads())
        return (*grads.values(), None, None)


def _params(
    options: tuple[float, bool],
    x: Tensor,
    offset: Tensor,
    weight: Tensor,
    bias: Tensor,
    mask: Tensor | None,
    **written: Tensor | None,
) -> library.DeformConvTraining:
    """The parameters of one call on these tensors, which the caller keeps alive."""
    max_offset, wrap = options
    batch, channels, height, width = x.shape
    kernel = weight.shape[-1]
    tensors = {"x": x, "offset": offset, "weight": weight, "bias": bias, "mask": mask, **written}
    return library.DeformConvTraining(
        **{name: tensor.data_ptr() for name, tensor in tensors.items() if tensor is not None},
        batch=batch,
        channels=channels,
        height=height,
        width=width,
        out_channels=weight.shape[0],
        kernel=kernel,
        offset_groups=offset.shape[1] // (2 * kernel * kernel),
        wrap=int(wrap),
        max_offset=max_offset,
    )
