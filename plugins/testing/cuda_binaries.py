"""What the compiled kernels are made of, read from the library with NVIDIA's cuobjdump and nvdisasm."""

from __future__ import annotations

import dataclasses
import functools
import os
import re
import shutil
import subprocess
import sysconfig
from collections.abc import Iterator, Sequence
from pathlib import Path

from plugins.cuda.library import nvcc

_INSTRUCTION = re.compile(r"\s+/\*([0-9a-f]+)\*/\s+(?:@!?U?P\w+\s+)?(\S+)([^;]*);")
_TENSOR = re.compile(r"[A-Z]{1,3}MMA\b|UTC[A-Z]*MMA\b")  # HMMA and its kin
_USAGE = re.compile(r" Function (\S+):\s+REG:(\d+) STACK:(\d+) SHARED:(\d+)")


class MissingToolError(Exception):
    """A program that reads the kernels is not on this machine; the message says where it comes from."""


@dataclasses.dataclass(frozen=True)
class Kernel:
    """One kernel for one architecture. Sizes in bytes; instructions are counted as they stand, not as they run."""

    name: str
    architecture: str
    registers: int
    shared: int  # static
    stack: int  # 0: nothing is spilled, no array is in local memory
    instructions: int
    tensor: int  # tensor-core instructions
    loop_instructions: int  # of the smallest loop with tensor-core instructions; 0: there is none
    loop_tensor: int
    outer_instructions: int  # of the largest loop around that one; 0: there is none
    skipped_instructions: int  # of the longest part of the smallest loop that a branch may skip, without tensor cores

    @property
    def share(self) -> float:
        """Tensor-core instructions among all."""
        return self.tensor / self.instructions

    @property
    def loop_share(self) -> float:
        """Tensor-core instructions among those of the loop that has them, 0 without one."""
        return self.loop_tensor / self.loop_instructions if self.loop_instructions else 0.0


def tool_folders() -> dict[str, Path]:
    """Where cuobjdump and nvdisasm are: on PATH, beside nvcc, or in this environment's packages."""
    compiler = nvcc()
    packages = Path(sysconfig.get_path("purelib")) / "nvidia"
    folders = [*os.environ.get("PATH", "").split(os.pathsep), *([str(compiler.resolve().parent)] if compiler else [])]
    folders += sorted(map(str, packages.glob("*/bin")))
    found = {}
    for tool in ("cuobjdump", "nvdisasm"):
        if (path := shutil.which(tool, path=os.pathsep.join(folders))) is None:
            raise MissingToolError(f"no {tool} on this machine: pip install nvidia-cuda-{tool}")
        found[tool] = Path(path).parent
    return found


def read(library: Path) -> list[Kernel]:
    """Every kernel of a static library, by name and architecture. Raises MissingToolError."""
    usage = {}
    for architecture, text in _by_architecture(_cuobjdump("--dump-resource-usage", library)):
        for name, *sizes in _USAGE.findall(text):
            usage[name, architecture] = [int(size) for size in sizes]
    kernels = []
    for architecture, text in _by_architecture(_cuobjdump("--dump-sass", library)):
        for function in text.split("Function : ")[1:]:
            name, _, body = function.partition("\n")
            registers, stack, shared = usage[name, architecture]
            counts = _count(_INSTRUCTION.findall(body))
            kernels.append(Kernel(name, architecture, registers, shared, stack, *counts))
    names = _demangled([kernel.name for kernel in kernels])
    kernels = [dataclasses.replace(kernel, name=name) for kernel, name in zip(kernels, names, strict=True)]
    return sorted(kernels, key=lambda kernel: (kernel.name, int(kernel.architecture)))


def _cuobjdump(option: str, library: Path) -> str:
    folders = tool_folders()
    path = os.pathsep.join([str(folders["nvdisasm"]), os.environ.get("PATH", "")])  # cuobjdump calls nvdisasm
    command = [str(folders["cuobjdump"] / "cuobjdump"), option, str(library)]
    return subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ | {"PATH": path}).stdout


def _by_architecture(text: str) -> Iterator[tuple[str, str]]:
    """The parts of cuobjdump's output: compute capability without its point, and what is said of it."""
    parts = re.split(r"^arch = sm_(\w+)$", text, flags=re.MULTILINE)
    yield from zip(parts[1::2], parts[2::2], strict=True)


def _count(listing: Sequence[tuple[str, str, str]]) -> tuple[int, int, int, int, int, int]:
    """Instructions and tensor-core instructions, of the whole and of the smallest loop that has the latter.

    Then the instructions of the largest loop around it, and of the longest part of it that a branch may skip.
    """
    at = {int(address, 16): i for i, (address, _, _) in enumerate(listing)}
    tensor = [bool(_TENSOR.match(opcode)) for _, opcode, _ in listing]
    used = [i for i, (_, opcode, _) in enumerate(listing) if opcode != "NOP"]  # NOPs fill a kernel up
    jumps = []
    for i, (_, opcode, operands) in enumerate(listing):
        target = re.search(r"0x([0-9a-f]+)\s*$", operands) if opcode.startswith("BRA") else None
        if target and int(target[1], 16) in at:
            jumps.append((i, at[int(target[1], 16)]))
    loops = sorted((i + 1 - to, to, i) for i, to in jumps if to < i and any(tensor[to:i]))
    if not loops:
        return len(used), sum(tensor), 0, 0, 0, 0
    size, first, last = loops[0]
    around = max((n for n, start, end in loops if start <= first and last <= end and n > size), default=0)
    skips = [to - i - 1 for i, to in jumps if first <= i < to <= last and not any(tensor[i:to])]
    return len(used), sum(tensor), size, sum(tensor[first:last]), around, max(skips, default=0)


@functools.cache
def _demangler() -> str | None:
    return shutil.which("c++filt")


def _demangled(names: Sequence[str]) -> list[str]:
    """`function<arguments>` without namespaces and parameters; as they are where c++filt is missing."""
    if (demangler := _demangler()) is None:
        return list(names)
    lines = subprocess.run([demangler], input="\n".join(names), capture_output=True, text=True, check=True).stdout
    return [re.sub(r"^.*?(\w+(?:<[^()]*>)?)\(.*$", r"\1", line.replace("(anonymous namespace)::", ""))
            for line in lines.splitlines()]  # fmt: skip
