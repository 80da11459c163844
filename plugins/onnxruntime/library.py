"""Builds libdinn360_ort.so with CMake: the operators for ONNX Runtime on CPU cores and, with nvcc, on NVIDIA GPUs."""

from __future__ import annotations

import functools
from pathlib import Path

from plugins.build import ROOT, BuildError, cmake
from plugins.cuda import library as kernels
from plugins.onnxruntime.headers import include_folder

NAME = "libdinn360_ort.so"
BUILD = ROOT / "build" / "onnxruntime"


@functools.cache
def build(cuda: bool = False) -> Path:
    """The library's path, built from the sources as they are.

    cuda: with the kernels for ONNX Runtime's CUDA provider; needs nvcc and takes minutes.
    Raises plugins.build.BuildError, one line, when something is missing or does not compile.
    """
    if cuda and (reason := kernels.missing()) is not None:
        raise BuildError(reason)
    folder = BUILD / ("cuda" if cuda else "cpu")
    parts = ["CPU", "ORT", *(["CUDA"] if cuda else [])]
    cmake(folder, parts, "dinn360_ort", f"-DDINN360_ORT_INCLUDE={include_folder()}")
    return folder / "onnxruntime" / NAME
