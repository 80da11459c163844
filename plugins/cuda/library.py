"""libdinn360_kernels.a: the CUDA kernels for every architecture, built where nvcc is."""

from __future__ import annotations

import functools
import os
import shutil
from pathlib import Path

from plugins.build import FOLDER, cmake
from plugins.build import missing as missing_compiler

BUILD = FOLDER / "cuda"


def nvcc() -> Path | None:
    """The CUDA compiler, on PATH, else of $CUDA_HOME, $CUDA_PATH or /usr/local/cuda; None where there is none."""
    homes = [os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH"), "/usr/local/cuda"]
    folders = [os.environ.get("PATH", ""), *(f"{home}/bin" for home in homes if home)]
    found = shutil.which("nvcc", path=os.pathsep.join(folders))
    return Path(found) if found else None


def missing() -> str | None:
    """What this machine lacks to build the kernels, or None."""
    return missing_compiler() or (None if nvcc() else "no nvcc on this machine")


@functools.cache
def built() -> Path:
    """The library, built once for a process from the sources as they are. Raises BuildError."""
    cmake(BUILD, ["CUDA"], "dinn360_kernels")
    return BUILD / "cuda" / "libdinn360_kernels.a"
