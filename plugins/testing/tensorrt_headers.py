"""TensorRT's headers by version, as far as this machine has them: for tests that compile the plugins' shells."""

from __future__ import annotations

import os
import re
from pathlib import Path

from plugins.build import ROOT
from plugins.tensorrt import library
from plugins.tensorrt.headers import include_folder
from plugins.testing.emulator import library as emulator

VARIABLE = "TENSORRT_HEADERS"  # include folders of any versions, separated as in PATH
SHELLS = ("library", "log", "fields", "shapes", "deform_conv", "dst_attention")
_VERSION = re.compile(r"#define (?:NV_TENSORRT|TRT)_(MAJOR|MINOR)(?:_ENTERPRISE)? (\d+)")


def folders() -> dict[str, Path]:
    """The include folder of each version, such as "10.14": those of TENSORRT_HEADERS, and what the build uses.

    Raises UnavailableError where the build finds none.
    """
    library.build(emulator.BUILD, "EMULATOR", "dinn360_trt_shells")
    named = [Path(text) for text in os.environ.get(VARIABLE, "").split(os.pathsep) if text]
    return {version_of(folder): folder for folder in (include_folder(), *named)}


def version_of(folder: Path) -> str:
    """Major and minor version of the headers in a folder. Raises OSError where there are none."""
    found = dict(_VERSION.findall((folder / "NvInferVersion.h").read_text()))
    return f"{found['MAJOR']}.{found['MINOR']}"


def flags(folder: Path) -> list[str]:
    """A compiler's options for these headers and CUDA's, as the build has them."""
    return ["-std=c++17", "-Wall", "-Wextra", "-Werror", "-isystem", str(folder),
            "-isystem", _cached("DINN360_CUDA_INCLUDE"), '-DDINN360_KERNELS_REVISION="none"']  # fmt: skip


def source(name: str) -> Path:
    """A file of the shells."""
    return ROOT / "plugins" / "tensorrt" / f"{name}.cpp"


def _cached(variable: str) -> str:
    """What CMake found."""
    cache = (emulator.BUILD / "CMakeCache.txt").read_text()
    found = re.search(rf"^{variable}:\w+=(.*)$", cache, re.MULTILINE)
    return found[1] if found else ""
