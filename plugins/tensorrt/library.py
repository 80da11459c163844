"""Builds the TensorRT plugin libraries: with the CUDA kernels, and for tests with the emulated ones."""

from __future__ import annotations

import functools
import sys
from pathlib import Path

from plugins.build import BuildError, cmake, missing
from plugins.emulator import library as emulator
from plugins.kernels import library as kernels


class UnavailableError(Exception):
    """What this machine lacks to build a library."""


@functools.cache
def _built(folder: Path, part: str, target: str) -> Path:
    """The folder of the libraries, built where this part's kernels are built, which are therefore compiled once."""
    try:
        cmake(folder, [part, "TENSORRT"], target, f"-DPython3_EXECUTABLE={sys.executable}")
    except BuildError as error:
        _, missing, what = str(error).partition("DINN360_TENSORRT: ")  # as headers.cmake says it
        if missing:
            raise UnavailableError(what) from error
        raise
    return folder / "tensorrt"


def product() -> Path:
    """libdinn360_trt.so with the CUDA kernels. Raises UnavailableError, BuildError."""
    if why := kernels.missing():
        raise UnavailableError(why)
    return _built(kernels.BUILD, "CUDA", "dinn360_trt") / "libdinn360_trt.so"


def emulated_path() -> Path:
    """libdinn360_trt_emulated.so, and beside it the driver. Raises UnavailableError, BuildError."""
    if why := missing():
        raise UnavailableError(why)
    return _built(emulator.BUILD, "EMULATOR", "dinn360_trt_driver") / "libdinn360_trt_emulated.so"
