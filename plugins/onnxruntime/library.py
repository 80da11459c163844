"""libdinn360_ort.so: the operators for ONNX Runtime on CPU cores and, with nvcc, on NVIDIA GPUs."""

from __future__ import annotations

import functools
from pathlib import Path

from plugins import libraries
from plugins.build import FOLDER, BuildError, Show, cmake_library
from plugins.cuda import library as kernels

NAME = "libdinn360_ort.so"


def _built(cuda: bool) -> Path:
    """With CUDA in the kernels' folder: they are compiled once."""
    return (kernels.BUILD if cuda else FOLDER / "onnxruntime" / "cpu") / "onnxruntime" / NAME


def _parts(cuda: bool) -> list[str]:
    return ["CPU", "ORT", *(["CUDA"] if cuda else [])]


def find(cuda: bool = False) -> Path:
    """The library where the wheel or `python -m plugins build` put it.

    cuda: one with the kernels for ONNX Runtime's CUDA provider, which no wheel brings.
    Raises plugins.libraries.MissingLibraryError.
    """
    if not cuda:
        return libraries.find(NAME, _built(False), "--onnxruntime", _parts(False))
    lacking = f"no {NAME} with CUDA kernels on this machine"
    return libraries.find_built(_built(True), lacking, "--cuda", _parts(True))


@functools.cache
def build(cuda: bool = False, show: Show | None = None) -> Path:
    """The library's path, built from the sources as they are.

    cuda: with the kernels for ONNX Runtime's CUDA provider; needs nvcc and takes minutes. show: as `build.cmake`.
    Raises plugins.build.BuildError, one line, when something is missing or does not compile.
    """
    if cuda and (reason := kernels.missing()) is not None:
        raise BuildError(reason)
    path = _built(cuda)
    return cmake_library(path, path.parents[1], _parts(cuda), "dinn360_ort", show)
