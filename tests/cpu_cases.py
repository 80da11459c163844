"""The CPU operators for another CPU: cross-compiled, and run out of a file by an emulator."""

from __future__ import annotations

import functools
import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
from kernels_native import Array

from plugins.build import ROOT, missing
from plugins.testing import cpu_operators as library
from plugins.testing import native

COMPILER, EMULATOR = "aarch64-linux-gnu-g++", "qemu-aarch64"
CROSS = (
    "-DCMAKE_SYSTEM_NAME=Linux",
    "-DCMAKE_SYSTEM_PROCESSOR=aarch64",
    f"-DCMAKE_CXX_COMPILER={COMPILER}",
    "-DCMAKE_EXE_LINKER_FLAGS=-static",
)
Prepared = tuple[native.DeformConvParams | native.DstAttentionParams, Array, list[Array | None]]


def why_not() -> str | None:
    """What this machine lacks to run NEON code, or None."""
    for program in (COMPILER, EMULATOR):
        if shutil.which(program) is None:
            return f"no {program} on this machine (Debian: g++-aarch64-linux-gnu, qemu-user)"
    return missing()


@functools.cache
def _program() -> Path:
    return library.build("dinn360_cpu_cases", ROOT / "build" / "cpu-aarch64", *CROSS) / "dinn360_cpu_cases"


def run_on_arm(calls: list[Prepared], folder: Path, instruction_set: str = "neon") -> list[Array]:
    """The y of each call, as `native.deform_conv_params` or `native.dst_attention_params` prepared it.

    Files go to `folder`. Raises RuntimeError with the program's words.
    """
    source, result = folder / "calls", folder / "results"
    with source.open("wb") as file:
        for params, y, arrays in calls:
            file.write(struct.pack("<i", isinstance(params, native.DstAttentionParams)))
            file.write(bytes(params))
            for array in (*arrays, y):
                data = b"" if array is None else array.tobytes()
                file.write(struct.pack("<q", len(data)) + data)
    command = [EMULATOR, str(_program()), str(source), str(result), instruction_set]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(done.stderr)
    outputs, at = result.read_bytes(), 0
    results = []
    for _, y, _ in calls:
        results.append(np.frombuffer(outputs, y.dtype, y.size, at).reshape(y.shape))
        at += y.nbytes
    return results
