"""Processes that see an AVX2 CPU on one that has more, so that all systems are compared on what an AVX2 CPU would run.

Few runtimes can be told to leave AVX-512 alone, each in its own way; all of them ask CPUID. `environment` preloads a
library that answers CPUID for them (cpuid_mask.cpp: Linux on x86-64 whose CPU can let CPUID fault).
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).resolve().with_name("cpuid_mask.cpp")
FOLDER = SOURCE.parents[1] / "build" / "benchmarks"


class MaskError(Exception):
    """Instruction sets cannot be hidden here; the message says why, in one line."""


def environment() -> dict[str, str]:
    """The environment of this process for one that is to see AVX2 and nothing after it. Raises MaskError."""
    held = os.environ | {"LD_PRELOAD": f"{_library()} {os.environ.get('LD_PRELOAD', '')}".strip()}
    code = "import torch; print(torch.backends.cpu.get_cpu_capability())"
    done = subprocess.run([sys.executable, "-c", code], cwd=SOURCE.parents[1], env=held, capture_output=True, text=True)
    if done.returncode != 0 or done.stderr:
        raise MaskError((done.stderr.strip() or f"a preloaded process ended with {done.returncode}").splitlines()[-1])
    if "AVX512" in (seen := done.stdout.strip()):
        raise MaskError(f"the preloaded library hides nothing, {seen} is still seen")
    return held


def _library() -> Path:
    """The library, compiled when its source is new. Raises MaskError."""
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        raise MaskError(
            f"only Linux on x86_64 can hide instruction sets, this is {platform.system()} {platform.machine()}"
        )
    compiler = next(filter(None, map(shutil.which, (os.environ.get("CXX") or "c++", "g++", "clang++"))), None)
    if compiler is None:
        raise MaskError("no C++ compiler on this machine")
    path = FOLDER / f"cpuid-mask-{hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:12]}.so"
    if not path.is_file():
        FOLDER.mkdir(parents=True, exist_ok=True)
        made = path.with_suffix(f".{os.getpid()}")
        command = [compiler, "-std=c++17", "-O2", "-Wall", "-Wextra", "-fPIC", "-shared", str(SOURCE), "-o", str(made)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            raise MaskError(f"{compiler}: {(done.stderr.strip() or 'no reason given').splitlines()[0]}")
        made.replace(path)
    return path
