"""The reader of ONNX files against the onnx package."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from conftest import GraphMaker
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnx_expected import check

from engines.onnx_file import OnnxTensor, read_onnx
from engines.support.errors import UserError


def test_attributes_and_types_of_every_kind(tmp_path: Path) -> None:
    node = helper.make_node(
        "Any",
        ["x", ""],
        ["y"],
        "n",
        domain="d",
        i=-3,
        f=0.5,
        s="text",
        many=[1, -2],
        floats=[1.5, -2.0],
        none=np_none(),
    )
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT16, [None, "h", 3]) for n in "xy")
    weights = [numpy_helper.from_array(np.zeros((2, 0), np.int64), "w"), numpy_helper.from_array(np.bool_(1), "b")]
    weights.append(numpy_helper.from_array(np.array([7, -1], np.int64), "d"))
    default = helper.make_tensor_value_info("d", TensorProto.INT64, [2])
    graph = helper.make_graph([node], "g", [x, default], [y], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19), helper.make_opsetid("d", 1)])
    onnx.save(model, str(tmp_path / "a.onnx"))
    found = read_onnx(tmp_path / "a.onnx")
    assert found.nodes[0].attributes == {
        "i": -3, "f": 0.5, "s": "text", "many": [1, -2], "floats": [1.5, -2.0],
    }  # fmt: skip
    assert found.nodes[0].inputs == ("x", "")
    assert found.inputs == (OnnxTensor("x", "float16", (None, "h", 3)),)
    assert [(w.dtype, w.shape) for w in found.weights] == [("int64", (2, 0)), ("bool", ()), ("int64", (2,))]
    ((declared, content),) = found.defaults
    assert declared == OnnxTensor("d", "int64", (2,)) and np.frombuffer(content, np.int64).tolist() == [7, -1]
    assert found.opsets == {"": 19, "d": 1} and found.precision == "fp16"


def np_none() -> onnx.TensorProto:
    """An attribute of a kind that the reader leaves out."""
    return numpy_helper.from_array(np.zeros(3, np.float32))


@pytest.mark.parametrize("kind", ["down", "up"])
def test_a_graph_with_metadata(make_graph: GraphMaker, kind: str) -> None:
    path = make_graph(kind, metadata={"scale": "2", "empty": "", "sign": "é ↔ 度"})
    check(read_onnx(path), onnx.load(path))


def test_files_that_are_no_graph(tmp_path: Path, make_graph: GraphMaker) -> None:
    (tmp_path / "empty.onnx").write_bytes(b"")
    (tmp_path / "text.onnx").write_text("hello, this is no graph")
    (tmp_path / "cut.onnx").write_bytes(make_graph().read_bytes()[:-20])
    for name in ("empty", "text", "cut"):
        with pytest.raises(UserError, match=rf"{name}\.onnx: expected an ONNX file, found something else or a damaged"):
            read_onnx(tmp_path / f"{name}.onnx")
    with pytest.raises(UserError, match=r"none\.onnx: cannot read: no such file"):
        read_onnx(tmp_path / "none.onnx")


@given(st.data())
def test_damaged_bytes_never_raise_anything_else(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", 3]) for n in "xy"]
    graph = helper.make_graph([helper.make_node("Elu", ["x"], ["y"], alpha=0.5)], "g", values[:1], values[1:])
    content = bytearray(helper.make_model(graph).SerializeToString())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged.onnx"
    path.write_bytes(content)
    try:
        read_onnx(path)
    except UserError as error:
        assert "damaged.onnx: expected an ONNX file" in str(error)
