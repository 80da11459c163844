"""ONNX Runtime's WebGPU provider: what it computes wrongly is refused.

The package onnxruntime-webgpu has the import name of onnxruntime, so that it is tried in a process of its own, where it
was put for that: `pip install --no-deps --target build/webgpu onnxruntime-webgpu`. It needs a Vulkan loader and a
driver; Chromium's SwiftShader is one without a GPU, Mesa's lavapipe another from about version 23 on.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from conftest import GraphMaker
from onnx import TensorProto, helper

from engines.runtimes.webgpu import self_test
from engines.session import open_session
from engines.support.errors import UserError

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "build" / "webgpu"
SWIFTSHADER = Path("/usr/lib/chromium/vk_swiftshader_icd.json")

SCRIPT = """
import sys
from pathlib import Path
import numpy as np
from engines.runtimes import webgpu
from engines.session import open_session
from engines.support.errors import UserError

path = Path(sys.argv[1])
tile = np.random.default_rng(0).random((1, 3, 24, 32), dtype=np.float32)
try:
    with open_session(path, provider="WebGPU") as session, open_session(path) as cpu:
        print(session.runtime, abs(session.run(lr=tile)["hr"] - cpu.run(lr=tile)["hr"]).max() < 1e-4)
    webgpu.LAYOUT = (webgpu.LAYOUT[0], "NHWC")
    open_session(path, provider="WebGPU")
    print("NHWC is right")
except UserError as error:
    print(error)
"""


def nine_channels(path: Path, change: float = 0.0) -> Path:
    """A graph of ours in shape whose second 3x3 convolution has nine input channels, the case that NHWC gets wrong."""
    random = np.random.default_rng(1)
    weights = [(random.standard_normal(shape) / 9).astype(np.float32) for shape in ((9, 3, 3, 3), (12, 9, 3, 3))]
    weights[1][0, 0, 0, 0] += change
    nodes = [
        helper.make_node("Conv", ["lr", "w0"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["a", "w1"], ["b"], pads=[1, 1, 1, 1]),
        helper.make_node("DepthToSpace", ["b"], ["hr"], blocksize=2),
    ]
    graph = helper.make_graph(
        nodes,
        "up",
        [helper.make_tensor_value_info("lr", TensorProto.FLOAT, [1, 3, "height", "width"])],
        [helper.make_tensor_value_info("hr", TensorProto.FLOAT, [1, 3, None, None])],
        [onnx.numpy_helper.from_array(weight, f"w{number}") for number, weight in enumerate(weights)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=10)
    helper.set_model_props(model, {"scale": "2"})
    onnx.save(model, path)
    return path


def native(path: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def test_a_graph_that_computes_something_else_is_refused(tmp_path: Path, make_graph: GraphMaker) -> None:
    right, wrong = nine_channels(tmp_path / "up.onnx"), nine_channels(tmp_path / "wrong.onnx", change=0.2)
    self_test(right, native(right), native(right))
    self_test(right, native(make_graph("down")), native(make_graph("down")))
    with pytest.raises(UserError, match=r"WebGPU computes a known tile wrongly here: \d+\.\d% of the values differ"):
        self_test(wrong, native(wrong), native(right))
    model = onnx.load(right)
    model.graph.input[0].name = model.graph.node[0].input[0] = "x"
    onnx.save(model, tmp_path / "foreign.onnx")
    with pytest.raises(UserError, match="expected a graph with the input hr or lr"):
        self_test(right, native(tmp_path / "foreign.onnx"), native(right))


def test_the_package_is_named(make_graph: GraphMaker) -> None:
    if "WebGpuExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("it is there")
    with pytest.raises(UserError, match="found WebGpuExecutionProvider .it comes with onnxruntime-webgpu"):
        open_session(make_graph("up"), provider="webgpu")


def test_on_a_software_adapter(tmp_path: Path) -> None:
    if not (PACKAGE / "onnxruntime").is_dir():
        pytest.skip("needs onnxruntime-webgpu in build/webgpu")
    driver = {"VK_ICD_FILENAMES": str(SWIFTSHADER)} if SWIFTSHADER.is_file() else {}
    environment = {**driver, **os.environ, "PYTHONPATH": os.pathsep.join(map(str, (PACKAGE, ROOT)))}
    command = [sys.executable, "-c", SCRIPT, str(nine_channels(tmp_path / "up.onnx"))]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    if "WebGPU finds no adapter" in done.stdout:
        pytest.skip("needs a Vulkan loader and driver")
    first, second = done.stdout.splitlines()
    assert first.endswith("WebGpu True"), done.stdout + done.stderr
    assert "WebGPU computes a known tile wrongly here" in second, "the fault of NHWC is mended: LAYOUT can go"
