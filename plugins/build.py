"""Builds the C++ parts of plugins/ with CMake, each in a folder of its own under build/."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("CPU", "ORT", "EMULATOR", "CUDA", "TENSORRT")


class BuildError(Exception):
    """A library cannot be built here; the message says in one line what is missing, or what the compiler said."""


def missing() -> str | None:
    """What this machine lacks to build any of them, or None."""
    if shutil.which("cmake") is None:
        return "no cmake on this machine"
    if not any(map(shutil.which, (os.environ.get("CXX") or "c++", "g++", "clang++"))):
        return "no C++ compiler on this machine"
    return None


def cmake(folder: Path, parts: Sequence[str], target: str, *options: str) -> None:
    """Configures `parts` (of PARTS) in `folder` and builds `target` from the sources as they are.

    Two processes may come at once: the second waits and finds the work done. Raises BuildError.
    """
    if (reason := missing()) is not None:
        raise BuildError(reason)
    switches = [f"-DDINN360_{part}={'ON' if part in parts else 'OFF'}" for part in PARTS]
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _forget_other_checkout(folder)
        for command in (
            ["cmake", "-S", str(ROOT / "plugins"), "-B", str(folder), *switches, *options],
            ["cmake", "--build", str(folder), "--parallel", "2", "--target", target],
        ):
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode != 0:
                raise BuildError(f"{' '.join(command)}: {_complaint(done.stdout + done.stderr)}")


def _forget_other_checkout(folder: Path) -> None:
    """Empties a build folder that was moved or copied together with its checkout: CMake refuses it, and its objects may
    be of other sources."""
    cache = folder / "CMakeCache.txt"
    if cache.exists() and f"CMAKE_HOME_DIRECTORY:INTERNAL={ROOT / 'plugins'}\n" not in cache.read_text():
        for left in folder.iterdir():
            if left.is_dir():
                shutil.rmtree(left)
            elif left.name != ".lock":
                left.unlink()


def _complaint(output: str) -> str:
    """What a CMakeLists.txt says is missing, else a build's first line that complains, or its last line."""
    if ours := re.search(r"CMake Error at \S+ \(message\):(.*?)(?:\n\n|\nCall Stack|\Z)", output, re.DOTALL):
        return " ".join(ours[1].split())
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return next((line for line in lines if "error" in line.lower()), lines[-1] if lines else "no reason given")
