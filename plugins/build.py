"""Builds the C++ parts of plugins/ with CMake, each in a folder of its own. `python -m plugins build` is its command.

In a checkout that folder is build/; for an installed package, whose own folder is no place to write to, it is
$XDG_CACHE_HOME/dinn360. Nothing else builds: what runs an operator only finds a library (`plugins.libraries`).
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

SOURCES = Path(__file__).resolve().parent
ROOT = SOURCES.parent
CODE = {".h", ".cpp", ".cu", ".cuh", ".cmake", ".map"}
PARTS = ("CPU", "ORT", "EMULATOR", "CUDA", "TENSORRT")

Show = Callable[[str], None]  # takes a line about the build's progress


class BuildError(Exception):
    """A library cannot be built here; the message says in one line what is missing, or what the compiler said."""


def _folder() -> Path:
    if (ROOT / "setup.cfg").is_file():
        return ROOT / "build"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dinn360"


FOLDER = _folder()


def digest_of_sources(parts: Sequence[str]) -> str:
    """SHA-256, 64 hexadecimal digits, of the names and bytes of the files that `parts` (of PARTS) are compiled from."""
    folders = {"CPU": "cpu", "ORT": "onnxruntime", "CUDA": "cuda", "TENSORRT": "tensorrt", "EMULATOR": "testing"}
    files = [SOURCES / "params.h", SOURCES / "CMakeLists.txt"]
    for part in parts:
        files += [
            path
            for path in SOURCES.glob(f"{folders[part]}/**/*")
            if path.name == "CMakeLists.txt" or path.suffix in CODE
        ]
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(f"{path.relative_to(SOURCES)} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


def cmake_library(path: Path, folder: Path, parts: Sequence[str], target: str, show: Show | None = None) -> Path:
    """`cmake` for the library at `path`, which is returned. A file beside it tells what it was made of (`is_stale`)."""
    digest = digest_of_sources(parts)  # before the build: what is edited meanwhile may or may not be in it
    cmake(folder, parts, target, show=show)
    _made_of(path).write_text(digest)
    return path


def is_stale(path: Path, parts: Sequence[str]) -> bool:
    """Whether `cmake_library` made the library at `path` from other sources than those that are here."""
    try:
        return _made_of(path).read_text() != digest_of_sources(parts)
    except OSError:  # built in another way, or the sources are not here: nothing is known
        return False


def _made_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.sources")


def missing() -> str | None:
    """What this machine lacks to build any of them, or None."""
    if shutil.which("cmake") is None:
        return "no cmake on this machine"
    if not any(map(shutil.which, (os.environ.get("CXX") or "c++", "g++", "clang++"))):
        return "no C++ compiler on this machine"
    return None


def cmake(folder: Path, parts: Sequence[str], target: str, *options: str, show: Show | None = None) -> None:
    """Configures `parts` (of PARTS) in `folder` and builds `target` from the sources as they are.

    show: takes each line of progress ("[ 50%] Building CXX object …"). Two processes may come at once: the second
    waits and finds the work done. Raises BuildError.
    """
    if (reason := missing()) is not None:
        raise BuildError(reason)
    switches = [f"-DDINN360_{part}={'ON' if part in parts else 'OFF'}" for part in PARTS]
    with locked(folder):
        _forget_other_checkout(folder)
        for command in (
            ["cmake", "-S", str(SOURCES), "-B", str(folder), *switches, *options],
            ["cmake", "--build", str(folder), "--parallel", str(os.cpu_count() or 1), "--target", target],
        ):
            _run(command, show)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Makes `folder` and keeps other processes that ask for it waiting meanwhile."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _run(command: Sequence[str], show: Show | None) -> None:
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if show is not None and re.match(r"\[ *\d+%\]", line):
                show(line.strip())
    if process.returncode != 0:
        raise BuildError(f"{' '.join(command)}: {_complaint(''.join(lines))}")


def _forget_other_checkout(folder: Path) -> None:
    """Empties a build folder that was moved or copied together with its checkout: CMake refuses it, and its objects may
    be of other sources."""
    cache = folder / "CMakeCache.txt"
    if cache.exists() and f"CMAKE_HOME_DIRECTORY:INTERNAL={SOURCES}\n" not in cache.read_text():
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
