"""Sessions over real ONNX files, and whole images through them."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from conftest import GraphMaker
from onnx import TensorProto, helper

from engines.panorama.rescale_image import downscale_image, upscale_image
from engines.runtimes.base import TensorSpec
from engines.session import open_session
from engines.support.arrays import Image8, to_tensor
from engines.support.errors import UserError


def box_mean(image: Image8) -> Image8:
    """Mean of 2 x 2 pixels, rounded half to even; the graph's own arithmetic may tie-break by one float32
    ulp."""
    height, width = image.shape[0] // 2, image.shape[1] // 2
    return np.rint(image.reshape(height, 2, width, 2, 3).astype(float).mean(axis=(1, 3))).astype(np.uint8)


def test_a_session_describes_its_graph(make_graph: GraphMaker) -> None:
    with open_session(make_graph(), threads=1) as session:
        assert session.inputs == (TensorSpec("hr", ("batch", 3, "height", "width"), np.dtype("float32")),)
        assert [spec.name for spec in session.outputs] == ["lr"]
        assert session.metadata == {"scale": "2"}
        assert session.runtime == f"onnxruntime {onnxruntime.__version__} CPU"


def test_down_and_up(make_graph: GraphMaker, forest: Image8) -> None:
    with open_session(make_graph("down"), threads=1) as down, open_session(make_graph("up"), threads=1) as up:
        lr = downscale_image(down, forest)
        assert lr.shape == (256, 512, 3)
        expected = box_mean(forest)
        assert np.abs(lr.astype(int) - expected).max() <= 1 and (lr == expected).mean() > 0.75
        hr = upscale_image(up, lr)
        assert np.array_equal(hr, lr.repeat(2, axis=0).repeat(2, axis=1))


def test_odd_sizes_come_back(make_graph: GraphMaker, forest: Image8) -> None:
    image = forest[:101, :203]
    with open_session(make_graph("down"), threads=1) as down, open_session(make_graph("up"), threads=1) as up:
        lr = downscale_image(down, image)
        assert lr.shape == (51, 102, 3)
        hr = upscale_image(up, lr, (101, 203))
        assert np.array_equal(hr, lr.repeat(2, axis=0).repeat(2, axis=1)[:101, :203])
        with pytest.raises(UserError, match=r"size: expected 203x101 to 204x102 .* found 200x101"):
            upscale_image(up, lr, (101, 200))


def test_the_wrong_direction(make_graph: GraphMaker, forest: Image8) -> None:
    with open_session(make_graph("up"), threads=1) as up:
        with pytest.raises(UserError, match=r"up\.onnx: expected a downscaling graph .* found an upscaling one"):
            downscale_image(up, forest)
    with open_session(make_graph("down"), threads=1) as down:
        with pytest.raises(UserError, match=r"expected an upscaling graph \(lr -> hr\), found a downscaling one"):
            upscale_image(down, forest)


@pytest.mark.parametrize("metadata", [{}, {"scale": "two"}, {"scale": "1"}, {"scale": "-2"}])
def test_no_usable_scale(make_graph: GraphMaker, forest: Image8, metadata: dict[str, str]) -> None:
    with open_session(make_graph(metadata=metadata), threads=1) as session:
        with pytest.raises(UserError, match="expected the metadata entry scale"):
            downscale_image(session, forest)


def test_a_graph_that_lies_about_its_scale(make_graph: GraphMaker, forest: Image8) -> None:
    with open_session(make_graph(metadata={"scale": "4"}), threads=1) as session:
        with pytest.raises(UserError, match=r"expected an output of shape \(1, 3, 128, 256\)"):
            downscale_image(session, forest)


def test_a_graph_whose_output_has_no_channels(make_graph: GraphMaker, forest: Image8) -> None:
    path = make_graph("up")
    model = onnx.load(path)
    model.graph.node[-1].output[0] = "all"
    model.graph.initializer.append(helper.make_tensor("none", TensorProto.INT64, [1], [0]))
    for name in ("zero", "one"):
        model.graph.initializer.append(helper.make_tensor(name, TensorProto.INT64, [1], [name == "one"]))
    model.graph.node.append(helper.make_node("Slice", ["all", "zero", "none", "one"], ["hr"]))
    path.write_bytes(model.SerializeToString())  # its declared output has three channels
    with open_session(path, threads=1) as session:
        with pytest.raises(UserError, match=r"expected an output of shape \(1, 3, .*, found \(1, 0, "):
            upscale_image(session, forest)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({}, "expected the inputs hr, found none"),
        ({"lr": np.zeros((1, 3, 4, 4), np.float32)}, "expected the inputs hr, found lr"),
        (
            {"hr": np.zeros((1, 3, 4, 4))},
            r"input hr: expected float32 \(batch, 3, height, width\), found float64",
        ),
        ({"hr": np.zeros((3, 4, 4), np.float32)}, r"found float32 \(3, 4, 4\)"),
        ({"hr": np.zeros((1, 4, 4, 4), np.float32)}, r"found float32 \(1, 4, 4, 4\)"),
        ({"hr": np.zeros((1, 3, 0, 4), np.float32)}, r"found float32 \(1, 3, 0, 4\)"),
        ({"hr": [1.0]}, "expected a numpy array, found list"),
    ],
)
def test_arrays_that_do_not_fit(make_graph: GraphMaker, arrays: dict[str, np.ndarray], message: str) -> None:
    with open_session(make_graph(), threads=1) as session:
        with pytest.raises(UserError, match=message):
            session.run(**arrays)


def test_several_threads_share_a_session(make_graph: GraphMaker, forest: Image8) -> None:
    crops = [forest[i : i + 32, :64] for i in range(16)]
    with open_session(make_graph("up"), threads=1) as session, ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda crop: session.run(lr=to_tensor(crop))["hr"], crops))
    for crop, hr in zip(crops, results, strict=True):
        assert np.array_equal(hr, to_tensor(crop).repeat(2, axis=2).repeat(2, axis=3))


def test_a_closed_session(make_graph: GraphMaker) -> None:
    session = open_session(make_graph(), threads=1)
    session.close()
    session.close()
    with pytest.raises(ValueError, match="the session is closed"):
        session.run(hr=np.zeros((1, 3, 4, 4), np.float32))


def test_what_the_runtime_cannot_run(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    value = helper.make_tensor_value_info
    tensors = [value("hr", TensorProto.FLOAT, ["n"])], [value("lr", TensorProto.FLOAT, ["m"])]
    shape = helper.make_tensor("shape", TensorProto.INT64, [2], [5, 7])
    graph = helper.make_graph([helper.make_node("Reshape", ["hr", "shape"], ["lr"])], "g", *tensors, [shape])
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=10),
        tmp_path / "a.onnx",
    )
    with open_session(tmp_path / "a.onnx", threads=1) as session:
        with pytest.raises(UserError, match=r"a\.onnx: ONNX Runtime cannot run the graph on hr \(4,\)") as caught:
            session.run(hr=np.zeros(4, np.float32))
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")  # the message is the caller's to print, once


def test_files_that_are_no_graph(tmp_path: Path) -> None:
    (tmp_path / "empty.onnx").write_bytes(b"")
    (tmp_path / "text.onnx").write_text("hello")
    (tmp_path / "folder.onnx").mkdir()
    (tmp_path / "x4.pth").write_bytes(b"")
    for name, message in {
        "empty.onnx": "expected an ONNX graph that ONNX Runtime can load, found: No graph",
        "text.onnx": "found: Protobuf parsing failed",
        "folder.onnx": "expected an ONNX file, found a folder",
        "missing.onnx": "expected an ONNX file, found no such file",
        "x4.pth": r"expected a file that ends in \.onnx, \.engine, \.plan, found '\.pth'",
        "x4.engine": "expected a TensorRT engine, found no such file",
        "x4.plan": "expected a TensorRT engine, found no such file",
    }.items():
        with pytest.raises(UserError, match=f"{name}: .*{message}") as caught:
            open_session(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_a_truncated_graph(make_graph: GraphMaker) -> None:
    path = make_graph()
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(UserError, match=r"down\.onnx: expected an ONNX graph"):
        open_session(path)


def test_an_operator_that_the_library_has_not(tmp_path: Path) -> None:
    path = tmp_path / "dinn360:Folder(1)" / "up.onnx"
    path.parent.mkdir()
    tensors = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, "h", "w"])] for name in ("lr", "hr")]
    graph = helper.make_graph([helper.make_node("DeformConv", ["lr"], ["hr"], domain="dinn360")], "g", *tensors)
    opsets = [helper.make_opsetid("", 19), helper.make_opsetid("dinn360", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), path)
    with pytest.raises(UserError, match="dinn360:DeformConv.* export it with standard operators"):
        open_session(path)


def test_options(make_graph: GraphMaker) -> None:
    path = make_graph()
    with pytest.raises(UserError, match="threads: expected a number of at least 1, found 0"):
        open_session(path, threads=0)
    with pytest.raises(UserError, match="provider: expected CPU, CUDA, TensorRT or WebGPU, found 'tpu'"):
        open_session(path, provider="tpu")
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        with pytest.raises(UserError, match="found CUDAExecutionProvider .*onnxruntime-gpu"):
            open_session(path, provider="cuda")
    for name in ("cpu", "CPUExecutionProvider"):
        open_session(path, threads=1, provider=name).close()
