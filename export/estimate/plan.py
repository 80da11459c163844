"""What a real builder makes of a graph: kernels and bytes of TensorRT-RTX's plan, beside the estimate's.

TensorRT-RTX builds without a GPU, and tells its layers when it has: name, kind, and every tensor with shape and type.
Only reading an engine's layers back (`python -m engines inspect --layers`) needs a GPU. It has neither plugins nor
DeformConv. A graph of --ops plugin is cut at its plugins for it: what they read is a result, what they give an input,
and the plan is that of everything between them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from engines.building.build import plugin_nodes
from engines.engine_file.profile import profile_for, sizes_for
from engines.nvidia.tensorrt_package import PLUGIN_DOMAIN, import_tensorrt
from engines.onnx_file import OnnxFile, read_onnx
from engines.support.errors import UserError
from engines.support.text import aligned
from engines.targets import find_target
from export.estimate.roofline import Estimate
from export.estimate.shapes import Shape, shapes_at

CAPABILITY = "SM86"  # that of the builder which is nearest to Orin's 8.7
NO_KERNEL = frozenset(("signal", "wait"))  # order between streams
_BYTES = {"Float": 4, "Half": 2, "BFloat16": 2, "Int64": 8, "Int32": 4, "Int8": 1, "UInt8": 1, "Bool": 1}
_LAYER = re.compile(
    r"^Name: (?P<name>.*?), LayerType: (?P<kind>\w+), Inputs: \[(?P<inputs>.*)\], Constants: \[(?P<constants>.*)\], "
    r"Outputs: \[(?P<outputs>.*)\], TacticName:",
    re.MULTILINE,
)
_TENSOR = re.compile(r"Dimensions: \[([\d,]*)\].*?Datatype: (\w+)")


@dataclass(frozen=True)
class PlanLayer:
    """A kernel of a plan. kind: the builder's word. bytes: of every tensor that it is given and gives, once."""

    name: str
    kind: str
    bytes: int


def built_plan(path: Path, size: tuple[int, int]) -> list[PlanLayer]:
    """Build a graph with TensorRT-RTX for one HR image of `size` (H, W), plugins left out. Takes seconds to minutes.

    Raises UserError: the graph is not of --ops primitive or plugin, TensorRT-RTX is not installed or refuses it.
    """
    graph = read_onnx(path)
    if foreign := [node for node in graph.nodes if node.op_type == "DeformConv"]:
        raise UserError(
            f"{path}: expected operators of ops primitive or plugin to build a plan of, found {foreign[0].op_type}"
        )
    package = import_tensorrt("tensorrt_rtx", "a plan")
    api: Any = package.api
    said: list[str] = []

    class Log(api.ILogger):
        def __init__(self) -> None:
            api.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            if "LayerType: " in message or severity in (api.ILogger.ERROR, api.ILogger.INTERNAL_ERROR):
                said.append(message)

    log = Log()
    builder = api.Builder(log)
    network = builder.create_network(1 << int(api.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    content = _without_plugins(graph, size) if plugin_nodes(graph) else path.read_bytes()
    if not api.OnnxParser(network, log).parse(content, str(path)):
        raise UserError(f"{path}: {package.name} cannot take it: {said[0] if said else 'no reason given'}")
    profile = profile_for(graph, sizes_for(find_target("rtx"), only=size))
    network.get_input(0).shape = profile.maximum
    config = builder.create_builder_config()
    config.profiling_verbosity = api.ProfilingVerbosity.DETAILED
    config.num_compute_capabilities = 1
    config.set_compute_capability(getattr(api.ComputeCapability, CAPABILITY), 0)
    if builder.build_serialized_network(network, config) is None:
        raise UserError(f"{path}: {package.name} cannot build it: {said[0] if said else 'no reason given'}")
    layers = read_layers("\n".join(said))
    if not layers:
        raise UserError(f"{path}: {package.name} told no layers")
    return layers


def _without_plugins(graph: OnnxFile, size: tuple[int, int]) -> bytes:
    """The model cut at its plugins, for one size."""
    shapes = shapes_at(graph, size)
    model = onnx.load(graph.path)  # ours record the type of every tensor
    plugins = [node for node in model.graph.node if node.domain == PLUGIN_DOMAIN]
    given = {name for node in plugins for name in node.output}
    kinds = {value.name: value.type.tensor_type.elem_type for value in (*model.graph.value_info, *model.graph.output)}
    known = given | {tensor.name for tensor in (*graph.inputs, *graph.outputs, *graph.weights)}
    read = dict.fromkeys(name for node in plugins for name in node.input if name and name not in known)
    for node in plugins:
        model.graph.node.remove(node)
    model.graph.input.extend(_values(sorted(given), kinds, shapes))
    model.graph.output.extend(_values(read, kinds, shapes))
    del model.graph.value_info[:]  # of free sizes, which the inputs no longer have
    return model.SerializeToString()


def _values(names: Iterable[str], kinds: dict[str, int], shapes: dict[str, Shape]) -> list[onnx.ValueInfoProto]:
    return [onnx.helper.make_tensor_value_info(name, kinds[name], shapes[name]) for name in names]


def read_layers(text: str) -> list[PlanLayer]:
    """The kernels of a builder's layer information."""
    found = []
    for layer in _LAYER.finditer(text):
        if layer["kind"] not in NO_KERNEL:
            tensors = _TENSOR.findall(layer["inputs"] + layer["constants"] + layer["outputs"])
            size = sum(math.prod(map(int, filter(None, dims.split(",")))) * _BYTES[kind] for dims, kind in tensors)
            found.append(PlanLayer(layer["name"], layer["kind"], size))
    return found


def beside(one: Estimate, plan: list[PlanLayer]) -> str:
    """The plan's kernels and bytes under the estimate's, and the plan's by kind."""
    rows = [["", "kernels", "GB moved"]]
    rows.append(["estimate", str(one.launches), f"{sum(layer.bytes for layer in one.layers) / 1e9:.3f}"])
    named = "TensorRT-RTX's plan" + (" without plugins" if plugin_nodes(one.file) else "")
    rows.append([named, str(len(plan)), f"{sum(layer.bytes for layer in plan) / 1e9:.3f}"])
    for kind in sorted({layer.kind for layer in plan}):
        of_kind = [layer.bytes for layer in plan if layer.kind == kind]
        rows.append([f"  {kind}", str(len(of_kind)), f"{sum(of_kind) / 1e9:.3f}"])
    return aligned(rows)
