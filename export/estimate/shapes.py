"""The shape of every tensor of a graph at any size, without the memory for it.

ONNX Runtime runs the graph at three small sizes of the same proportions, and its profile tells the shapes. A dimension
is a constant, or grows with the height or the width, or with both (a number of windows): a polynomial of degree two in
the ratio of the sizes, which three runs fix.
"""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from engines.engine_file.label import scale_in
from engines.onnx_file import OnnxFile, OnnxTensor
from engines.runtimes import operator_library
from engines.support.errors import UserError

Shape = tuple[int, ...]
STEP = 64  # the small sizes are multiples of this, in HR pixels: the DST window of 8 at x8


def shapes_at(file: OnnxFile, size: tuple[int, int]) -> dict[str, Shape]:
    """The shapes of inputs, weights and of what each node gives, by tensor name, for one image of `size` (H, W) at HR.

    Raises:
        UserError: the graph is none of ours, or ONNX Runtime cannot run it here.
    """
    shorter = min(size)
    small = (round(2 * size[0] / shorter) * STEP, round(2 * size[1] / shorter) * STEP)
    runs = [_measured(file, (times * small[0], times * small[1])) for times in (1, 2, 3)]
    ratio = (size[0] * size[1] / (small[0] * small[1])) ** 0.5
    shapes = {tensor.name: tuple(n for n in tensor.shape if isinstance(n, int)) for tensor in file.weights}
    for name in runs[0]:
        shapes[name] = tuple(_continued(dims, ratio) for dims in zip(*(run[name] for run in runs), strict=True))
    for node in file.nodes:
        if node.op_type == "Cast" and node.outputs[0] not in shapes:  # ONNX Runtime drops some between fp16 nodes
            shapes[node.outputs[0]] = shapes[node.inputs[0]]
    return shapes


def _continued(dims: tuple[int, ...], at: float) -> int:
    """The polynomial through the values at 1, 2 and 3, at a point beyond (Newton's differences)."""
    first, second, third = dims
    step, bend = second - first, third - 2 * second + first
    return round(first + (at - 1) * step + (at - 1) * (at - 2) / 2 * bend)


def _measured(file: OnnxFile, size: Shape) -> dict[str, Shape]:
    """Shapes of the inputs and of every node's outputs in one run."""
    import onnxruntime  # here, not above: a device with TensorRT only has no ONNX Runtime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.enable_profiling = True
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL  # every node as in the file
    if ours := [node.op_type for node in file.nodes if node.domain.startswith("dinn360")]:
        operator_library.register(options, file.path, ours[0], gpu=False)
    image = _image(file, size)
    with TemporaryDirectory() as folder:
        options.profile_file_prefix = str(Path(folder) / "shapes")
        try:
            native = onnxruntime.InferenceSession(str(file.path), options, providers=["CPUExecutionProvider"])
            native.run(None, {file.inputs[0].name: image})
        except Exception as error:  # ONNX Runtime's errors share no base class of their own
            reason = " ".join(str(error).split())[:200]
            raise UserError(f"{file.path}: expected a graph that ONNX Runtime can run here, found: {reason}") from error
        events = json.loads(Path(native.end_profiling()).read_text(encoding="utf-8"))
    found: dict[str, Shape] = {file.inputs[0].name: image.shape}
    for event in events:
        if event.get("cat") != "Node" or not event["name"].endswith("_kernel_time"):
            continue
        told = event["args"]
        index = int(told["node_index"])  # in the file's order; casts that ONNX Runtime adds come behind
        if index < len(file.nodes):
            given = [tuple(shape) for entry in told["output_type_shape"] for shape in entry.values()]
            found.update(zip(filter(None, file.nodes[index].outputs), given, strict=False))
    return found


def _is_image(tensor: OnnxTensor) -> bool:
    return len(tensor.shape) == 4 and tensor.dtype in ("float32", "float16", "uint8")


def _image(file: OnnxFile, size: Shape) -> np.ndarray:
    """A black image for the graph's input, (1,3,h,w) or (1,h,w,3), LR for an upscaling graph."""
    scale = scale_in(file.path, file.metadata)
    if len(file.inputs) != 1 or file.inputs[0].name not in ("hr", "lr") or not _is_image(file.inputs[0]):
        raise UserError(f"{file.path}: expected a graph of ours (one input, hr or lr, and the metadata entry scale)")
    spec: OnnxTensor = file.inputs[0]
    height, width = size if spec.name == "hr" else (size[0] // scale, size[1] // scale)
    channels_last = spec.shape[-1] == 3
    return np.zeros((1, height, width, 3) if channels_last else (1, 3, height, width), spec.dtype)
