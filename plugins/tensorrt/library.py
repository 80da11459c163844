"""libdinn360_trt.so: the operators as TensorRT plugins."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

from plugins.build import SOURCES, BuildError, Show, cmake
from plugins.cuda import library as kernels
from plugins.tensorrt.headers import include_folder


class UnavailableError(Exception):
    """What this machine lacks to build a library."""


@functools.cache
def build(folder: Path, part: str, target: str, show: Show | None = None) -> None:
    """Builds `target`, the plugins over this part's kernels, in `folder` with the kernels: each is compiled once.

    Raises UnavailableError for headers that are not to be had, else BuildError. show: as `plugins.build.cmake`.
    """
    try:
        headers = include_folder(show)
    except BuildError as error:
        raise UnavailableError(str(error)) from error
    try:
        cmake(folder, [part, "TENSORRT"], target, f"-DDINN360_TENSORRT_INCLUDE={headers}", show=show)
    except BuildError as error:
        _, missing, what = str(error).partition("DINN360_TENSORRT: ")  # as headers.cmake says it
        if missing:
            raise UnavailableError(what) from error
        raise


def kernels_revision() -> str:
    """Twelve hexadecimal digits of the kernels' sources, which the library's timing cache keys carry."""
    sources = [SOURCES / "params.h", *(p for kind in ("cu", "cuh", "h") for p in SOURCES.glob(f"cuda/*.{kind}"))]
    digests = sorted(f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}" for path in sources)
    return hashlib.sha256(";".join(digests).encode()).hexdigest()[:12]


def product(show: Show | None = None) -> Path:
    """libdinn360_trt.so with the CUDA kernels. Raises UnavailableError, BuildError."""
    if why := kernels.missing():
        raise UnavailableError(why)
    build(kernels.BUILD, "CUDA", "dinn360_trt", show)
    return kernels.BUILD / "tensorrt" / "libdinn360_trt.so"
