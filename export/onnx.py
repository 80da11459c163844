"""Checkpoint to down.onnx and up.onnx: one trace a graph, brought to its precision, lowered, checked and labelled."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx import ModelProto

from dinn360 import __version__
from dinn360.checkpoint import Checkpoint, load_checkpoint
from dinn360.tiling import tiling
from engines.support.arrays import Image8
from engines.support.errors import UserError
from engines.support.files import atomic_path, make_folder, probe_outputs, sha256_of, write_text
from engines.support.progress import progress
from export.config import DEFAULT, OPSETS, ExportConfig
from export.folding import FOLDED, fold, foldable
from export.fusion import operators as fusion_operators
from export.graphs import GRAPHS
from export.io_format import with_8_bit_io
from export.lowering import lower
from export.operators import register_schemas
from export.precision.casts import to_half
from export.precision.fp32_ops import fp32_ops
from export.trace import quiet, trace
from export.web_graph import complete_sidecar


@dataclass(frozen=True)
class Exported:
    """The two files and how they were made."""

    down: Path
    up: Path
    config: ExportConfig
    nodes: dict[str, int]
    folded: tuple[str, ...] = ()


def finish(traced: ModelProto, direction: str, config: ExportConfig) -> ModelProto:
    """The traced graph of a direction in another config; `traced` stays as it is."""
    full = [op.role for op in fp32_ops(direction, config)]
    with quiet():
        model = lower(to_half(traced, full) if config.precision == "fp16" else traced, config.lowering)
    return with_8_bit_io(model) if config.io_format == "uint8-nhwc" else model


def metadata(checkpoint: Checkpoint, digest: str, direction: str, config: ExportConfig) -> dict[str, str]:
    """What a graph says of itself in `metadata_props`; `engines` reads nothing else.

    coarseness, halved: of a graph with these inputs their defaults, a lossless LR picture.
    """
    return {
        "producer": "dinn360",
        "producer_version": __version__,
        "direction": direction,
        "scale": str(checkpoint.config.scale),
        "preset": checkpoint.config.preset,
        "config": json.dumps(checkpoint.config.to_dict(), sort_keys=True),
        "checkpoint_sha256": digest,
        "ops": config.lowering,
        "precision": config.precision,
        "fp32_ops": json.dumps([op.role for op in fp32_ops(direction, config)]),
        "io": config.io_format,
        **checkpoint.codec,
        **dict.fromkeys(checkpoint.config.told_of_file(direction), "0"),
    }


def label(model: ModelProto, values: dict[str, str]) -> None:
    """Writes `values` into the graph and takes out what the exporter noted there: source lines, with local paths."""
    model.producer_name, model.producer_version = "dinn360", __version__
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, values)
    del model.graph.metadata_props[:]
    for part in (*model.graph.node, *model.graph.value_info, *model.graph.initializer):
        del part.metadata_props[:]
    for node in model.graph.node:
        node.doc_string = ""


def sidecar(path: Path, direction: str, config: ExportConfig, told: dict[str, str]) -> str:
    """JSON text about the graph file at `path`: its metadata, its hash and why what stays in fp32 does."""
    plain = {name: value for name, value in told.items() if name not in ("producer", "fp32_ops", "config")}
    kept = [{"role": op.role, "reason": op.reason} for op in fp32_ops(direction, config)]
    record = {
        "format": "dinn360-graph",
        "version": 1,
        "graph": path.name,
        "graph_sha256": sha256_of(path),
        **plain,
        "scale": int(told["scale"]),
        "opset": config.opset,
        "fp32_ops": kept,
        "config": json.loads(told["config"]),
    }
    if FOLDED in told:
        record[FOLDED] = json.loads(told[FOLDED])
    return json.dumps(record, indent=2) + "\n"


def check(model: ModelProto) -> None:
    """onnx.checker with full shape inference; the custom operators' schemas are known."""
    register_schemas()
    fusion_operators.register_schemas()
    onnx.checker.check_model(model, full_check=True)


def export_checkpoint(
    ckpt: Path, out: Path, config: ExportConfig = DEFAULT, calibration: Sequence[Image8] = ()
) -> Exported:
    """Writes out/down.onnx and out/up.onnx, each whole or not at all, and a sidecar (`sidecar`) beside each.

    calibration: panoramas, uint8 (H,W,3), that tell which deformable convolutions become plain ones (`folding`);
    without any, none does. Raises UserError for a bad checkpoint, an opset that is not supported, a weight beyond fp16
    or a folder that cannot be written.
    """
    if config.opset not in OPSETS:
        raise UserError(f"expected one of {OPSETS}, found {config.opset}", about="opset")
    if config.lowering == "cpu" and config.precision != "fp32":
        raise UserError(f"expected fp32 in graphs for CPU cores, found {config.precision}", about="precision")
    probe_outputs(out, [f"{direction}{suffix}" for direction in GRAPHS for suffix in (".onnx", ".json")])
    checkpoint = load_checkpoint(ckpt)
    if checkpoint.decoder_only:
        raise UserError(f"{ckpt}: expected a network for both directions, found a decoder trained behind bicubic")
    network = checkpoint.build()
    folded = foldable(network, calibration) if calibration else []
    fold(network, folded)
    make_folder(out)
    nodes = {}
    with progress(total=4, unit="step") as bar:
        for direction in GRAPHS:
            bar.set_description(f"{direction}: trace")
            traced = trace(network, direction, config.opset)
            bar.update()
            bar.set_description(f"{direction}: lower to {config.lowering} in {config.precision}, check and write")
            told = metadata(checkpoint, sha256_of(ckpt), direction, config) | tiling(network, direction).metadata()
            told |= {FOLDED: json.dumps(folded)} if calibration else {}
            nodes[direction] = write_graph(traced, direction, config, told, out)
            bar.update()
    return Exported(out / "down.onnx", out / "up.onnx", config, nodes, tuple(folded))


def export_up(ckpt: Path, out: Path, config: ExportConfig) -> Path:
    """Writes out/up.onnx and its sidecar only; raises as `export_checkpoint`."""
    checkpoint = load_checkpoint(ckpt)
    network = checkpoint.build()
    told = metadata(checkpoint, sha256_of(ckpt), "up", config) | tiling(network, "up").metadata()
    write_graph(trace(network, "up", config.opset), "up", config, told, out)
    return out / "up.onnx"


def write_graph(traced: ModelProto, direction: str, config: ExportConfig, told: dict[str, str], out: Path) -> int:
    """Writes the traced graph of a direction to out/down.onnx or out/up.onnx, and its sidecar; counts nodes.

    told: the graph's metadata. Raises UserError as `export_checkpoint` does.
    """
    model = finish(traced, direction, config)
    label(model, told)
    check(model)
    path = out / f"{direction}.onnx"
    with atomic_path(path) as temporary:
        onnx.save(model, str(temporary))
    write_text(out / f"{direction}.json", sidecar(path, direction, config, told))
    if config.lowering == "web" and direction == "up":
        complete_sidecar(path)
    return len(model.graph.node)
