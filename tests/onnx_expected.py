"""What the onnx package says of a file, for comparison with our own reader."""

from __future__ import annotations

import onnx
from onnx import helper

from engines.onnx_file import Dimension, OnnxFile, OnnxTensor


def tensor(value: onnx.ValueInfoProto) -> OnnxTensor:
    kind = value.type.tensor_type
    shape: list[Dimension] = [
        dim.dim_value if dim.HasField("dim_value") else dim.dim_param or None for dim in kind.shape.dim
    ]
    return OnnxTensor(value.name, helper.tensor_dtype_to_np_dtype(kind.elem_type).name, tuple(shape))


def check(found: OnnxFile, model: onnx.ModelProto) -> None:
    """Everything that the reader says, against what the onnx package says."""
    graph = model.graph
    assert found.opsets == {entry.domain: entry.version for entry in model.opset_import}
    assert found.metadata == {entry.key: entry.value for entry in model.metadata_props}
    weights = {weight.name: weight for weight in graph.initializer}
    assert list(found.inputs) == [tensor(value) for value in graph.input if value.name not in weights]
    assert list(found.defaults) == [
        (tensor(value), weights[value.name].raw_data) for value in graph.input if value.name in weights
    ]
    assert list(found.outputs) == [tensor(value) for value in graph.output]
    assert found.values == {value.name: tensor(value) for value in graph.value_info}
    assert [(w.name, w.dtype, list(w.shape)) for w in found.weights] == [
        (w.name, helper.tensor_dtype_to_np_dtype(w.data_type).name, list(w.dims)) for w in graph.initializer
    ]
    assert len(found.nodes) == len(graph.node)
    for ours, theirs in zip(found.nodes, graph.node, strict=True):
        assert (ours.name, ours.op_type, ours.domain) == (theirs.name, theirs.op_type, theirs.domain)
        assert (list(ours.inputs), list(ours.outputs)) == (list(theirs.input), list(theirs.output))
        expected = {a.name: helper.get_attribute_value(a) for a in theirs.attribute}
        plain = {
            name: value.decode() if isinstance(value, bytes) else value
            for name, value in expected.items()
            if isinstance(value, int | float | bytes) or (isinstance(value, list) and not isinstance(value[0], bytes))
        }
        assert ours.attributes == plain
