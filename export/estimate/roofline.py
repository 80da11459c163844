"""From counts to times and memory: the roofline of a device."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from engines.onnx_file import OnnxFile, read_onnx
from engines.support.errors import UserError
from engines.targets import Target
from export.estimate.layers import Layer, layers_of
from export.estimate.shapes import shapes_at


@dataclass(frozen=True)
class Estimate:
    """A graph on a device.

    seconds: of each layer. activations: peak of live tensors in bytes, constants not among them.
    stock: whether plugin nodes were counted as the operators that come with TensorRT.
    """

    file: OnnxFile
    target: Target
    size: tuple[int, int]
    stock: bool
    layers: list[Layer]
    seconds: list[float]
    activations: int

    @property
    def total(self) -> float:
        """Seconds for one image when every layer runs at the device's full rate."""
        return sum(self.seconds)


def estimate(path: Path | str, target: Target, size: tuple[int, int]) -> list[Estimate]:
    """A graph's cost for one HR image of `size` (H, W): as it is and, where it has plugin nodes, without the plugins.

    Raises UserError for a file that is no graph of ours or that ONNX Runtime cannot run here.
    """
    file = read_onnx(path)
    if any(node.domain == "dinn360.cpu" for node in file.nodes):
        raise UserError(f"{path}: expected a graph for a GPU, found one of --ops cpu; use --ops plugin")
    shapes = shapes_at(file, size)
    variants = [False, True] if any(node.domain == "dinn360" for node in file.nodes) else [False]
    found = []
    for stock in variants:
        layers = layers_of(file, shapes, stock)
        seconds = [layer_seconds(layer, target) for layer in layers]
        found.append(Estimate(file, target, size, stock, layers, seconds, peak_activations(layers, file)))
    return found


def layer_seconds(layer: Layer, target: Target) -> float:
    """The longer of arithmetic and memory traffic, both at full rate.

    Matrix products run on tensor cores in fp16, else on CUDA cores; bilinear sampling always on CUDA cores, in fp32.
    """
    products = 2 * layer.products / (target.peak_tflops["fp16" if layer.half else "fp32"] * 1e12)
    samples = 2 * layer.samples / (target.peak_tflops["fp32"] * 1e12)
    return max(products + samples, layer.bytes / (target.bandwidth_gb_s * 1e9))


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
