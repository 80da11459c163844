"""The whole model on CPU cores: time and memory of encoding and decoding one panorama, ours beside other runtimes.

python -m benchmarks.model                                    checkpoints/x4.pth, 2048x1024, two threads
python -m benchmarks.model --systems plugin cpu --runs 5      some of them
python -m benchmarks.model --instruction-set avx2             all of them as on a CPU without AVX-512 and AMX

Each system runs in a process of its own. Memory is the most that the process ever held (VmHWM) beyond what it held when
its packages were imported and nothing was loaded yet. Time is the least of the runs after a first one.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import record
from benchmarks.instruction_set import MaskError, environment
from engines.support.files import sha256_of

Array = NDArray[np.float32]
Run = Callable[[Array], Array]
ROOT = Path(__file__).resolve().parents[1]
GRAPHS = ROOT / "build" / "benchmarks"
SYSTEMS = {
    "torch": "PyTorch eager",
    "compile": "torch.compile",
    "standard": "ONNX Runtime, --ops standard",
    "primitive": "ONNX Runtime, --ops primitive",
    "openvino": "OpenVINO f32",
    "plugin": "ours, --ops plugin",
    "cpu": "ours, --ops cpu",
}
OURS = ("plugin", "cpu")
DIRECTIONS = {"down": "encode", "up": "decode"}


def graphs(ckpt: Path, systems: list[str]) -> Path:
    """The folder with <direction>-<ops>.onnx of a checkpoint, each exported once by the code that exports now."""
    folder = GRAPHS / f"{ckpt.stem}-{sha256_of(ckpt)[:12]}-{digest_of_exporter()[:12]}"
    folder.mkdir(parents=True, exist_ok=True)
    wanted = [lowering(system) for system in systems if lowering(system) is not None]
    missing = [(d, ops) for d in DIRECTIONS for ops in wanted if not (folder / f"{d}-{ops}.onnx").exists()]
    if missing:
        import onnx

        from dinn360.checkpoint import load_checkpoint
        from export.lowering import lower
        from export.trace import trace

        network = load_checkpoint(ckpt).build()
        traced = {direction: trace(network, direction, 19) for direction in {direction for direction, _ in missing}}
        for direction, ops in dict.fromkeys(missing):
            onnx.save(lower(traced[direction], ops), str(folder / f"{direction}-{ops}.onnx"))  # type: ignore[arg-type]
    return folder


def digest_of_exporter() -> str:
    """SHA-256 of the modules that a graph is made by."""
    digest = hashlib.sha256()
    for path in sorted(path for room in ("dinn360", "export") for path in (ROOT / room).rglob("*.py")):
        digest.update(f"{path.relative_to(ROOT)} {sha256_of(path)}\n".encode())
    return digest.hexdigest()


def lowering(system: str) -> str | None:
    """The `--ops` of the graph that a system runs, if it runs one."""
    return {"torch": None, "compile": None, "openvino": "standard"}.get(system, system)


def in_torch(ckpt: Path, direction: str, threads: int, compiled: bool) -> Run:
    import torch

    from dinn360.checkpoint import load_checkpoint
    from export.graphs import GRAPHS as MODULES

    torch.set_num_threads(threads)
    module: Any = MODULES[direction](load_checkpoint(ckpt).build()).eval()
    if compiled:
        module = torch.compile(module)

    def run(x: Array) -> Array:
        with torch.inference_mode():
            return module(torch.from_numpy(x)).numpy()

    return run


def in_onnxruntime(graph: Path, threads: int) -> Run:
    from engines.session import open_session

    session = open_session(graph, threads)
    source, result = session.inputs[0].name, session.outputs[0].name
    return lambda x: session.run(**{source: x})[result]


def in_openvino(graph: Path, threads: int, shape: tuple[int, ...]) -> Run:
    """fp32 throughout: on CPUs with bf16 OpenVINO's default is bf16. DeformConv has to be mapped by hand."""
    import openvino
    import openvino.opset8 as operators
    from openvino.frontend.onnx import ConversionExtension

    def deform_conv(node: Any) -> Any:
        x, weight, offset, bias = (node.get_input(i) for i in range(4))
        pads, strides = node.get_attribute("pads", None), node.get_attribute("strides", None)
        dilations, fields = node.get_attribute("dilations", None), node.get_attribute("offset_group", 1)
        y = operators.deformable_convolution(
            x, offset, weight, strides, pads[:2], pads[2:], dilations,
            mask=None, auto_pad="explicit", group=1, deformable_group=fields, bilinear_interpolation_pad=True,
        )  # fmt: skip
        shape = operators.constant(np.array([1, -1, 1, 1], np.int64))
        return operators.add(y, operators.reshape(bias, shape, False)).outputs()

    core = openvino.Core()
    core.add_extension(ConversionExtension("DeformConv", deform_conv))
    model = core.read_model(graph)
    model.reshape({model.inputs[0]: list(shape)})
    options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}
    compiled = core.compile_model(model, "CPU", options)
    return lambda x: compiled({0: x})[compiled.output(0)]


def high_water() -> int:
    """The most memory that this process ever held, bytes."""
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) * 1024


def work(system: str, direction: str, ckpt: Path, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """One system and direction in this process: seconds of each run, bytes of memory, mean of the result."""
    width, height = map(int, options.size.split("x"))
    scale = int(ckpt.stem[1:].split("-")[0]) if direction == "up" else 1
    x = np.random.default_rng(0).random((1, 3, height // scale, width // scale), np.float32)
    imports = {"openvino": "openvino", "torch": "torch", "compile": "torch"}
    __import__(imports.get(system, "onnxruntime"))
    before = high_water()
    graph = folder / f"{direction}-{lowering(system)}.onnx"
    if system in ("torch", "compile"):
        run = in_torch(ckpt, direction, options.threads, system == "compile")
    elif system == "openvino":
        run = in_openvino(graph, options.threads, x.shape)
    else:
        run = in_onnxruntime(graph, options.threads)
    result = run(x)
    seconds = []
    for _ in range(options.runs):
        started = time.perf_counter()
        result = run(x)
        seconds.append(time.perf_counter() - started)
    return {"seconds": seconds, "memory": high_water() - before, "mean": float(result.mean())}


def measure(system: str, direction: str, arguments: list[str], held: dict[str, str] | None) -> dict[str, Any] | str:
    """`work` in a process of its own with that environment (None: this one); or the last line of what it complained."""
    command = [sys.executable, "-m", "benchmarks.model", *arguments, "--worker", system, direction]
    done = subprocess.run(command, cwd=ROOT, env=held, capture_output=True, text=True)
    if done.returncode != 0:
        return (done.stderr.strip() or "no reason given").splitlines()[-1]
    return json.loads(done.stdout.splitlines()[-1])


def table(title: str, found: dict[tuple[str, str], dict[str, Any]], systems: list[str], pixels: int) -> record.Table:
    """Seconds, megapixels a second, memory beyond the packages and its bytes per HR pixel, in each direction."""
    columns = {"": "{}"}
    for name in DIRECTIONS.values():
        columns |= {
            f"{name}, s": "{:.2f}",
            f"{name}, MP/s": "{:.2f}",
            f"{name}, MiB": "{:.0f}",
            f"{name}, B/px": "{:.0f}",
        }
    rows: list[list[record.Cell]] = []
    for system in systems:
        cells: list[record.Cell] = [SYSTEMS[system]]
        for direction in DIRECTIONS:
            row = found.get((system, direction))
            if row is None:
                cells += [None] * 4
                continue
            seconds, memory = min(row["seconds"]), row["memory"]
            cells += [seconds, pixels / seconds / 1e6, memory / 2**20, memory / pixels]
        rows.append(cells)
    return record.Table(title, columns, rows)


def verdicts(found: dict[tuple[str, str], dict[str, Any]]) -> list[str]:
    """How much faster ours is than the best of the others, and where results differ."""
    lines = []
    for direction, name in DIRECTIONS.items():
        times = {s: min(row["seconds"]) for (s, d), row in found.items() if d == direction}
        ours = [times[s] for s in times if s in OURS]
        others = {s: times[s] for s in times if s not in OURS}
        if ours and others:
            best = min(others, key=others.__getitem__)
            lines.append(f"{name}: {others[best] / min(ours):.1f} times as fast as {SYSTEMS[best]}")
        means = {s: row["mean"] for (s, d), row in found.items() if d == direction}
        apart = max(means.values(), default=0) - min(means.values(), default=0)
        if apart > 1e-4:
            lines.append(f"{name}: the systems disagree, mean results {means}")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--ckpt", type=Path, default=ROOT / "checkpoints" / "x4.pth", help="named after its scale: x4.pth"
    )
    parser.add_argument("--size", default="2048x1024", help="of the panorama")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=3, help="timed runs after a first one")
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS))
    parser.add_argument(
        "--instruction-set", choices=["avx2"], help="hide what the CPU has beyond it from all systems (Linux, x86-64)"
    )
    parser.add_argument("--worker", nargs=2, metavar=("SYSTEM", "DIRECTION"), help=argparse.SUPPRESS)
    record.add_option(parser)
    options = parser.parse_args()
    folder = graphs(options.ckpt, options.systems if options.worker is None else [])
    if options.worker is not None:
        system, direction = options.worker
        print(json.dumps(work(system, direction, options.ckpt, folder, options)))
        return
    try:
        held = None if options.instruction_set is None else environment()
    except MaskError as error:
        sys.exit(f"--instruction-set {options.instruction_set}: {error}")
    width, height = map(int, options.size.split("x"))
    shared = [f"--{name}={getattr(options, name)}" for name in ("ckpt", "size", "threads", "runs")]
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for direction in DIRECTIONS:
        for system in options.systems:
            result = measure(system, direction, shared, held)
            if isinstance(result, str):
                print(f"{SYSTEMS[system]}, {DIRECTIONS[direction]}: left out, {result}", file=sys.stderr)
            else:
                found[system, direction] = result
    title = f"{options.ckpt.name}, {width}x{height}, {options.threads} threads"
    if held is not None:
        title += ", every system as on a CPU with AVX2 and no more (CPUID masked)"
    record.report([table(title, found, options.systems, width * height)], verdicts(found), options.save)


if __name__ == "__main__":
    main()
