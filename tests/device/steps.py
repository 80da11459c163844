"""The steps of tests/device/gpu.py: each gives what it found, raises UnableError with what is missing, or fails."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engines.building.build import BuildOptions, build_engine
from engines.engine_file.profile import sizes_for
from engines.nvidia import cuda
from engines.nvidia.tensorrt_package import PLUGIN_LIBRARY, import_tensorrt
from engines.support.errors import UserError
from engines.targets import Runtime, Size, Target, load_targets
from plugins.build import ROOT, cmake
from plugins.cuda import library as kernels
from plugins.onnxruntime import library as ort_library

SIZE: Size = (1920, 3840)  # HR pixels of what is timed
GRAPHS = ("down", "up")
EDGE = "edge"  # seeded (edge.py): graphs of a released network may have no node for our plugins
FORMS = (
    *(f"{ops}-{precision}" for ops in ("plugin", "primitive") for precision in ("fp16", "fp32")),
    *(f"plugin-{precision}-{EDGE}" for precision in ("fp16", "fp32")),
)
SHORT = ("wrap", "mask", "batch", "shift")  # cases that compute-sanitizer watches: it is a hundred times slower


class UnableError(Exception):
    """What this machine lacks for a step, in one line."""


@dataclass
class Machine:
    """Where results go, and what earlier steps found out. device: the first GPU, None before `describe` or without one.

    library: libdinn360_trt.so; calls: the kernels for ctypes; folders: of graphs and engines, by form.
    """

    out: Path
    ckpt: Path
    graphs: Path | None = None
    device: cuda.Device | None = None
    library: Path | None = None
    calls: Path | None = None
    folders: dict[str, Path] = field(default_factory=dict)
    times: dict[tuple[str, str, str], float] = field(default_factory=dict)  # milliseconds by route, form and graph

    def checkpoint(self, form: str) -> Path:
        """Of which network a form's graphs are."""
        return self.out / f"{EDGE}.pth" if form.endswith(EDGE) else self.ckpt

    def program(self, name: str, folders: Sequence[str] = ()) -> str:
        """A program on PATH or in `folders`. Raises UnableError."""
        found = shutil.which(name) or next(filter(None, (shutil.which(name, path=f) for f in folders)), None)
        if found is None:
            raise UnableError(f"no {name} on this machine")
        return found

    def run(self, *command: str | Path) -> str:
        """A command's output. Raises AssertionError with its last line where it fails."""
        done = subprocess.run(list(map(str, command)), cwd=ROOT, capture_output=True, text=True)
        said = (done.stdout + done.stderr).strip()
        assert done.returncode == 0, f"{command[0]}: exit {done.returncode}: {_last(said)}"
        return said


def _last(said: str) -> str:
    return said.splitlines()[-1] if said else ""


def describe(machine: Machine) -> dict[str, Any]:
    """The GPU and its driver."""
    try:
        machine.device = cuda.find_device("the report")
    except UserError as error:
        raise UnableError(str(error)) from error
    found: dict[str, Any] = {"gpu": machine.device.name, "compute capability": machine.device.capability}
    if shutil.which("nvidia-smi"):
        query = "--query-gpu=driver_version,memory.total,power.limit,clocks.max.sm"
        found["nvidia-smi"] = machine.run("nvidia-smi", query, "--format=csv,noheader")
    return found


def build_libraries(machine: Machine) -> dict[str, Any]:
    """The plugin library and the kernels for ctypes, for this GPU alone."""
    if why := kernels.missing():
        raise UnableError(why)
    assert machine.device is not None
    folder = machine.out / "plugins"
    number = machine.device.capability.replace(".", "")
    options = (f"-DDINN360_CUDA_ARCHITECTURES={number}", f"-DPython3_EXECUTABLE={sys.executable}")
    cmake(folder, ["CUDA", "TENSORRT"], "dinn360_trt", *options)
    cmake(folder, ["CUDA", "TENSORRT"], "dinn360_kernels_c", *options)
    machine.library = folder / "tensorrt" / PLUGIN_LIBRARY
    machine.calls = folder / "testing" / "libdinn360_kernels_c.so"
    return {"library": str(machine.library), "architecture": number}


def build_onnxruntime(machine: Machine) -> dict[str, Any]:
    """The operators of plugin graphs for ONNX Runtime, with the kernels where its package has the CUDA provider."""
    try:
        import onnxruntime
    except ImportError as error:
        raise UnableError(f"ONNX Runtime is not installed: {error}") from error
    found = {"CPU": str(ort_library.build())}
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        found["CUDA"] = str(ort_library.build(cuda=True))
    else:
        found["CUDA"] = "not built: this onnxruntime has no CUDA provider (onnxruntime-gpu has)"
    return found


def check_kernels(machine: Machine) -> dict[str, Any]:
    """Every case of the emulator's tests, in device memory; in a process of its own, which a fault would poison."""
    if machine.calls is None:
        raise UnableError("the kernels were not built")
    said = machine.run(sys.executable, "-m", "tests.device.kernels", machine.calls)
    return {"said": _last(said)}


def sanitize(machine: Machine) -> dict[str, Any]:
    """A few cases under compute-sanitizer's checks of memory, races and initialisation."""
    if machine.calls is None:
        raise UnableError("the kernels were not built")
    program = machine.program("compute-sanitizer", ("/usr/local/cuda/bin",))
    found = {}
    for tool in ("memcheck", "racecheck", "initcheck"):
        ours = (sys.executable, "-m", "tests.device.kernels", machine.calls, *SHORT)
        said = machine.run(program, "--tool", tool, "--error-exitcode", "9", *ours)
        found[tool] = _last(said)
    return found


def export_graphs(machine: Machine) -> dict[str, Any]:
    """fp16 and fp32 graphs of both directions, with our plugins and with primitive operators; those of `edge` with our
    plugins, to run them in engines."""
    base = machine.graphs or machine.out / "graphs"
    if machine.graphs is None and machine.ckpt.is_file():
        machine.run(sys.executable, "-m", "tests.device.edge", machine.checkpoint(EDGE))
    for form in FORMS:
        folder = base / form
        if machine.graphs is None:
            if not machine.ckpt.is_file():
                raise UnableError(f"no checkpoint {machine.ckpt}, and no --graphs")
            ops, precision, *_ = form.split("-")
            machine.run(sys.executable, "-m", "export", "onnx", "--ckpt", machine.checkpoint(form), "--ops", ops,
                        "--precision", precision, "--out", folder)  # fmt: skip
        if all((folder / f"{name}.onnx").is_file() for name in GRAPHS):
            machine.folders[form] = folder
    if not machine.folders:
        raise UnableError(f"no graphs in {base}: expected {', '.join(FORMS)}")
    return {"folders": {form: str(folder) for form, folder in machine.folders.items()}}


def target_of(machine: Machine, runtime: Runtime) -> Target:
    """The target whose engines this GPU runs; of several the one with the most similar memory. Raises UnableError."""
    assert machine.device is not None
    capability, memory = machine.device.capability, machine.device.memory / 1e9
    found = [t for t in load_targets().values() if t.runtime == runtime and capability in t.compute_capabilities]
    if not found:
        raise UnableError(f"no target of engines/targets.toml for compute capability {capability} ({runtime})")
    return min(found, key=lambda target: abs(target.memory_gb - memory))


def build_tensorrt(machine: Machine) -> dict[str, Any]:
    """Engines of the plugin graphs, for one size."""
    if machine.library is None:
        raise UnableError("the plugin library was not built")
    return _build(machine, "tensorrt", "plugin", machine.library)


def build_rtx(machine: Machine) -> dict[str, Any]:
    """Engines of the primitive graphs, for one size and this card."""
    return _build(machine, "tensorrt_rtx", "primitive", None)


def _build(machine: Machine, runtime: Runtime, ops: str, library: Path | None) -> dict[str, Any]:
    assert machine.device is not None
    try:
        package = import_tensorrt(runtime, "this step")
    except UserError as error:
        raise UnableError(str(error)) from error
    target, found = target_of(machine, runtime), {"package": package.name}
    capabilities = (machine.device.capability,) if runtime == "tensorrt_rtx" else ()
    forms = [form for form in machine.folders if form.startswith(f"{ops}-")]
    if not forms:
        raise UnableError(f"no graphs of --ops {ops}")
    for form in forms:
        folder = machine.folders[form]
        if library is not None:
            shutil.copyfile(library, folder / library.name)  # a session looks beside the engine
        for name in GRAPHS:
            options = BuildOptions(target, sizes_for(target, only=SIZE), capabilities, library)
            manifest = build_engine(folder / f"{name}.onnx", folder / f"{name}.engine", options)
            found[f"{form} {name}"] = f"{manifest.engine_bytes / 1e6:.1f} MB"
    return found


def compare(machine: Machine) -> dict[str, Any]:
    """Every runtime against PyTorch fp32 on assets/: parity of fp32, decibels that fp16 loses."""
    if not machine.folders:
        raise UnableError("no graphs")
    try:
        from engines.support.images import read_panorama
        from export.parity import cells, left_out
        from export.parity import compare as against_pytorch
    except ImportError as error:
        raise UnableError(f"PyTorch's side is missing: {error}") from error
    image = read_panorama(ROOT / "assets" / "courtyard.png")
    found, wrong = {}, []
    for form, folder in machine.folders.items():
        if form.endswith(EDGE) and not machine.checkpoint(form).is_file():  # graphs were brought, their network was not
            found[form] = {"rows": [], "left out": [f"no checkpoint {machine.checkpoint(form)}"]}
            continue
        rows = against_pytorch(machine.checkpoint(form), folder, image)
        table = cells(rows, 1e-4)
        found[form] = {"rows": table, "left out": left_out(folder)}
        wrong += [f"{form}: {fault}" for row in rows if (fault := row.fault(1e-4)) is not None]
    assert not wrong, "; ".join(wrong)
    return found
