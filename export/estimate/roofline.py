"""From counts to times and memory: the roofline of a device."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from engines.onnx_file import OnnxFile, read_onnx
from engines.support.errors import UserError
from engines.targets import Target
from export.estimate import issue
from export.estimate.layers import Layer, layers_of
from export.estimate.shapes import Shape, shapes_at


@dataclass(frozen=True)
class Shares:
    """What real kernels reach of a device's peaks: of its memory's bandwidth, and of its matrix products' rate."""

    bandwidth: float = 0.8
    products: float = 0.45


@dataclass(frozen=True)
class Estimate:
    """A graph on a device.

    seconds: of each layer. activations: peak of live tensors in bytes, constants not among them.
    stock: whether plugin nodes were counted as the operators that come with TensorRT. shares: of the peaks.
    shapes: of the tensors around our plugins' nodes; empty where they are not counted.
    """

    file: OnnxFile
    target: Target
    size: tuple[int, int]
    stock: bool
    layers: list[Layer]
    seconds: list[float]
    activations: int
    shares: Shares = Shares()
    shapes: dict[str, Shape] = field(default_factory=dict)

    @property
    def total(self) -> float:
        """Seconds for one image when every layer reaches its share of the device's rates."""
        return sum(self.seconds)

    @property
    def launches(self) -> int:
        """Kernels that are started for one image."""
        return sum(layer.launches for layer in self.layers)

    def bound(self, index: int) -> str:
        """What holds a layer up: "memory", "arithmetic" or "instructions"."""
        times = limits(self.layers[index], self.target, self.shares, self.shapes)
        return max(times, key=lambda name: times[name])


def estimate(path: Path | str, target: Target, size: tuple[int, int], shares: Shares | None = None) -> list[Estimate]:
    """A graph's cost for one HR image of `size` (H, W): as it is and, where it has plugin nodes, without the plugins.

    Raises UserError for a file that is no graph of ours or that ONNX Runtime cannot run here.
    """
    file = read_onnx(path)
    if any(node.domain == "dinn360.cpu" for node in file.nodes):
        raise UserError(
            f"{path}: expected a graph for a GPU, found one for CPU cores (ops cpu); export one with ops plugin"
        )
    shares = shares or Shares()
    shapes = shapes_at(file, size)
    variants = [False, True] if any(node.domain == "dinn360" for node in file.nodes) else [False]
    found = []
    for stock in variants:
        layers = layers_of(file, shapes, stock)
        known = {} if stock else shapes
        seconds = [layer_seconds(layer, target, shares, known) for layer in layers]
        peak = peak_activations(layers, file)
        found.append(Estimate(file, target, size, stock, layers, seconds, peak, shares, known))
    return found


def layer_seconds(layer: Layer, target: Target, shares: Shares, shapes: dict[str, Shape]) -> float:
    """The longest of `limits`."""
    return max(limits(layer, target, shares, shapes).values())


def limits(layer: Layer, target: Target, shares: Shares, shapes: dict[str, Shape]) -> dict[str, float]:
    """Seconds of a layer by what may hold it up: arithmetic, memory and, of our plugins, instructions.

    Matrix products run on tensor cores in fp16, else on CUDA cores; bilinear sampling always on CUDA cores, in fp32.
    shapes: of the node's tensors; empty: the layer is not one of our plugins'.
    """
    peak = target.peak_tflops["fp16" if layer.half else "fp32"] * 1e12 * shares.products
    samples = 2 * layer.samples / (target.peak_tflops["fp32"] * 1e12)
    ours = layer.node is not None and layer.node.domain == "dinn360" and bool(shapes)
    return {
        "arithmetic": 2 * layer.products / peak + samples,
        "memory": layer.bytes / (target.bandwidth_gb_s * 1e9 * shares.bandwidth),
        "instructions": issue.seconds(layer.node, shapes, layer.half, target) if ours and layer.node else 0.0,
    }


def peak_activations(layers: list[Layer], file: OnnxFile) -> int:
    """Bytes of the tensors that live at once, scratch included: each from the layer that writes to its last reader."""
    last = {name: index for index, layer in enumerate(layers) for name in layer.reads}
    last.update({tensor.name: len(layers) for tensor in file.outputs})
    given = {tensor.name for tensor in file.inputs}
    live = {name: size for layer in layers for name, size in layer.reads.items() if name in given}
    peak = 0
    for index, layer in enumerate(layers):
        live.update(layer.writes)
        peak = max(peak, sum(live.values()) + layer.scratch)
        live = {name: size for name, size in live.items() if last.get(name, -1) > index}
    return peak
