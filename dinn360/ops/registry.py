"""Makes a function an operator of PyTorch, and keeps the kernels that stand in for composed definitions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

NAMESPACE = "dinn360"
_KERNELS: dict[tuple[str, str], Callable[..., Tensor]] = {}  # by operator and type of device


def register_kernel(operator: str, device: str, kernel: Callable[..., Tensor] | None) -> None:
    """What eager calls of an operator run on a type of device, for the whole process; None: its composed definition.

    kernel: takes what the operator takes, and has gradients.
    """
    if kernel is None:
        _KERNELS.pop((operator, device), None)
    else:
        _KERNELS[operator, device] = kernel


def implementation(operator: str, composed: Callable[..., Tensor], like: Tensor) -> Callable[..., Tensor]:
    """What a call with tensors like `like` runs: a single node when exporting, a registered kernel, or `composed`."""
    if torch.compiler.is_exporting():
        node: Callable[..., Tensor] = getattr(torch.ops.dinn360, operator)
        return node
    return _KERNELS.get((operator, like.device.type), composed)


def register_operator(name: str, schema: str, composed: Callable[..., Tensor], fake: Callable[..., Tensor]) -> None:
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
