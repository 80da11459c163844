"""The CUDA kernels compile for every architecture, keep their registers, and multiply on tensor cores."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import onnxruntime
import pytest

from benchmarks import kernels as report
from plugins.cuda import library
from plugins.onnxruntime import library as onnxruntime_library
from plugins.testing import cuda_binaries as binaries

OURS = ("80", "86", "87", "89", "90", "100", "110", "120")

needs_nvcc = pytest.mark.skipif(
    library.missing() is not None, reason=f"the CUDA kernels cannot be built: {library.missing()}"
)


@pytest.fixture(scope="module")
def compiled() -> list[binaries.Kernel]:
    """Every kernel for every architecture; skips where NVIDIA's disassembler is missing."""
    try:
        binaries.tool_folders()
    except binaries.MissingToolError as error:
        pytest.skip(str(error))
    return binaries.read(library.built())


@needs_nvcc
def test_the_library_builds_and_has_what_a_shell_calls() -> None:
    symbols = subprocess.run(["nm", "-C", str(library.built())], capture_output=True, text=True, check=True).stdout
    for function in ("check", "workspace_size", "launch"):
        assert re.search(rf" T dinn360::{function}\(dinn360::DeformConvParams const&", symbols), function


@needs_nvcc
def test_every_architecture_that_nvcc_knows_is_there(compiled: list[binaries.Kernel]) -> None:
    known = subprocess.run([str(library.nvcc()), "--list-gpu-arch"], capture_output=True, text=True, check=True).stdout
    expected = {number for number in OURS if f"compute_{number}\n" in known}
    names = {kernel.name for kernel in compiled}
    assert {"deform_conv_half<4, true>", "deform_conv_float<true>"} <= names
    for name in names:
        assert {kernel.architecture for kernel in compiled if kernel.name == name} == expected, name


@needs_nvcc
def test_no_kernel_spills_or_wants_more_shared_memory_than_every_gpu_has(compiled: list[binaries.Kernel]) -> None:
    for kernel in compiled:
        what = f"{kernel.name} for sm_{kernel.architecture}"
        assert kernel.stack == 0, f"{what}: {kernel.stack} bytes of a thread in local memory"
        assert kernel.shared <= 48 * 1024, f"{what}: {kernel.shared} bytes of shared memory"


@needs_nvcc
def test_fp16_kernels_multiply_on_tensor_cores(compiled: list[binaries.Kernel]) -> None:
    """A step takes two products for each n8 tile of each of a warp's two row tiles, and so many stand in the loop."""
    for kernel in compiled:
        if match := re.match(r"deform_conv_half<(\d)", kernel.name):
            assert kernel.tensor == kernel.loop_tensor == 4 * int(match[1])
        if kernel.name.startswith("deform_conv_float"):
            assert kernel.tensor == 0


@needs_nvcc
def test_the_committed_report_is_that_of_these_sources(compiled: list[binaries.Kernel]) -> None:
    committed = report.REPORT.read_text()
    version = report.compiler_version()
    if f"nvcc {version}." not in committed:
        pytest.skip(f"plugins/REPORT.md was written with another nvcc than {version}")
    assert committed == report.report(compiled), "make -C plugins report"
    assert report.INSTRUCTIONS.read_text() == report.instructions(compiled), "make -C plugins report"


@needs_nvcc
def test_the_library_for_onnx_runtime_takes_the_kernels_in() -> None:
    """It needs no CUDA where it is loaded, for the CPU provider runs its CPU operators."""
    path = onnxruntime_library.build(cuda=True)
    exported = subprocess.run(["nm", "-D", "--defined-only", path], capture_output=True, text=True, check=True).stdout
    assert [line.split()[-1] for line in exported.splitlines()] == ["RegisterCustomOps"]
    sections = subprocess.run(["readelf", "-SW", path], capture_output=True, text=True, check=True).stdout
    assert ".nv_fatbin" in sections
    needed = subprocess.run(["readelf", "-d", path], capture_output=True, text=True, check=True).stdout
    assert "cuda" not in needed
    onnxruntime.SessionOptions().register_custom_ops_library(str(path))


LISTING = """
        /*0000*/                   MOV R1, c[0x0][0x28] ;                 /* 0x00000a0000017a02 */
                                                                          /* 0x000fc40000000f00 */
        /*0010*/              @!P0 LDG.E.128 R4, [R2.64] ;                /* 0x0 */
        /*0020*/                   HMMA.16816.F32 R8, R4, R6, R8 ;        /* 0x0 */
        /*0030*/               @P1 BRA 0x10 ;                             /* 0x0 */
        /*0040*/               @P2 BRA 0x0 ;                              /* 0x0 */
        /*0050*/                   EXIT ;                                 /* 0x0 */
        /*0060*/                   BRA 0x60;                              /* 0x0 */
        /*0070*/                   NOP;                                   /* 0x0 */
"""


def test_instructions_are_counted() -> None:
    listing = binaries._INSTRUCTION.findall(LISTING)
    assert [opcode for _, opcode, _ in listing[:3]] == ["MOV", "LDG.E.128", "HMMA.16816.F32"]
    # The NOP at the end is none; the loop is from 10 to 30, and the one around it from 0 to 40.
    assert binaries._count(listing) == (7, 1, 3, 1, 5, 0)
    skipping = [("0000", "HMMA", ""), ("0010", "BRA", " 0x40"), ("0020", "MOV", ""), ("0030", "MOV", ""),
                ("0040", "BRA", " 0x0")]  # fmt: skip
    assert binaries._count(skipping) == (5, 1, 5, 1, 0, 2)


def test_a_missing_disassembler_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(binaries, "nvcc", lambda: None)
    monkeypatch.setattr(binaries.sysconfig, "get_path", lambda name: str(tmp_path))
    with pytest.raises(binaries.MissingToolError, match="no cuobjdump on this machine: pip install nvidia-cuda-cuobj"):
        binaries.tool_folders()
