"""libdinn360_training.so: the training operators, called on memory that the caller owns."""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path

from plugins import libraries
from plugins.build import FOLDER, Show, cmake_library

NAME = "libdinn360_training.so"
BUILD = FOLDER / "cpu"
_INT, _POINTER = ctypes.c_int32, ctypes.c_void_p


class DeformConvTraining(ctypes.Structure):
    """dinn360::training::DeformConvTraining (params.h): addresses of dense fp32 tensors, channels last, and sizes."""

    _fields_ = [
        *((name, _POINTER) for name in ("x", "offset", "weight", "bias", "mask", "y")),
        *((name, _POINTER) for name in ("grad_y", "grad_x", "grad_offset", "grad_weight", "grad_bias", "grad_mask")),
        *((name, _INT) for name in ("batch", "channels", "height", "width")),
        *((name, _INT) for name in ("out_channels", "kernel", "offset_groups", "wrap")),
        ("max_offset", ctypes.c_float),
    ]


def build(show: Show | None = None) -> Path:
    """The library's path, built from the sources as they are. show: as `build.cmake`. Raises BuildError."""
    return cmake_library(BUILD / "cpu" / NAME, BUILD, ["CPU"], "dinn360_training", show)


@functools.cache
def load() -> ctypes.CDLL:
    """The library where the wheel or `python -m plugins build` put it. Raises plugins.libraries.MissingLibraryError."""
    library = ctypes.CDLL(str(libraries.find(NAME, BUILD / "cpu" / NAME, "--cpu", ["CPU"])))
    for name in ("forward", "backward"):
        call = getattr(library, f"dinn360_training_{name}")
        call.restype = ctypes.c_char_p
        call.argtypes = (ctypes.c_void_p, ctypes.c_int32, ctypes.c_char_p)
    return library


def forward(params: DeformConvTraining, threads: int, instruction_set: str | None = None) -> None:
    """Writes y. instruction_set: as in plugins/cpu/dispatch.h. Raises ValueError for what the operator refuses."""
    _call("forward", params, threads, instruction_set)


def backward(params: DeformConvTraining, threads: int, instruction_set: str | None = None) -> None:
    """Writes the gradients from grad_y; the rest as `forward`."""
    _call("backward", params, threads, instruction_set)


def _call(name: str, params: DeformConvTraining, threads: int, instruction_set: str | None) -> None:
    set_name = None if instruction_set is None else instruction_set.encode()
    why = getattr(load(), f"dinn360_training_{name}")(ctypes.addressof(params), threads, set_name)
    if why is not None:
        raise ValueError(why.decode())
