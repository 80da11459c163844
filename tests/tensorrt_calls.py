"""Calls of the TensorRT plugins for tests: fields, and tensors as TensorRT would describe them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from kernels_cases import attention, convolution
from kernels_native import Array

from plugins.tensorrt.library import UnavailableError
from plugins.testing.driver import LINEAR, Library, Tensor

DEFORM_CONV: dict[str, Any] = dict(
    max_offset=3.0, wrap=1, strides=(1, 1), pads=(1, 1), dilations=(1, 1), group=1, offset_group=1
)
DST_ATTENTION: dict[str, Any] = dict(heads=2, window=4, shift=2, wrap=1)
FIELDS = {"DeformConv2d": DEFORM_CONV, "DSTAttention": DST_ATTENTION}
ACTIVATIONS = {"DeformConv2d": (0, 1, 4), "DSTAttention": (0, 1, 2)}  # and the output


def available(build: Callable[[], Any]) -> Any:
    """What `build` builds; skips the test where the machine lacks something for it."""
    try:
        return build()
    except UnavailableError as why:
        pytest.skip(str(why))


def call(
    name: str, arrays: Sequence[Array | None], format: int = LINEAR, *, y: Sequence[int] = (), open: Sequence[int] = ()
) -> list[Tensor]:
    """The inputs and the output of a call.

    arrays: in their logical shapes; `format` arranges the activations. y: the output's sizes, default those of the
    first input. open: the dimensions of activations that the network leaves open.
    """
    given = [array for array in arrays if array is not None]
    shared = [i in ACTIVATIONS[name] for i in range(len(given))]
    inputs = [Tensor.of(a, format, tuple(open)) if s else Tensor.of(a) for a, s in zip(given, shared, strict=True)]
    output = np.full(tuple(y) or given[0].shape, np.nan, given[0].dtype)
    return [*inputs, Tensor.of(output, format, tuple(open))]


def small(name: str, type_: Any, format: int = LINEAR, **options: Any) -> list[Tensor]:
    """A call with every input that the operator has; fits its FIELDS."""
    if name == "DeformConv2d":
        arrays, _ = convolution(type_, channels=8, out=16, size=(5, 9), mask=True, **options)
        return call(name, arrays, format, y=(1, 16, 5, 9))
    arrays, _ = attention(type_, heads=2, depth=8, size=(5, 9), window=4, **options)
    return call(name, arrays, format)


def convolution_fields(arrays: Sequence[Array | None], options: dict[str, Any]) -> dict[str, Any]:
    """The fields of a call that kernels_cases.convolution made."""
    _, offset, weight, *_ = arrays
    assert offset is not None and weight is not None
    return DEFORM_CONV | dict(
        wrap=int(options["wrap"]), strides=options["stride"], pads=options["pad"], dilations=options["dilation"],
        group=options["groups"], offset_group=offset.shape[1] // (2 * weight.shape[2] * weight.shape[3]),
    )  # fmt: skip


def aligned(size: int) -> Array:
    """Bytes that begin at a multiple of 256, as TensorRT's workspace does."""
    room = np.empty(size + 256, np.uint8)
    start = -room.ctypes.data % 256
    return room[start : start + size]


def walk(plugins: Library, name: str, fields: dict[str, Any], tensors: list[Tensor]) -> Array:
    """A plugin from its fields to its result, as the builder, the engine, the runtime and a context take it."""
    inputs = tensors[:-1]
    plugin = plugins.create(name, fields)
    assert plugin.output_type(inputs) == inputs[0].data.dtype
    assert plugin.output_shape(inputs)[0] == tensors[-1].dims
    built = plugin.clone()
    assert built.supports(tensors)
    built.configure(tensors)
    workspace = aligned(built.workspace_size(tensors))
    context = built.through_engine().attach()
    context.shape_change(tensors)
    context.enqueue(tensors, workspace)
    assert plugins.said() == ""
    return tensors[-1].array()
