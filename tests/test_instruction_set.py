"""Processes that see no more than AVX2 (benchmarks/instruction_set.py)."""

import os
import platform
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import instruction_set
from plugins.testing import cpu_operators

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def masked() -> dict[str, str]:
    try:
        return instruction_set.environment() | {"PYTHONPATH": str(ROOT)}
    except instruction_set.MaskError as error:
        pytest.skip(str(error))


def ran(environment: dict[str, str] | os._Environ[str], code: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)


def test_avx2_is_all_that_a_process_its_threads_and_its_children_see(masked: dict[str, str]) -> None:
    """PyTorch and our own dispatch ask CPUID by themselves, both in a thread; /proc/cpuinfo tells what there is."""
    cpu = set(Path("/proc/cpuinfo").read_text().split())
    if "avx2" not in cpu:
        pytest.skip("this CPU has no AVX2")
    code = """if True:
    import subprocess, sys, threading
    import torch
    from plugins.testing.cpu_operators import instruction_sets
    def tell(): print(*instruction_sets(), torch.backends.cpu.get_cpu_capability())
    thread = threading.Thread(target=tell); thread.start(); thread.join()
    if len(sys.argv) == 1: subprocess.run([sys.executable, "-c", sys.orig_argv[2], "child"], check=True)
    """
    plain = "portable avx2 avx512 AVX512" if "avx512f" in cpu else "portable avx2 AVX2"
    cpu_operators.load()  # built outside of the mask
    assert ran(masked, code).stdout.splitlines() == ["portable avx2 AVX2"] * 2
    assert ran(os.environ, code).stdout.splitlines() == [plain] * 2


def test_other_faults_end_a_process_as_ever(masked: dict[str, str]) -> None:
    assert ran(masked, "import ctypes; ctypes.string_at(8)").returncode == -signal.SIGSEGV
    assert ran(masked, "import os; os.kill(os.getpid(), 11)").returncode == -signal.SIGSEGV
    assert ran(masked, "print(1)").stdout == "1\n"


def test_where_nothing_can_be_hidden_a_line_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    with pytest.raises(instruction_set.MaskError, match="only Linux on x86_64 can hide instruction sets"):
        instruction_set.environment()
