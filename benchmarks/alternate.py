"""Graphs against each other in one process, run in turn: which is faster on CPU cores, and by how much.

python -m benchmarks.alternate before/up.onnx after/up.onnx --size 1024x512 --runs 5

Prints of each graph the least and the median CPU seconds of its runs (those of the process, on one thread, so that work
beside it counts little), the ratio of the medians to the first graph's, and how far its result is from the first one's.
Every graph reads the same random image of --size. --profile tells how long the operators of each kind took in a run.
"""

from __future__ import annotations

import argparse
import collections
import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from benchmarks import record
from plugins.onnxruntime import library


def session(path: Path, profile: Path | None = None) -> onnxruntime.InferenceSession:
    """ONNX Runtime on one thread, with our operators. Not through engines: graphs of older versions are taken, too."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    if profile is not None:
        options.enable_profiling, options.profile_file_prefix = True, str(profile)
    options.register_custom_ops_library(str(library.find()))
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def run(graph: onnxruntime.InferenceSession, x: NDArray[np.float32]) -> tuple[float, NDArray[np.float32]]:
    """CPU seconds of a run, and its result."""
    started = time.process_time()
    (result,) = graph.run(None, {graph.get_inputs()[0].name: x})
    return time.process_time() - started, result


def by_operator(path: Path, x: NDArray[np.float32]) -> dict[str, tuple[int, float]]:
    """Calls and milliseconds of a second run, by kind of operator, the longest first."""
    with tempfile.TemporaryDirectory() as folder:
        graph = session(path, Path(folder) / "profile")
        run(graph, x)
        run(graph, x)
        events = json.loads(Path(graph.end_profiling()).read_text())
    kernels = [event for event in events if event["name"].endswith("_kernel_time")]
    found: dict[str, tuple[int, float]] = collections.defaultdict(lambda: (0, 0.0))
    for event in kernels[len(kernels) // 2 :]:
        kind = event["args"]["op_name"]
        calls, spent = found[kind]
        found[kind] = calls + 1, spent + event["dur"] / 1e3
    return dict(sorted(found.items(), key=lambda item: -item[1][1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("graphs", nargs="+", type=Path)
    parser.add_argument("--size", default="1024x512", help="of the image that goes in")
    parser.add_argument("--runs", type=int, default=5, help="timed runs of each graph after a first one")
    parser.add_argument("--profile", action="store_true")
    record.add_option(parser)
    options = parser.parse_args()
    width, height = map(int, options.size.split("x"))
    x = np.random.default_rng(0).random((1, 3, height, width), np.float32)
    sessions = [session(path) for path in options.graphs]
    results = [run(graph, x)[1] for graph in sessions]
    seconds: list[list[float]] = [[] for _ in sessions]
    for _ in range(options.runs):
        for spent, graph in zip(seconds, sessions, strict=True):
            spent.append(run(graph, x)[0])
    medians = [statistics.median(spent) for spent in seconds]
    columns = {"graph": "{}", "least, s": "{:.3f}", "median, s": "{:.3f}", "ratio": "{:.3f}", "difference": "{:.1e}"}
    rows: list[list[record.Cell]] = [
        [str(path), min(spent), median, median / medians[0], float(np.abs(result - results[0]).max())]
        for path, spent, median, result in zip(options.graphs, seconds, medians, results, strict=True)
    ]
    tables = [record.Table(f"CPU seconds, {options.size}, one thread", columns, rows)]
    if options.profile:
        found = [by_operator(path, x) for path in options.graphs]
        kinds = list(dict.fromkeys(kind for spent in found for kind in spent))
        headings = {"operator": "{}"}
        for path in options.graphs:
            headings |= {f"{path}, calls": "{:d}", f"{path}, ms": "{:.1f}"}
        rows = [[kind, *(cell for spent in found for cell in spent.get(kind, (0, 0.0)))] for kind in kinds]
        tables.append(record.Table("Operators of one run", headings, rows))
    record.report(tables, [], options.save)


if __name__ == "__main__":
    main()
