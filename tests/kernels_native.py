"""The kernels on the SIMT emulator for tests, which are skipped where it cannot be built."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from plugins import build
from plugins.testing.emulator import library

Array = NDArray[Any]
WHY_NOT = build.missing()
needs_compiler = pytest.mark.skipif(WHY_NOT is not None, reason=f"the emulator cannot be built: {WHY_NOT}")


def self_test(
    kernel: str, values: Array, size: int, *, broken: bool = False, whole: bool = False
) -> tuple[Array, library.Report]:
    """Runs a kernel of the self-test on fp32 `values`: its `size` outputs (NaN where it wrote none) and the report."""
    inputs = np.ascontiguousarray(values, np.float32)
    outputs = np.full(size, np.nan, np.float32)
    report = library.Report()
    pointer = ctypes.POINTER(ctypes.c_float)
    function = library.load("dinn360_emulator_self_test").dinn360_emulator_self_test
    function.restype = ctypes.c_char_p
    why = function(
        kernel.encode(), int(broken), inputs.ctypes.data_as(pointer), inputs.size,
        outputs.ctypes.data_as(pointer), size, int(whole), ctypes.byref(report),
    )  # fmt: skip
    assert why is None, why
    return outputs, report
