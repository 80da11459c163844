"""Builds the emulator's libraries with CMake and calls the kernels in them on numpy arrays."""

from __future__ import annotations

import ctypes
import functools
from typing import Any

import numpy as np

from plugins.build import FOLDER, cmake
from plugins.testing import native
from plugins.testing.native import Array

BUILD = FOLDER / "emulator"
_COUNTS = (
    "launches", "blocks", "threads", "load_requests", "load_sectors", "load_bytes",
    "store_requests", "store_sectors", "store_bytes", "shared_requests", "shared_wavefronts", "shared_conflicts",
    "barriers", "shuffles", "matrix_products",
)  # fmt: skip
_TRAFFIC = ("bytes", "load_sectors", "store_sectors", "block_sectors", "launch_sectors", "stored_sectors")


class KernelError(Exception):
    """What the emulator found wrong in a kernel; the message names kernel, block, thread and source line."""


class TensorTraffic(ctypes.Structure):
    """dinn360::EmulatorTensor."""

    _fields_ = [("name", ctypes.c_char * 16), *((name, ctypes.c_uint64) for name in _TRAFFIC)]


class Report(ctypes.Structure):
    """dinn360::EmulatorReport: see plugins/testing/emulator/report.h for each count."""

    _fields_ = [
        *((name, ctypes.c_uint64) for name in _COUNTS),
        ("tensors", TensorTraffic * 8),
        ("error", ctypes.c_char * 512),
    ]

    def message(self) -> str:
        """The first fault, or an empty string."""
        return bytes(self.error).decode()

    def by_tensor(self) -> dict[str, TensorTraffic]:
        """The traffic of each tensor of the call, by its name in the parameters; and of the workspace."""
        return {tensor.name.decode(): tensor for tensor in self.tensors if tensor.name}


@functools.cache
def load(name: str) -> ctypes.CDLL:
    """lib<name>.so of the emulator, built once for a process from the sources as they are. Raises BuildError."""
    cmake(BUILD, ["EMULATOR"], name)
    return ctypes.CDLL(str(BUILD / "testing" / "emulator" / f"lib{name}.so"))


def deform_conv(*arrays: Array | None, **options: Any) -> tuple[Array, Report]:
    """The deformable convolution; arguments as `native.deform_conv_params`. y: (B,O,Ho,Wo).

    Raises KernelError for what the emulator finds, ValueError for a call that the kernel refuses.
    """
    params, y, _keep = native.deform_conv_params(*arrays, **options)  # type: ignore[arg-type]
    return _call("dinn360_emulated_deform_conv", params, y, params.out_channels)


def dst_attention(*arrays: Array | None, **options: Any) -> tuple[Array, Report]:
    """The DST attention; arguments as `native.dst_attention_params`. y: (B,C,H,W). Raises as `deform_conv`."""
    params, y, _keep = native.dst_attention_params(*arrays, **options)  # type: ignore[arg-type]
    return _call("dinn360_emulated_dst_attention", params, y, params.channels)


def _call(function: str, params: Any, y: Array, channels: int) -> tuple[Array, Report]:
    report = Report()
    call = getattr(load("dinn360_emulated"), function)
    call.restype = ctypes.c_char_p
    why = call(ctypes.byref(params), ctypes.byref(report))
    if why is not None:
        raise ValueError(why.decode())
    if report.message():
        raise KernelError(report.message())
    if params.layout != native.LINEAR:
        if np.any(y[..., channels:]):
            raise KernelError("the channels that fill y up to a multiple of 8 are not zero")
        y = native.from_hwc8(y, channels)
    return y, report
