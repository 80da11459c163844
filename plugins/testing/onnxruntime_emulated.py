"""ONNX Runtime's GPU operators without a GPU: the CUDA part over emulated kernels and a CUDA runtime on host memory."""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path

from plugins.build import cmake
from plugins.testing.emulator import library as emulator


class Counts(ctypes.Structure):
    """What the stand-in's functions saw; cuda_standin/runtime.cpp.

    held, held_in_order: allocations of cudaMalloc and cudaMallocAsync that are not freed. made, made_in_order: since
    the start. device: the current one. made_on: the current one at the last cudaMalloc. constants_on: where the graph's
    constants lie.
    """

    _fields_ = [
        (name, ctypes.c_int)
        for name in ("held", "held_in_order", "made", "made_in_order", "device", "made_on", "constants_on")
    ]


@functools.cache
def build() -> Path:
    """The library, for ONNX Runtime's CPU provider. Raises BuildError."""
    cmake(emulator.BUILD, ["EMULATOR"], "dinn360_ort_emulated")
    return emulator.BUILD / "testing" / "libdinn360_ort_emulated.so"


def counts() -> Counts:
    """The stand-in's own counts, which may be changed."""
    function = ctypes.CDLL(str(build())).dinn360_standin_counts
    function.restype = ctypes.POINTER(Counts)
    return function().contents
