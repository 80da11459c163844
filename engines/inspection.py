"""What a graph or an engine file is: for people and, as JSON, for scripts. Needs no GPU and no runtime."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from engines.engine_file.manifest import Manifest, read_manifest, sidecar
from engines.nvidia import cuda
from engines.nvidia.tensorrt_package import CPU_DOMAIN, NAMES, PLUGIN_DOMAIN, PLUGIN_LIBRARY, import_tensorrt
from engines.onnx_file import OnnxFile, OnnxNode, OnnxTensor, read_onnx
from plugins.onnxruntime.library import NAME as CPU_LIBRARY

_ONNX = ("", "ai.onnx", "ai.onnx.ml")  # domains that every runtime knows
# Metadata that has a line of its own, or is too long for one.
_SHOWN = ("producer", "producer_version", "config", "checkpoint_sha256", "precision", "fp32_ops", "islands", "ops")


def describe_onnx(path: Path) -> dict[str, Any]:
    """Inputs, outputs, nodes by operator and type, weights, plugin nodes, metadata.

    Raises:
        UserError: the file is missing or no ONNX file.
    """
    graph = read_onnx(path)
    return {
        "file": str(path),
        "bytes": path.stat().st_size,
        "opset": graph.opsets.get("", 0),
        "ops": graph.metadata.get("ops", ""),
        "precision": graph.precision,
        "fp32_ops": list(graph.fp32_ops),
        "inputs": [str_tensor(tensor) for tensor in graph.inputs],
        "optional": [str_tensor(tensor) for tensor, _ in graph.defaults],
        "outputs": [str_tensor(tensor) for tensor in graph.outputs],
        "weights": _by_type(graph),
        "nodes": len(graph.nodes),
        "operators": _operators(graph),
        "plugins": dict(Counter(_custom_name(node) for node in graph.nodes if node.domain not in _ONNX)),
        "checkpoint_sha256": graph.metadata.get("checkpoint_sha256", ""),
        "metadata": graph.metadata,
    }


def describe_engine(path: Path) -> dict[str, Any]:
    """The sidecar of an engine, after checking that it belongs to it.

    Raises:
        UserError: the engine or its sidecar is missing, damaged or of another engine.
    """
    manifest = read_manifest(path)
    manifest.check_file(path)
    return {"file": str(path), "sidecar": sidecar(path).name, **asdict(manifest)}


def engine_layers(path: Path) -> str:
    """What TensorRT says of the engine's layers, after fusion: JSON text. Needs the GPU that it was built for.

    Raises:
        UserError: the sidecar does not fit, the package is not installed, or there is no GPU.
    """
    manifest = read_manifest(path)
    package = import_tensorrt(manifest.runtime, str(path))
    manifest.check_runtime(path, package.version)
    device = cuda.find_device(f"{path}: telling its layers")
    manifest.check_gpu(path, device.name, device.capability)
    runtime = package.api.Runtime(package.log)
    engine = package.deserialize(runtime, path)
    layout = package.member("LayerInformationFormat", "JSON", "layers")
    return str(engine.create_engine_inspector().get_engine_information(layout))


def node_lines(path: Path) -> list[str]:
    """One line for each node of a graph: name, operator, type and shape of what it makes."""
    graph = read_onnx(path)
    known = {tensor.name: tensor for tensor in (*graph.values.values(), *graph.outputs)}
    lines = []
    for node in graph.nodes:
        made = [str_tensor(known[name]) if name in known else name for name in node.outputs if name]
        domain = f"{node.domain}:" if node.domain else ""
        lines.append(f"{node.name}  {domain}{node.op_type}  {', '.join(made)}")
    return lines


def onnx_text(facts: dict[str, Any]) -> str:
    """The facts of `describe_onnx` as lines."""
    library = CPU_LIBRARY if facts["ops"] == "cpu" else PLUGIN_LIBRARY  # graphs for CPU cores run nowhere else
    rows = [
        ("file", f"{facts['file']}, {_megabytes(facts['bytes'])}, opset {facts['opset']}"),
        ("precision", _precision(facts["precision"], facts["fp32_ops"])),
        ("ops", facts["ops"] or "not said"),
        *(("input", tensor) for tensor in facts["inputs"]),
        *(("optional", tensor) for tensor in facts["optional"]),
        *(("output", tensor) for tensor in facts["outputs"]),
        ("weights", _counts(facts["weights"])),
        ("nodes", f"{facts['nodes']}: {_counts(facts['operators'])}"),
        ("plugins", f"{_counts(facts['plugins'])} ({library})" if facts["plugins"] else "none"),
        *_metadata_rows(facts["metadata"]),
    ]
    return _aligned(rows)


def engine_text(facts: dict[str, Any], manifest: Manifest) -> str:
    """The facts of `describe_engine` as lines."""
    library = manifest.plugin_library
    needs = "none"
    if library is not None:
        where = "inside the engine" if library.serialized else "loaded beside it"
        needs = f"{', '.join(library.plugins)} of {library.file} (sha256 {library.sha256[:12]}), {where}"
    built = f"on {manifest.gpu}" if manifest.gpu else "without a GPU or by trtexec"
    rows = [
        ("file", f"{facts['file']}, {_megabytes(manifest.engine_bytes)}, sidecar {facts['sidecar']}"),
        ("graph", f"{manifest.onnx} (sha256 {manifest.onnx_sha256[:12]})"),
        ("runtime", f"{NAMES[manifest.runtime]} {manifest.runtime_version}, built {built}"),
        ("target", f"{manifest.target}, compute capability {', '.join(manifest.compute_capabilities)}"),
        (
            "compatible",
            f"hardware {manifest.hardware_compatibility}, later versions {_yes(manifest.version_compatible)}",
        ),
        ("precision", _precision(manifest.precision, manifest.fp32_ops) + f", TF32 {_yes(manifest.tf32)}"),
        ("profile", str(manifest.profile)),
        ("tile", f"{manifest.tile[1]}x{manifest.tile[0]} HR pixels"),
        *(("input", f"{io.name} {io.dtype} {io.shape}") for io in manifest.inputs),
        *(("optional", f"{io.name} {io.dtype} {io.shape}") for io in manifest.optional),
        *(("output", f"{io.name} {io.dtype} {io.shape}") for io in manifest.outputs),
        ("plugins", needs),
        ("layers", f"{sum(manifest.layers.values())} before fusion: {_counts(manifest.layers)}"),
        *_metadata_rows(manifest.metadata),
    ]
    return _aligned(rows)


def _custom_name(node: OnnxNode) -> str:
    """An operator that is not ONNX's own; with its domain where that is not ours."""
    return node.op_type if node.domain in (PLUGIN_DOMAIN, CPU_DOMAIN) else f"{node.domain}:{node.op_type}"


def str_tensor(tensor: OnnxTensor) -> str:
    return f"{tensor.name} {tensor.dtype} ({', '.join('?' if d is None else str(d) for d in tensor.shape)})"


def _by_type(graph: OnnxFile) -> dict[str, int]:
    """Number of weights (values, not tensors) of each type."""
    counts: Counter[str] = Counter()
    for tensor in graph.weights:
        counts[tensor.dtype] += math.prod(d for d in tensor.shape if isinstance(d, int))
    return dict(counts.most_common())


def _operators(graph: OnnxFile) -> dict[str, int]:
    """Number of nodes by operator and, where the file has it, type of the first output: "Conv float16"."""
    known = {tensor.name: tensor.dtype for tensor in (*graph.values.values(), *graph.outputs)}
    counts = Counter(f"{node.op_type} {known.get(node.outputs[0], '')}".strip() for node in graph.nodes)
    return dict(counts.most_common())


def _metadata_rows(metadata: dict[str, str]) -> list[tuple[str, str]]:
    rows = [(key, value) for key, value in metadata.items() if key not in _SHOWN]
    return [("checkpoint", metadata.get("checkpoint_sha256", "not said")), *rows]


def _precision(precision: str, fp32_ops: Sequence[str]) -> str:
    return f"{precision}, with {', '.join(fp32_ops)} in fp32" if fp32_ops else precision


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items()) or "none"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _aligned(rows: list[tuple[str, str]]) -> str:
    width = max(len(label) for label, _ in rows)
    return "\n".join(f"{label.ljust(width)}  {value}" for label, value in rows)
