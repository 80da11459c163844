"""The standard lowering as TensorRT computes it: DeformConv by the arithmetic of TensorRT's ModulatedDeformConv2d.

ONNX Runtime computes what ONNX says and cannot show what that plugin makes of a node, so that its arithmetic stands
here in numpy.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from lowered import lowered
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from test_export import deform_conv_attributes
from torch.nn import functional as F

from dinn360.ops import deform_conv2d

Array = NDArray[Any]


def stock_plugin(node: NodeProto, x: Array, weight: Array, offset: Array, bias: Array) -> Array:
    """ModulatedDeformConv2d of TensorRT 10.1 to 11.1 without a mask: im2col of bilinear samples, then a product.

    The parser fills stride, padding and dilation in the order (rows, columns) of ONNX; `enqueue` hands the first of
    each pair over as that of the width and the second as that of the height. The result has the size that this gives;
    the plugin declares that of the offsets, and its rows are read as they lie in memory.
    """
    attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    pads = attributes["pads"]
    assert pads[:2] == pads[2:], "the plugin knows one padding an axis"
    stride_w, stride_h = attributes["strides"]
    pad_w, pad_h = pads[:2]
    dilation_w, dilation_h = attributes["dilations"]
    (batch, channels, height, width), (out, _, kernel_h, kernel_w) = x.shape, weight.shape
    rows = (height + 2 * pad_h - (dilation_h * (kernel_h - 1) + 1)) // stride_h + 1
    columns = (width + 2 * pad_w - (dilation_w * (kernel_w - 1) + 1)) // stride_w + 1
    flat = offset.reshape(batch, -1)[:, : 2 * kernel_h * kernel_w * rows * columns]
    if flat.shape[1] < 2 * kernel_h * kernel_w * rows * columns:  # beyond the buffer: whatever is there
        flat = np.pad(flat, ((0, 0), (0, 2 * kernel_h * kernel_w * rows * columns - flat.shape[1])))
    apart = flat.reshape(batch, kernel_h, kernel_w, 2, rows, columns)
    at_row = np.arange(rows)[:, None] * stride_h - pad_h
    at_column = np.arange(columns) * stride_w - pad_w
    unrolled = np.zeros((batch, channels, kernel_h, kernel_w, rows, columns))
    for b, i, j in np.ndindex(batch, kernel_h, kernel_w):
        row = at_row + i * dilation_h + apart[b, i, j, 0]
        column = at_column + j * dilation_w + apart[b, i, j, 1]
        unrolled[b, :, i, j] = samples(x[b], row, column)
    found = np.einsum("ock,bckp->bop", weight.reshape(out, channels, -1), unrolled.reshape(batch, channels, 9, -1))
    return found.reshape(batch, out, rows, columns) + bias[:, None, None]


def samples(image: Array, row: Array, column: Array) -> Array:
    """Bilinear samples (C,h,w) of image (C,H,W); zeros outside."""
    _, height, width = image.shape
    top, left = np.floor(row).astype(int), np.floor(column).astype(int)
    result = np.zeros((len(image), *row.shape))
    for r, c in np.ndindex(2, 2):
        y, x = top + r, left + c
        share = (1 - abs(row - y)) * (1 - abs(column - x))
        inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
        result += image[:, y.clip(0, height - 1), x.clip(0, width - 1)] * (share * inside)
    return result


def run(model: ModelProto, inputs: dict[str, Array]) -> Array:
    """The result of a lowered graph whose DeformConv the stock plugin computes and whose rest ONNX Runtime does."""
    place = next(i for i, node in enumerate(model.graph.node) if node.op_type == "DeformConv")
    node = model.graph.node[place]
    known = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer} | inputs
    if wanted := [name for name in node.input if name not in known]:
        known |= part(model, slice(place), known, wanted)
    known[node.output[0]] = stock_plugin(node, *(known[name] for name in node.input)).astype(np.float32)
    name = model.graph.output[0].name
    return known[name] if name in known else part(model, slice(place + 1, None), known, [name])[name]


def part(model: ModelProto, nodes: slice, known: dict[str, Array], wanted: list[str]) -> dict[str, Array]:
    """The values `wanted` of some nodes of a graph."""
    chosen = model.graph.node[nodes]
    read = {name for node in chosen for name in node.input} & set(known)
    constants = [numpy_helper.from_array(known[name], name) for name in read]
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in wanted]
    graph = helper.make_graph(chosen, "part", [], outputs, constants)
    cut = helper.make_model(graph, opset_imports=model.opset_import, ir_version=10).SerializeToString()
    session = onnxruntime.InferenceSession(cut, providers=["CPUExecutionProvider"])
    return dict(zip(wanted, session.run(wanted, {}), strict=True))


@pytest.mark.parametrize("wrap", [True, False])
@pytest.mark.parametrize("size", [(7, 12), (5, 3)])
def test_the_stock_plugin_computes_what_was_meant(size: tuple[int, int], wrap: bool) -> None:
    torch.manual_seed(0)
    x, weight, bias = torch.randn(2, 6, *size), torch.randn(4, 6, 3, 3), torch.randn(4)
    offset = (6 * torch.randn(2, 18, *size)).clamp(-3, 3)
    expected = deform_conv2d(x, offset, weight, bias, None, 3.0, wrap)
    inputs = {"x": x, "offset": offset, "weight": weight, "bias": bias}
    model = lowered("DeformConv2d", inputs, deform_conv_attributes(wrap=int(wrap)), "standard")
    found = run(model, {"x": x.numpy(), "offset": offset.numpy()})
    assert found.shape == expected.shape
    assert np.abs(found - expected.numpy()).max() < 2e-5


def test_the_stock_plugin_swaps_unequal_pads() -> None:
    """What the lowering avoids: with pads of 1 row and 0 columns the plugin gives another size."""
    torch.manual_seed(0)
    x, weight, bias = (torch.randn(shape).numpy() for shape in ((1, 2, 7, 12), (2, 2, 3, 3), (2,)))
    node = helper.make_node(
        "DeformConv", ["x", "weight", "offset", "bias"], ["y"], pads=[1, 0, 1, 0], strides=[1, 1], dilations=[1, 1]
    )
    found = stock_plugin(node, x, weight, np.zeros((1, 18, 7, 10)), bias)
    plain = F.conv2d(*map(torch.from_numpy, (x, weight, bias)), padding=(1, 0))
    assert found.shape == (1, 2, 5, 12) and plain.shape == (1, 2, 7, 10)
