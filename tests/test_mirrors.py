"""The structures that Python mirrors lie in memory as C++ has them: every field, by name, size and place."""

from __future__ import annotations

import ctypes
import subprocess
from pathlib import Path

import pytest
from kernels_native import needs_compiler

from plugins.build import SOURCES
from plugins.cpu.training.library import DeformConvTraining
from plugins.testing import driver, onnxruntime_emulated
from plugins.testing.emulator.library import Report, TensorTraffic
from plugins.testing.native import DeformConvParams, DstAttentionParams

MIRRORS: dict[str, tuple[str, type[ctypes.Structure]]] = {
    "dinn360::DeformConvParams": ("params.h", DeformConvParams),
    "dinn360::DstAttentionParams": ("params.h", DstAttentionParams),
    "dinn360::training::DeformConvTraining": ("cpu/training/params.h", DeformConvTraining),
    "dinn360::EmulatorTensor": ("testing/emulator/report.h", TensorTraffic),
    "dinn360::EmulatorReport": ("testing/emulator/report.h", Report),
}


def checks(name: str, mirror: type[ctypes.Structure]) -> list[str]:
    """C++ assertions that the structure `name` is as its mirror."""
    lines = [f"static_assert(sizeof({name}) == {ctypes.sizeof(mirror)});"]
    for field, *_ in mirror._fields_:
        place = getattr(mirror, field)
        lines.append(f"static_assert(offsetof({name}, {field}) == {place.offset});")
        lines.append(f"static_assert(sizeof({name}::{field}) == {place.size});")
    return lines


def compiles(lines: list[str], folder: Path) -> bool:
    headers = sorted({header for header, _ in MIRRORS.values()})
    source = folder / "mirrors.cpp"
    source.write_text("\n".join(["#include <cstddef>", *(f'#include "{SOURCES / h}"' for h in headers), *lines, ""]))
    command = ["c++", "-std=c++17", "-fsyntax-only", str(source)]
    return subprocess.run(command, capture_output=True, text=True).returncode == 0


@needs_compiler
def test_mirrors_are_what_they_mirror(tmp_path: Path) -> None:
    assert compiles([line for name, (_, mirror) in MIRRORS.items() for line in checks(name, mirror)], tmp_path)


@needs_compiler
def test_two_fields_that_changed_places_are_found(tmp_path: Path) -> None:
    class Swapped(ctypes.Structure):
        _fields_ = [*DstAttentionParams._fields_[:-2], *reversed(DstAttentionParams._fields_[-2:])]

    assert not compiles(checks("dinn360::DstAttentionParams", Swapped), tmp_path)


@pytest.mark.parametrize(
    ("file", "name", "mirror"),
    [("driver.cpp", "Tensor", driver._Tensor), ("cuda_standin/runtime.cpp", "Counts", onnxruntime_emulated.Counts)],
)
def test_what_a_source_pins(file: str, name: str, mirror: type[ctypes.Structure]) -> None:
    """Structures of sources that need headers of their own assert their size there."""
    assert f"static_assert(sizeof({name}) == {ctypes.sizeof(mirror)}," in (SOURCES / "testing" / file).read_text()
