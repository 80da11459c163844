"""Where TensorRT's headers come from: an SDK on the machine, else a pinned wheel of PyPI that carries them."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

from plugins.build import FOLDER, BuildError, Show, locked

HEADER = "NvInferRuntime.h"
PIN = Path(__file__).with_name("headers.txt")
FETCHED = FOLDER / "tensorrt-headers"
_INSIDE = "kernel_lens/include/tensorrt/"
_SYSTEM = ("/usr/include", "/usr/local/include", "/usr/include/x86_64-linux-gnu", "/usr/include/aarch64-linux-gnu")


def include_folder(show: Show | None = None) -> Path:
    """The folder of NvInferRuntime.h: $TENSORRT_ROOT/include, a system's folder, or the wheel that headers.txt pins,
    which is downloaded by pip, checked against its hash and unpacked once.

    show: takes the line that says what is downloaded. Raises BuildError, one line.
    """
    if root := os.environ.get("TENSORRT_ROOT"):
        if not (Path(root) / "include" / HEADER).is_file():
            raise BuildError(f"TENSORRT_ROOT {root}: expected include/{HEADER}")
        return Path(root) / "include"
    for folder in map(Path, _SYSTEM):
        if (folder / HEADER).is_file():
            return folder
    found = FETCHED / _INSIDE
    with locked(FETCHED):
        if not (found / HEADER).is_file():
            _fetch(show)
    return found


def _fetch(show: Show | None) -> None:
    if show is not None:
        pin = next(line for line in PIN.read_text().splitlines() if not line.startswith("#"))
        show(f"TensorRT's headers: {pin} from PyPI, into {FETCHED}")
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    done = subprocess.run(
        [*pip, "--only-binary=:all:", "--require-hashes", "--dest", str(FETCHED), "--requirement", str(PIN)],
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        why = next((line for line in done.stderr.splitlines() if line.startswith("ERROR: ")), "pip says no reason")
        raise BuildError(f"expected TensorRT's headers in TENSORRT_ROOT or by pip, found none ({why})")
    with zipfile.ZipFile(next(FETCHED.glob("*.whl"))) as wheel:
        wheel.extractall(FETCHED, [name for name in wheel.namelist() if name.startswith(_INSIDE)])
