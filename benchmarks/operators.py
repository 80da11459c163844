"""The CPU operators against the runtimes' own, in one run: times as ratios, memory of the first call.

python -m benchmarks.operators [--threads 2] [--rounds 15]

One 3x3 deformable convolution and one window attention on 256x512 pixels, fp32, batch 1. In every round each contender
runs once, so that what disturbs the machine disturbs all; a ratio is the median over the rounds. "memory" is what the
first call adds to the process beyond its input and output, seen in a process of its own.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib.util
import multiprocessing
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

from benchmarks import record
from benchmarks.traffic import offsets
from export.lowering import lower
from export.operators import DOMAIN, PLUGIN
from plugins.onnxruntime import library
from plugins.testing import native
from plugins.testing.cpu_operators import INSTRUCTION_SETS, Call, instruction_sets
from plugins.testing.native import Array

HEIGHT, WIDTH, WINDOW, DEPTH = 256, 512, 8, 16
Run = Callable[[], Array]
IN_RUNTIME = "ours, in ONNX Runtime"
PLAIN = "ONNX Runtime Conv (plain)"  # another function: the floor


@dataclass(frozen=True)
class Contender:
    """make: a run with that number of threads. into_y: the result goes to memory that was there before."""

    make: Callable[[int], Run]
    into_y: bool = False


def model(nodes: Sequence[Any], fixed: dict[str, Array], free: dict[str, Array]) -> ModelProto:
    """A graph with the output y; `fixed` tensors are its weights."""
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, list(a.shape)) for name, a in free.items()]
    graph = helper.make_graph(
        nodes,
        "benchmark",
        values,
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * 4)],
        [numpy_helper.from_array(a, name) for name, a in fixed.items()],
        value_info=values,
    )
    imports = [helper.make_opsetid("", 19), helper.make_opsetid(DOMAIN, 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=10)


def in_onnxruntime(graph: ModelProto, free: dict[str, Array], with_ours: bool = False) -> Contender:
    """with_ours: the graph has nodes of ours, which our library computes in ONNX Runtime's threads."""

    def make(threads: int) -> Run:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        if with_ours:
            options.register_custom_ops_library(str(library.find()))
        options.intra_op_num_threads = threads
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # idle threads leave cores to others
        session = onnxruntime.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return lambda: session.run(None, free)[0]

    return Contender(make)


def in_openvino(x: Array, offset: Array, weight: Array, bias: Array) -> Contender:
    def make(threads: int) -> Run:
        import openvino
        from openvino import opset8

        image, move = (opset8.parameter(list(a.shape), np.float32) for a in (x, offset))
        ones = [1, 1]  # strides, pads, dilations
        node = opset8.deformable_convolution(
            image, move, opset8.constant(weight), ones, ones, ones, ones, bilinear_interpolation_pad=True
        )
        result = opset8.add(node, opset8.constant(bias.reshape(1, -1, 1, 1)))
        hints = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}
        compiled = openvino.Core().compile_model(openvino.Model([result], [image, move], "benchmark"), "CPU", hints)
        request = compiled.create_infer_request()
        return lambda: request.infer([x, offset], share_inputs=True, share_outputs=True)[0]

    return Contender(make)


def ours(operator: str, prepared: tuple[Any, Array, list[Array | None]], instruction_set: str) -> Contender:
    """With a workspace that is kept, as an inference session keeps it."""

    def make(threads: int) -> Run:
        call = Call(operator, *prepared, threads, instruction_set)
        workspace = np.empty(call.workspace_size(), np.uint8)
        return lambda: call(workspace)

    return Contender(make, into_y=True)


def convolutions(channels: int) -> dict[str, Contender]:
    """Contenders of the deformable convolution; columns are not cyclic, for the others know nothing else."""
    random = np.random.default_rng(0)
    x = random.normal(size=(1, channels, HEIGHT, WIDTH)).astype(np.float32)
    offset = offsets(random, (1, 18, HEIGHT, WIDTH)).astype(np.float32)
    weight = (random.normal(size=(channels, channels, 3, 3)) / np.sqrt(9 * channels)).astype(np.float32)
    bias = random.normal(size=channels).astype(np.float32)
    fixed = {"weight": weight, "bias": bias}
    same: dict[str, Any] = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
    deformed = helper.make_node("DeformConv", ["x", "weight", "offset", "bias"], ["y"], **same)
    plain = helper.make_node("Conv", ["x", "weight", "bias"], ["y"], **same)
    contenders: dict[str, Contender] = {}
    for name in available():
        prepared = native.deform_conv_params(x, offset, weight, bias, None, wrap=False)
        contenders[f"ours, {name}"] = ours("deform_conv", prepared, name)
    free = {"x": x, "offset": offset}
    attributes: dict[str, Any] = {"strides": [1, 1], "pads": [1, 1], "dilations": [1, 1], "group": 1, "offset_group": 1}
    attributes |= {"max_offset": 3.0, "wrap": 0, **PLUGIN}
    node = helper.make_node("DeformConv2d", ["x", "offset", "weight", "bias"], ["y"], domain=DOMAIN, **attributes)
    contenders[IN_RUNTIME] = in_onnxruntime(model([node], fixed, free), free, with_ours=True)
    contenders["ONNX Runtime DeformConv"] = in_onnxruntime(model([deformed], fixed, free), free)
    if importlib.util.find_spec("openvino") is not None:
        contenders["OpenVINO"] = in_openvino(x, offset, weight, bias)
    contenders[PLAIN] = in_onnxruntime(model([plain], fixed, {"x": x}), {"x": x})
    return contenders


def attentions(channels: int) -> dict[str, Contender]:
    """Contenders of the window attention: shifted windows, deformed queries."""
    random = np.random.default_rng(0)
    heads = channels // DEPTH
    field = (1, 2 * heads, HEIGHT // WINDOW, WIDTH // WINDOW)
    q, k, v = (random.normal(size=(1, channels, HEIGHT, WIDTH)).astype(np.float32) for _ in range(3))
    bias = random.normal(size=(heads, WINDOW**2, WINDOW**2)).astype(np.float32)
    scale, offset = (random.normal(size=field, scale=s).astype(np.float32) for s in (0.1, 1.0))
    options: dict[str, Any] = dict(window=WINDOW, shift=WINDOW // 2, wrap=True)
    contenders: dict[str, Contender] = {}
    for name in available():
        prepared = native.dst_attention_params(q, k, v, bias, scale, offset, **options)
        contenders[f"ours, {name}"] = ours("dst_attention", prepared, name)
    free = {"q": q, "k": k, "v": v, "scale": scale, "offset": offset}
    inputs = ["q", "k", "v", "bias", "scale", "offset"]
    attributes = {**options, "wrap": 1, "heads": heads, **PLUGIN}
    node = helper.make_node("DSTAttention", inputs, ["y"], "node", domain=DOMAIN, **attributes)
    contenders[IN_RUNTIME] = in_onnxruntime(model([node], {"bias": bias}, free), free, with_ours=True)
    decomposed = lower(model([node], {"bias": bias}, free), "standard")
    contenders["ONNX Runtime, decomposed"] = in_onnxruntime(decomposed, free)
    return contenders


def available() -> list[str]:
    """This CPU's instruction sets, best first, without the portable build."""
    return [name for name in reversed(instruction_sets()) if name != INSTRUCTION_SETS[0]]


def memory(contender: Contender, threads: int) -> int:
    """Bytes that the first call adds to a process beyond its output."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_measure, args=(contender, threads, sender))
    process.start()
    grown = receiver.recv()
    process.join()
    return grown


def _measure(contender: Contender, threads: int, sender: Connection) -> None:
    trim = ctypes.CDLL(None).malloc_trim  # what was freed before counts when it is used again
    trim(0)
    run = contender.make(threads)
    trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
    before = _status("VmRSS")
    y = run()
    sender.send(_status("VmHWM") - before - (0 if contender.into_y else y.nbytes))


def _status(field: str) -> int:
    """Bytes of a line of /proc/self/status."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{field}:"))
    return int(line.split()[1]) * 1024


def compare(title: str, contenders: dict[str, Contender], reference: str, threads: int, rounds: int) -> record.Table:
    """Times and memory. Every contender but the plain convolution has to give the reference's result."""
    grown = {name: memory(contender, threads) for name, contender in contenders.items()}
    runs = {name: contender.make(threads) for name, contender in contenders.items()}
    expected = runs[reference]()
    for name, run in runs.items():
        error = np.abs(run() - expected).max() / np.abs(expected).max()
        if name != PLAIN and not error < 1e-4:
            raise SystemExit(f"{title}, {name}: differs from {reference} by {error:.1e} of its largest value")
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - start)
    best = next(iter(runs))
    columns = {"": "{}", "median ms": "{:.1f}", "min ms": "{:.1f}", f"times {best}": "{:.2f}", "memory MiB": "{:.1f}"}
    rows: list[list[record.Cell]] = []
    for name, values in times.items():
        ratio = float(np.median(np.divide(values, times[best])))
        rows.append([name, 1e3 * float(np.median(values)), 1e3 * min(values), ratio, grown[name] / 2**20])
    return record.Table(f"{title}: {rounds} rounds, {threads} threads", columns, rows)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=15)
    record.add_option(parser)
    options = parser.parse_args(arguments)
    notes = []
    if importlib.util.find_spec("openvino") is None:
        notes.append("OpenVINO is left out: the package openvino is not installed")
    tables = []
    for channels in (32, 64):
        title = f"Deformable convolution, C = {channels}"
        contenders = convolutions(channels)
        tables.append(compare(title, contenders, "ONNX Runtime DeformConv", options.threads, options.rounds))
    for channels in (32, 64):
        title = f"DST attention, C = {channels}, {channels // DEPTH} heads"
        contenders = attentions(channels)
        tables.append(compare(title, contenders, "ONNX Runtime, decomposed", options.threads, options.rounds))
    record.report(tables, notes, options.save)


if __name__ == "__main__":
    main()
