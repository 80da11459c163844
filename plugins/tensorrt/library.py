"""Builds the TensorRT plugin library."""

from __future__ import annotations

import functools
import hashlib
import sys
from pathlib import Path

from plugins.build import ROOT, BuildError, cmake
from plugins.cuda import library as kernels


class UnavailableError(Exception):
    """What this machine lacks to build a library."""


@functools.cache
def build(folder: Path, part: str, target: str) -> None:
    """Builds `target`, the plugins over this part's kernels, in `folder` with the kernels: each is compiled once."""
    try:
        cmake(folder, [part, "TENSORRT"], target, f"-DPython3_EXECUTABLE={sys.executable}")
    except BuildError as error:
        _, missing, what = str(error).partition("DINN360_TENSORRT: ")  # as headers.cmake says it
        if missing:
            raise UnavailableError(what) from error
        raise


def kernels_revision() -> str:
    """Twelve hexadecimal digits of the kernels' sources, which the library's timing cache keys carry."""
    folder = ROOT / "plugins"
    sources = [folder / "params.h", *(p for kind in ("cu", "cuh", "h") for p in folder.glob(f"cuda/*.{kind}"))]
    digests = sorted(f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}" for path in sources)
    return hashlib.sha256(";".join(digests).encode()).hexdigest()[:12]


def product() -> Path:
    """libdinn360_trt.so with the CUDA kernels. Raises UnavailableError, BuildError."""
    if why := kernels.missing():
        raise UnavailableError(why)
    build(kernels.BUILD, "CUDA", "dinn360_trt")
    return kernels.BUILD / "tensorrt" / "libdinn360_trt.so"
