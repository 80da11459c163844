"""make gpu without a GPU: it says so step by step; and every step as far as stand-ins carry it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnx
import pytest
from conftest import save_graph
from engine_files import SMALL, HostGpu, build_small, install, no_gpu
from kernels_native import needs_compiler
from test_tensorrt_session import edit

from engines.nvidia import cuda
from engines.support.errors import UserError
from plugins.build import ROOT, cmake
from plugins.testing.emulator import library as emulator
from tests.device import gpu, kernels, steps, timing
from tests.device.page import page
from tests.device.steps import Machine, UnableError

AGX = cuda.Device("Orin", "8.7")


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path, tmp_path / "x4.pth", device=AGX)


def program(folder: Path, name: str, script: str) -> str:
    """A program on a PATH of its own."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)
    return str(folder)


@pytest.mark.skipif(not no_gpu(), reason="there is a GPU")
def test_without_a_gpu_every_step_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu.main(["--out", str(tmp_path / "out")]) == 0
    report = json.loads((tmp_path / "out" / "gpu_report.json").read_text())
    named = {step["step"]: step for step in report["steps"]}
    assert list(named) == ["device", *gpu.STEPS] and len(named) == 13
    assert all(step["status"] == "not run" and "needs an NVIDIA GPU" in step["why"] for step in named.values())
    assert all(named[name]["why"].startswith("no GPU: ") for name in gpu.STEPS)
    html = (tmp_path / "out" / "gpu_report.html").read_text()
    assert html.count('<tr class="not-run">') == 13 and "<script" not in html and "http" not in html
    assert capsys.readouterr().out.count("not run") == 12


def test_a_step_that_fails_stops_no_other(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps.cuda, "find_device", lambda why: AGX)
    monkeypatch.setattr(steps.shutil, "which", lambda name, path=None: None)

    def raising(error: Exception) -> Any:
        def step(machine: Machine) -> dict[str, Any]:
            raise error

        return step

    outcomes = gpu.run(machine, {
        "lacking": raising(UnableError("no trtexec on this machine")), "wrong": raising(AssertionError("0.1 <\n0.2")),
        "refused": raising(UserError("x")), "broken": raising(ZeroDivisionError("y")), "right": lambda m: {"n": 1},
    })  # fmt: skip
    assert [(o.step, o.status, o.why) for o in outcomes] == [
        ("device", "passed", ""), ("lacking", "not run", "no trtexec on this machine"),
        ("wrong", "failed", "0.1 < 0.2"), ("refused", "failed", "x"),
        ("broken", "failed", "ZeroDivisionError: y"), ("right", "passed", ""),
    ]  # fmt: skip
    assert outcomes[0].found == {"gpu": "Orin", "compute capability": "8.7"} and outcomes[-1].found == {"n": 1}
    html = page(gpu.report(outcomes))
    assert html.count('class="failed"') == 3 and "0.1 &lt; 0.2" in html


# ---- the kernels


@pytest.fixture(scope="module")
def calls() -> Path:
    """The kernels' C functions over the emulator."""
    cmake(emulator.BUILD, ["EMULATOR"], "dinn360_emulated_kernels_c")
    return emulator.BUILD / "testing" / "libdinn360_emulated_kernels_c.so"


@needs_compiler
def test_the_kernels_run_in_device_memory(calls: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU made of host memory: uploads, launches and downloads as on a device; nothing is left behind."""
    host = HostGpu()
    monkeypatch.setattr(cuda, "import_runtime", lambda why: host)
    assert kernels.run(calls, ["odd channels", "depth 5"]) == 8  # an operator each, in four forms
    assert host.memory == {}
    assert set(steps.SHORT) <= {case for _, case, _, _ in kernels.cases()}


@needs_compiler
def test_a_wrong_kernel_is_named(calls: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = HostGpu()
    monkeypatch.setattr(cuda, "import_runtime", lambda why: host)
    right = kernels.expected_deform_conv
    monkeypatch.setattr(kernels, "expected_deform_conv", lambda *a, **o: right(*a, **o) + 0.1)
    with pytest.raises(AssertionError, match="deform_conv one pixel float32 layout 0"):
        kernels.run(calls, ["one pixel"])

    class Calls:
        def dinn360_deform_conv(params: Any, workspace: Any, stream: Any) -> bytes:  # type: ignore[misc] # noqa: N805
            return b"too large"

        def dinn360_deform_conv_workspace(params: Any) -> int:  # type: ignore[misc] # noqa: N805
            return 8

    monkeypatch.setattr(kernels.ctypes, "CDLL", lambda path: Calls)
    with pytest.raises(AssertionError, match="deform_conv one pixel float32 layout 0: too large"):
        kernels.run(calls, ["one pixel"])
    assert host.memory == {}


def test_the_libraries_are_built_for_this_gpu_alone(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[Any] = []
    monkeypatch.setattr(steps.kernels, "missing", lambda: None)
    monkeypatch.setattr(steps, "cmake", lambda *arguments: built.append(arguments))
    steps.build_libraries(machine)
    assert [arguments[2] for arguments in built] == ["dinn360_trt", "dinn360_kernels_c"]
    assert all("-DDINN360_CUDA_ARCHITECTURES=87" in arguments for arguments in built)
    assert machine.library == machine.out / "plugins" / "tensorrt" / "libdinn360_trt.so"
    monkeypatch.setattr(steps.kernels, "missing", lambda: "no nvcc on this machine")
    with pytest.raises(UnableError, match="no nvcc"):
        steps.build_libraries(machine)


def test_onnxruntimes_library_has_the_kernels_where_its_package_has_the_provider(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnxruntime

    monkeypatch.setattr(steps.ort_library, "build", lambda cuda=False: Path("cuda" if cuda else "cpu"))
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    assert "no CUDA provider" in steps.build_onnxruntime(machine)["CUDA"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    assert steps.build_onnxruntime(machine) == {"CPU": "cpu", "CUDA": "cuda"}


def test_the_sanitizer_watches_a_few_cases(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.calls = machine.out / "calls.so"
    folder = program(
        machine.out / "bin", "compute-sanitizer", 'echo "$@" >> log; case "$*" in *racecheck*) exit 9;; esac'
    )
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setattr(steps, "ROOT", machine.out)
    with pytest.raises(AssertionError, match="compute-sanitizer: exit 9"):
        steps.sanitize(machine)
    first, second = (machine.out / "log").read_text().splitlines()
    assert first.startswith("--tool memcheck --error-exitcode 9 ") and "--tool racecheck" in second
    assert first.endswith(f"-m tests.device.kernels {machine.calls} {' '.join(steps.SHORT)}")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UnableError, match="no compute-sanitizer on this machine"):
        steps.sanitize(machine)


# ---- graphs, engines, times


def with_graphs(machine: Machine) -> Machine:
    """Small graphs in place of exported ones, in two of the four forms."""
    machine.graphs = machine.out / "given"
    for form in ("primitive-fp32", "primitive-fp16"):
        (machine.graphs / form).mkdir(parents=True)
        for name in steps.GRAPHS:
            save_graph(machine.graphs / form / f"{name}.onnx", name, {**SMALL, "direction": name})
    return machine


def test_graphs_that_are_given_and_graphs_that_are_missing(machine: Machine) -> None:
    with pytest.raises(UnableError, match=r"no checkpoint .*x4\.pth, and no --graphs"):
        steps.export_graphs(machine)
    assert list(steps.export_graphs(with_graphs(machine))["folders"]) == ["primitive-fp16", "primitive-fp32"]
    machine.graphs, machine.folders = machine.out / "none", {}
    with pytest.raises(UnableError, match="no graphs in .*none: expected plugin-fp16"):
        steps.export_graphs(machine)


def test_a_seeded_edge_stands_for_the_operators_that_no_released_network_has(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real step, in processes of its own: its graphs hold every operator of the plugin library."""
    machine.ckpt = ROOT / "checkpoints" / "x4.pth"
    monkeypatch.setattr(steps, "FORMS", ("plugin-fp32-edge",))
    monkeypatch.setattr(steps, "GRAPHS", ("down",))
    (folder,) = steps.export_graphs(machine)["folders"].values()
    kinds = {node.op_type for node in onnx.load(Path(folder) / "down.onnx").graph.node if node.domain}
    assert kinds == {"DeformConv2d", "DSTAttention"}
    (row,) = steps.compare(machine).values()
    assert any("onnxruntime" in cells[1] and cells[-1] == "ok" for cells in row["rows"])
    machine.checkpoint("plugin-fp32-edge").unlink()
    assert steps.compare(machine)["plugin-fp32-edge"]["left out"] == [f"no checkpoint {machine.out / 'edge.pth'}"]


def test_engines_are_built_for_one_size_by_the_routes_that_are_there(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TensorRT-RTX builds here, for the card that stands for the machine's; TensorRT says what is missing."""
    pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx-cu13 is not installed")
    monkeypatch.setattr(steps, "SIZE", (64, 128))
    machine.device = cuda.Device("Host GPU", "8.6")
    steps.export_graphs(with_graphs(machine))
    del machine.folders["primitive-fp16"]
    found = steps.build_rtx(machine)
    assert {"primitive-fp32 down", "primitive-fp32 up"} <= set(found) and "TensorRT-RTX 1.7" in found["package"]
    assert [engine[:2] for engine in timing.engines(machine)] == [("primitive-fp32", "down"), ("primitive-fp32", "up")]
    with pytest.raises(UnableError, match="the plugin library was not built"):
        steps.build_tensorrt(machine)
    machine.library = machine.out / "libdinn360_trt.so"
    with pytest.raises(
        UnableError, match="needs the package tensorrt, which is not installed|no graphs of --ops plugin"
    ):
        steps.build_tensorrt(machine)
    machine.device = cuda.Device("Old GPU", "5.0")
    with pytest.raises(UnableError, match=r"no target of .* compute capability 5\.0 \(tensorrt_rtx\)"):
        steps.build_rtx(machine)


SAID = """[I] === Performance summary ===
[I] Throughput: 29.1 qps
[I] Latency: min = 33.9 ms, max = 36.1 ms, mean = 34.4 ms, median = 34.3 ms, percentile(90%) = 34.9 ms
[I] GPU Compute Time: min = 33.5 ms, max = 35.7 ms, mean = 34.1 ms, median = 34.0 ms, percentile(90%) = 34.5 ms
"""


@pytest.fixture
def engine(machine: Machine) -> Path:
    pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx-cu13 is not installed")
    folder = machine.out / "primitive-fp32"
    folder.mkdir()
    machine.folders = {"primitive-fp32": folder}
    return build_small(folder)


def test_trtexecs_counters(machine: Machine, engine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    edit(engine, runtime="tensorrt", runtime_version="10.3.0")
    (machine.out / "said").write_text(SAID)
    script = f'echo "$@" >> {machine.out}/log; cat {machine.out}/said'
    monkeypatch.setenv("PATH", f"{program(machine.out / 'bin', 'trtexec', script)}:/usr/bin:/bin")
    found = timing.time_by_trtexec(machine)
    assert found["primitive-fp32 down"]["median"] == 34.0 and found["primitive-fp32 down"]["percentile(90%)"] == 34.5
    assert machine.times == {("TensorRT, trtexec", "primitive-fp32", "down"): 34.0}
    line = (machine.out / "log").read_text()
    assert f"--loadEngine={engine} --shapes=hr:1x3x256x512 --useCudaGraph" in line and "--dynamicPlugins" not in line
    (machine.out / "said").write_text("[E] Engine could not be created")
    with pytest.raises(AssertionError, match="primitive-fp32 down: trtexec told no GPU Compute Time"):
        timing.time_by_trtexec(machine)
    edit(engine, runtime="tensorrt_rtx")
    with pytest.raises(UnableError, match="no engines of TensorRT"):
        timing.time_by_trtexec(machine)


def test_sessions_are_timed_by_events_on_one_stream(
    machine: Machine, engine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As far as a GPU of host memory goes, whose clock counts events: runs between stamps, and nothing left behind."""
    from engines.nvidia.tensorrt_package import import_tensorrt

    host = HostGpu()
    install(monkeypatch, host, import_tensorrt("tensorrt_rtx", "test"))
    found = timing.time_sessions(machine)["primitive-fp32 down"]
    assert host.runs == 1 + timing.WARM_UP + timing.RUNS and host.memory == {} and host.events == []
    assert 0 < found["min"] <= found["median"] <= found["percentile(90%)"]
    assert machine.times == {("TensorRT-RTX, session", "primitive-fp32", "down"): found["median"]}
    engine.write_bytes(b"cut")
    with pytest.raises(
        AssertionError, match="primitive-fp32 down: .*down.engine: expected the engine of down.engine.json"
    ):
        timing.time_sessions(machine)


def test_onnxruntime_is_timed_on_our_stream(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its CPU provider and host memory for CUDA's; a graph that cannot run is told, and the others are timed."""
    with pytest.raises(UnableError, match="has no CUDAExecutionProvider"):
        timing.time_in_onnxruntime(machine)
    host = HostGpu()
    monkeypatch.setattr(cuda, "import_runtime", lambda why: host)
    monkeypatch.setattr(timing, "PROVIDER", "CPUExecutionProvider")
    monkeypatch.setattr(timing, "DEVICE", "cpu")
    monkeypatch.setattr(steps, "SIZE", (64, 128))
    with pytest.raises(UnableError, match="no graphs"):
        timing.time_in_onnxruntime(machine)
    steps.export_graphs(with_graphs(machine))
    found = timing.time_in_onnxruntime(machine)
    assert len(found) == 4 and all(times["median"] == 1 for times in found.values())  # an event a run
    assert host.memory == {} and host.events == []
    machine.times.clear()
    (machine.folders["primitive-fp16"] / "down.onnx").write_bytes(b"no graph")
    with pytest.raises(AssertionError, match="^primitive-fp16 down: .*expected an ONNX file, found something else"):
        timing.time_in_onnxruntime(machine)
    assert {key[1:] for key in machine.times} == {
        ("primitive-fp16", "up"), ("primitive-fp32", "down"), ("primitive-fp32", "up")
    }  # fmt: skip


def test_every_route_stands_beside_the_estimate(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnableError, match="nothing was timed"):
        timing.estimate_beside(machine)
    monkeypatch.setattr(steps, "SIZE", (64, 128))
    steps.export_graphs(with_graphs(machine))
    routes = (timing.TRTEXEC, timing.SESSIONS["tensorrt"], timing.ONNX_RUNTIME)
    machine.times = {(route, "primitive-fp32", name): 34.0 for route in routes for name in ("up", "down")}
    machine.device = cuda.Device("Orin", "8.7", 61 << 30)
    found = timing.estimate_beside(machine)
    assert [(row["graph"], row["route"]) for row in found["rows"]] == [
        (f"primitive-fp32 {name}", route) for name in ("down", "up") for route in sorted(routes)
    ]
    assert {row["target"] for row in found["rows"]} == {"jetson-agx-orin"} and found["size"] == "128x64"
    row = found["rows"][0]
    assert row["measured ms"] == 34.0 and row["measured / estimated"] > 0
    html = page(gpu.report([gpu.Outcome("estimate", "passed", found=found)]))
    assert html.count("<td>primitive-fp32 up</td>") == 3 and "<th>measured / estimated</th>" in html
    machine.device = cuda.Device("GeForce", "8.6", 8 << 30)
    assert {row["target"] for row in timing.estimate_beside(machine)["rows"][:1]} == {"rtx"}


def test_parity_fails_where_a_runtime_disagrees(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison itself is tests/test_parity.py's; here its verdict reaches the report."""
    import export.parity

    with pytest.raises(UnableError, match="no graphs"):
        steps.compare(machine)
    machine.folders = {"plugin-fp16": machine.out, "plugin-fp32": machine.out}

    class Row:
        def __init__(self, why: str | None) -> None:
            self.fault = lambda tolerance: why

    monkeypatch.setattr(export.parity, "cells", lambda rows, tolerance: [["graph"], ["up"]])
    monkeypatch.setattr(export.parity, "left_out", lambda folder: ["no CUDA"])
    monkeypatch.setattr(export.parity, "compare", lambda ckpt, folder, image: [Row(None)])
    assert steps.compare(machine)["plugin-fp16"] == {"rows": [["graph"], ["up"]], "left out": ["no CUDA"]}
    monkeypatch.setattr(export.parity, "compare", lambda ckpt, folder, image: [Row("TensorRT: 0.2")])
    with pytest.raises(AssertionError, match="plugin-fp16: TensorRT: 0.2; plugin-fp32: TensorRT: 0.2"):
        steps.compare(machine)
