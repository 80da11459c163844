"""How long a graph takes by every route of the machine, by the device's own clock, and the estimate beside it.

Everything is timed for the size of `steps.SIZE`, with the images in the GPU's memory. TensorRT's engines are timed by
trtexec. Sessions of both engine kinds and ONNX Runtime's CUDA provider are timed by events between runs that follow
each other on one stream: the host puts them there ahead of time and waits at the end, so that its own time shows only
where it is slower than the device.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from engines.engine_file.manifest import read_manifest
from engines.engine_file.profile import profile_for, sizes_for, text
from engines.nvidia import cuda
from engines.nvidia.device_array import DeviceArray
from engines.nvidia.tensorrt_package import PLUGIN_LIBRARY
from engines.onnx_file import read_onnx
from engines.runtimes import operator_library
from engines.session import open_session
from engines.support.arrays import Array
from engines.targets import Target, load_targets
from tests.device import steps
from tests.device.steps import GRAPHS, Machine, UnableError

WARM_UP, RUNS = 5, 30
TRTEXEC = "TensorRT, trtexec"
SESSIONS = {"tensorrt": "TensorRT, session", "tensorrt_rtx": "TensorRT-RTX, session"}
ONNX_RUNTIME = "ONNX Runtime CUDA"
PROVIDER, DEVICE = "CUDAExecutionProvider", "cuda"

Times = dict[str, float]
Job = tuple[tuple[str, str, str], Callable[[], Times]]  # route, form and graph; what times them


def time_by_trtexec(machine: Machine) -> dict[str, Any]:
    """trtexec's own counters, which leave the host out, for each engine of TensorRT."""
    program = machine.program("trtexec", ("/usr/src/tensorrt/bin", "/usr/local/tensorrt/bin"))
    jobs = [
        ((TRTEXEC, form, name), partial(_by_trtexec, machine, program, engine))
        for form, name, engine in engines(machine)
        if read_manifest(engine).runtime == "tensorrt"
    ]
    return _all(machine, jobs, "no engines of TensorRT")


def _by_trtexec(machine: Machine, program: str, engine: Path) -> Times:
    manifest = read_manifest(engine)
    plugins = [f"--dynamicPlugins={engine.with_name(PLUGIN_LIBRARY)}"] if manifest.plugin_library else []
    shape = f"--shapes={manifest.profile.input}:{text(manifest.profile.optimum)}"
    said = machine.run(program, f"--loadEngine={engine}", *plugins, shape, "--useCudaGraph", "--warmUp=500",
                       "--duration=10", "--noDataTransfers")  # fmt: skip
    return gpu_times(said)


def gpu_times(said: str) -> Times:
    """trtexec's "GPU Compute Time" in milliseconds."""
    line = re.search(r"GPU Compute Time: (.*)", said)
    assert line, "trtexec told no GPU Compute Time"
    times = {name: float(value) for name, value in re.findall(r"(\w+(?:\(\d+%\))?) = ([\d.]+) ms", line[1])}
    assert "median" in times, f"trtexec told no median: {line[1]}"
    return times


def time_sessions(machine: Machine) -> dict[str, Any]:
    """Our own sessions over every engine, TensorRT's and TensorRT-RTX's."""
    jobs = [
        ((SESSIONS[read_manifest(engine).runtime], form, name), partial(_session, engine))
        for form, name, engine in engines(machine)
    ]
    return _all(machine, jobs, "no engines")


def _session(engine: Path) -> Times:
    with open_session(engine) as session, closing(cuda.Stream(str(engine))) as stream:
        assert session.profile is not None
        (spec,) = session.inputs
        x = image(session.profile.optimum, spec.dtype)
        buffer = stream.buffer(spec.name, x.nbytes)
        stream.upload(buffer, x)
        given = {spec.name: DeviceArray(buffer.device, x.shape, x.dtype)}
        out = session.run_on_device(stream.handle, **given)
        return intervals(stream, lambda: session.run_on_device(stream.handle, out, **given))


def time_in_onnxruntime(machine: Machine) -> dict[str, Any]:
    """ONNX Runtime's CUDA provider on every graph; of plugin graphs with our kernels."""
    try:
        import onnxruntime
    except ImportError as error:
        raise UnableError(f"ONNX Runtime is not installed: {error}") from error
    if PROVIDER not in onnxruntime.get_available_providers():
        raise UnableError(f"this onnxruntime has no {PROVIDER} (onnxruntime-gpu has)")
    jobs = [
        ((ONNX_RUNTIME, form, name), partial(_in_onnxruntime, folder / f"{name}.onnx"))
        for form, folder in machine.folders.items()
        for name in GRAPHS
    ]
    return _all(machine, jobs, "no graphs")


def _in_onnxruntime(path: Path) -> Times:
    import onnxruntime

    file = read_onnx(path)
    profile = profile_for(file, sizes_for(next(iter(load_targets().values())), only=steps.SIZE))
    with closing(cuda.Stream(str(path))) as stream:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        if ours := [node for node in file.nodes if node.domain.startswith("dinn360")]:
            operator_library.register(options, path, ours[0].op_type, gpu=True)
        provider = (PROVIDER, {"device_id": "0", "user_compute_stream": str(int(stream.handle))})
        native = onnxruntime.InferenceSession(str(path), options, providers=[provider])
        assert native.get_providers()[0] == PROVIDER, f"{path}: ONNX Runtime fell back to the CPU"
        binding = native.io_binding()
        x = image(profile.optimum, np.dtype(file.inputs[0].dtype))
        binding.bind_ortvalue_input(profile.input, onnxruntime.OrtValue.ortvalue_from_numpy(x, DEVICE, 0))
        names = [tensor.name for tensor in native.get_outputs()]
        for name in names:
            binding.bind_output(name, DEVICE)
        native.run_with_iobinding(binding)
        for name, value in zip(names, binding.get_outputs(), strict=True):
            binding.bind_ortvalue_output(name, value)  # the same memory from now on
        run = onnxruntime.RunOptions()
        run.add_run_config_entry("disable_synchronize_execution_providers", "1")
        return intervals(stream, lambda: native.run_with_iobinding(binding, run))


def image(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Noise: what is computed on zeros may take another time."""
    noise = np.random.default_rng(0).random(shape, np.float32)
    return (255 * noise if dtype == np.uint8 else noise).astype(dtype)


def intervals(stream: cuda.Stream, enqueue: Callable[[], object]) -> Times:
    """Milliseconds of a run after some to warm up: median, least, and what nine of ten runs keep to."""
    for _ in range(WARM_UP):
        enqueue()
    stream.synchronize()
    stamps = [stream.stamp()]
    for _ in range(RUNS):
        enqueue()
        stamps.append(stream.stamp())
    times = sorted(stream.milliseconds(stamps))
    return {"median": statistics.median(times), "min": times[0], "percentile(90%)": times[9 * len(times) // 10]}


def engines(machine: Machine) -> Iterator[tuple[str, str, Path]]:
    """What was built: form, graph and the engine."""
    for form, folder in machine.folders.items():
        for name in GRAPHS:
            if (folder / f"{name}.engine").is_file():
                yield form, name, folder / f"{name}.engine"


def _all(machine: Machine, jobs: Iterable[Job], nothing: str) -> dict[str, Any]:
    """Times every job, whatever becomes of the others. Raises AssertionError with their faults, UnableError without."""
    found, faults = {}, []
    for (route, form, name), work in jobs:
        try:
            found[f"{form} {name}"] = times = work()
            machine.times[route, form, name] = times["median"]
        except Exception as error:  # of the runtime's own kinds: too little memory for one graph is no reason to stop
            faults.append(f"{form} {name}: {' '.join(str(error).split())[:300] or type(error).__name__}")
    assert not faults, "; ".join(faults)
    if not found:
        raise UnableError(nothing)
    return found


def estimate_beside(machine: Machine) -> dict[str, Any]:
    """What `export estimate` says of the same graphs on this GPU's target, beside what every route took."""
    if not machine.times:
        raise UnableError("nothing was timed")
    from export.estimate.roofline import estimate

    rows, expected = [], {}
    for (route, form, name), milliseconds in sorted(machine.times.items(), key=lambda item: (*item[0][1:], item[0][0])):
        target = _target(machine, route)
        key = target.key, form, name
        if key not in expected:
            path = machine.folders[form] / f"{name}.onnx"
            expected[key] = 1000 * estimate(path, target, steps.SIZE)[0].total
        rows.append({
            "graph": f"{form} {name}", "route": route, "measured ms": round(milliseconds, 3), "target": target.key,
            "estimated ms": round(expected[key], 2), "measured / estimated": round(milliseconds / expected[key], 2),
        })  # fmt: skip
    return {"size": f"{steps.SIZE[1]}x{steps.SIZE[0]}", "rows": rows}


def _target(machine: Machine, route: str) -> Target:
    """The target that describes this GPU, of the route's runtime; ONNX Runtime runs on GPUs of both."""
    if route == SESSIONS["tensorrt_rtx"]:
        return steps.target_of(machine, "tensorrt_rtx")
    try:
        return steps.target_of(machine, "tensorrt")
    except UnableError:
        return steps.target_of(machine, "tensorrt_rtx")
