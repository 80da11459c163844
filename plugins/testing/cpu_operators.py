"""Builds the CPU operators' test library with CMake and calls the operators on numpy arrays."""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path
from typing import Any

from plugins.build import FOLDER, cmake
from plugins.testing import native
from plugins.testing.native import Array

INSTRUCTION_SETS = ("portable", "avx2", "avx512", "neon")
BUILD = FOLDER / "cpu"


def build(target: str, folder: Path = BUILD, *options: str) -> Path:
    """Builds `target` of plugins/testing in `folder`; returns where it is. Raises plugins.build.BuildError."""
    cmake(folder, ["CPU"], target, *options)
    return folder / "testing"


@functools.cache
def load() -> ctypes.CDLL:
    """The test library. Raises plugins.build.BuildError."""
    library = ctypes.CDLL(str(build("dinn360_cpu_test") / "libdinn360_cpu_test.so"))
    for operator in ("deform_conv", "dst_attention"):
        call = getattr(library, f"dinn360_cpu_{operator}")
        call.restype = ctypes.c_char_p
        call.argtypes = (ctypes.c_void_p, ctypes.c_int32, ctypes.c_char_p, ctypes.c_void_p)
        size = getattr(library, f"dinn360_cpu_{operator}_workspace")
        size.restype = ctypes.c_size_t
        size.argtypes = (ctypes.c_void_p, ctypes.c_int32, ctypes.c_char_p)
    library.dinn360_cpu_instruction_set.restype = ctypes.c_char_p
    library.dinn360_cpu_instruction_set.argtypes = (ctypes.c_char_p,)
    return library


def instruction_sets() -> list[str]:
    """Those of INSTRUCTION_SETS that this CPU has."""
    return [name for name in INSTRUCTION_SETS if load().dinn360_cpu_instruction_set(name.encode()) is not None]


class Call:
    """One call of an operator, ready to be repeated.

    operator: "deform_conv" or "dst_attention"; params, y, keep: as from `native`; instruction_set: None for the best.
    """

    def __init__(
        self,
        operator: str,
        params: native.DeformConvParams | native.DstAttentionParams,
        y: Array,
        keep: list[Array | None],
        threads: int = 1,
        instruction_set: str | None = None,
    ) -> None:
        self.y, self._keep, self._params = y, keep, params
        name = None if instruction_set is None else instruction_set.encode()
        self._arguments = (ctypes.addressof(params), threads, name)
        self._call = getattr(load(), f"dinn360_cpu_{operator}")
        self._size = getattr(load(), f"dinn360_cpu_{operator}_workspace")

    def workspace_size(self) -> int:
        """Bytes of workspace; only of a call that can run."""
        return self._size(*self._arguments)

    def __call__(self, workspace: Array | None = None) -> Array:
        """y (B,C,H,W) of this call. Raises ValueError for what the operator refuses."""
        why = self._call(*self._arguments, None if workspace is None else workspace.ctypes.data)
        if why is not None:
            raise ValueError(why.decode())
        return self.y


def deform_conv(*arrays: Array | None, threads: int = 1, instruction_set: str | None = None, **options: Any) -> Array:
    """The deformable convolution (B,O,Ho,Wo); arrays and options as `native.deform_conv_params`."""
    params, y, keep = native.deform_conv_params(*arrays, **options)  # type: ignore[arg-type]
    return Call("deform_conv", params, y, keep, threads, instruction_set)()


def dst_attention(*arrays: Array | None, threads: int = 1, instruction_set: str | None = None, **options: Any) -> Array:
    """The DST attention (B,C,H,W); arrays and options as `native.dst_attention_params`."""
    params, y, keep = native.dst_attention_params(*arrays, **options)  # type: ignore[arg-type]
    return Call("dst_attention", params, y, keep, threads, instruction_set)()
