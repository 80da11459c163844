"""The fused operators of CPU graphs against PyTorch, and the graph pass that makes them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import cpu_cases
import numpy as np
import onnx
import onnx_ir as ir
import onnx_ir.passes.common as passes
import pytest
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper, numpy_helper
from ort_library import Array, needs_library, node_session, run_node

from dinn360.networks.invertible import Haar
from dinn360.sphere import conv2d
from export.fusion import fuse
from export.fusion.operators import DOMAIN
from export.operators import LAYERS
from plugins.build import ROOT, cmake

PLAIN: dict[str, Any] = {
    "first_channels": [0],
    "channel_counts": [7],
    "wrap": 1,
    "input_slope": 1.0,
    "activation": "none",
    "slope": 0.0,
    "limit": 0.0,
    "residual_first": 0,
    "coupling": "none",
    "bound": 0.0,
}


def normal(*shape: int) -> Array:
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)


def conv_inputs(outputs: int, kernel: int, channels: int = 7, size: tuple[int, int] = (9, 37)) -> dict[str, Array]:
    """x, weight and bias, for results of variance 1 or 2; the size is that of no whole vector, band or tile."""
    weight = normal(outputs, channels, kernel, kernel) / (kernel * np.float32(np.sqrt(channels)))
    return {"x": normal(2, channels, *size), "weight": weight, "bias": normal(outputs)}


def plain_conv(inputs: dict[str, Array], wrap: bool = True) -> torch.Tensor:
    return conv2d(*(torch.from_numpy(inputs[name]) for name in ("x", "weight", "bias")), wrap)


def run_conv(inputs: dict[str, Array | None], **attributes: Any) -> Array:
    return run_node("SphereConv2d", inputs, PLAIN | attributes, domain=DOMAIN)


def close(found: Array, expected: torch.Tensor, tolerance: float = 1e-5) -> bool:
    return found.shape == expected.shape and float(np.abs(found - expected.numpy()).max()) < tolerance


@needs_library
@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("wrap", [False, True])
@pytest.mark.parametrize("outputs", [1, 3, 8, 13, 42])
def test_convolution(kernel: int, wrap: bool, outputs: int) -> None:
    inputs = conv_inputs(outputs, kernel)
    assert close(run_conv(inputs, wrap=int(wrap)), plain_conv(inputs, wrap))


@needs_library
@pytest.mark.parametrize("size", [(1, 1), (2, 2), (3, 1), (40, 5), (5, 530), (3, 1025)])
@pytest.mark.parametrize("channels", [7, 40])  # the direct way and Winograd's
def test_sizes_from_one_pixel_to_several_bands(size: tuple[int, int], channels: int) -> None:
    inputs = conv_inputs(5, 3, channels, size)
    for wrap in (False, True):
        found = run_conv(inputs, wrap=int(wrap), channel_counts=[channels])
        assert close(found, plain_conv(inputs, wrap)), wrap


@needs_library
def test_the_result_does_not_depend_on_the_threads() -> None:
    """26 units, taken some at a time by one to five of them: each is done, and gives the same bits."""
    inputs = conv_inputs(13, 3, 16, size=(50, 37))
    attributes = PLAIN | {"channel_counts": [16]}
    one, *others = (run_node("SphereConv2d", inputs, attributes, threads, DOMAIN) for threads in (1, 2, 5))
    assert close(one, plain_conv(inputs)) and all(np.array_equal(one, other) for other in others)


@needs_library
@pytest.mark.parametrize("width", [304, 306])  # rows of whole cache lines, and of none
def test_results_that_no_cache_holds(width: int) -> None:
    inputs = conv_inputs(24, 3, size=(303, width))
    assert close(run_conv(inputs), plain_conv(inputs))


@needs_library
@pytest.mark.parametrize(
    ("attributes", "function"),
    [
        ({"activation": "relu"}, F.relu),
        ({"activation": "leaky_relu", "slope": 0.2}, lambda x: F.leaky_relu(x, 0.2)),
        ({"activation": "clip", "limit": 0.75}, lambda x: x.clamp(-0.75, 0.75)),
        ({"activation": "gelu"}, F.gelu),
    ],
)
def test_activations_and_residual(attributes: dict[str, Any], function: Any) -> None:
    for outputs in (6, 24):  # the direct way and Winograd's
        inputs = conv_inputs(outputs, 3) | {"residual": normal(2, outputs + 3, 9, 37)}
        expected = function(plain_conv(inputs)) + torch.from_numpy(inputs["residual"])[:, 2:-1]
        assert close(run_conv(inputs, residual_first=2, **attributes), expected)


@needs_library
@pytest.mark.parametrize("outputs", [6, 24])  # the direct way and Winograd's
def test_a_rectifier_of_the_sum(outputs: int) -> None:
    inputs = conv_inputs(outputs, 3) | {"residual": normal(2, outputs, 9, 37)}
    expected = F.leaky_relu(plain_conv(inputs) + torch.from_numpy(inputs["residual"]), 0.2)
    assert close(run_conv(inputs, activation="leaky_relu_of_sum", slope=0.2), expected)


@needs_library
@pytest.mark.parametrize("outputs", [6, 24])  # the direct way and Winograd's
def test_sources_side_by_side_and_a_sum_before(outputs: int) -> None:
    inputs = conv_inputs(outputs, 3, channels=9)
    parts = {"x": normal(2, 8, 9, 37), "x1": normal(2, 3, 9, 37), "x2": normal(2, 5, 9, 37)}
    joined = np.concatenate([parts["x"][:, 3:7], parts["x1"], parts["x2"][:, :2]], axis=1)
    given = {
        "x": parts["x"],
        "weight": inputs["weight"],
        "bias": inputs["bias"],
        "no_residual": None,
        "no_addend": None,
    }
    given |= {"x1": parts["x1"], "x2": parts["x2"]}
    found = run_conv(given, first_channels=[3, 0, 0], channel_counts=[4, 3, 2])
    assert close(found, plain_conv(inputs | {"x": joined}))
    inputs = conv_inputs(outputs, 3)
    given = inputs | {"no_residual": None, "addend": normal(2, 7, 9, 37) - 0.5}
    total = F.leaky_relu(torch.from_numpy(given["x"] + given["addend"]), 0.2).numpy()
    assert close(run_conv(given, input_slope=0.2), plain_conv(inputs | {"x": total}))


@needs_library
@pytest.mark.parametrize("coupling", ["affine", "affine_inverse", "projection_inverse"])
@pytest.mark.parametrize("outputs", [10, 26])  # the direct way and Winograd's
def test_couplings(coupling: str, outputs: int) -> None:
    inputs = conv_inputs(outputs, 3) | {"residual": normal(2, outputs // 2, 9, 37)}
    inputs["weight"] *= 8  # the log-scales reach their bounds
    a, b = plain_conv(inputs).chunk(2, dim=1)
    high = torch.from_numpy(inputs["residual"])
    s = 1.5 * (2 * torch.sigmoid(a) - 1)
    expected = {
        "affine": high * torch.exp(s) + b,
        "affine_inverse": (high - b) * torch.exp(-s),
        "projection_inverse": high * torch.exp(-1.5 * torch.atan(2 * b)) - a,
    }[coupling]
    assert close(run_conv(inputs, coupling=coupling, bound=1.5), expected, 5e-4)


@needs_library
def test_weights_that_the_graph_computes() -> None:
    """Packed in each run; constants are packed when the session is made."""
    inputs = conv_inputs(24, 3)
    held = node_session("SphereConv2d", inputs, PLAIN, domain=DOMAIN, constants=("weight",))
    for run in (held.run(None, {"x": inputs["x"], "bias": inputs["bias"]})[0], run_conv(inputs)):
        assert close(run, plain_conv(inputs))


@needs_library
def test_equal_parts_as_outputs() -> None:
    inputs = conv_inputs(9, 1)
    session = node_session("SphereConv2d", inputs, PLAIN, domain=DOMAIN, outputs=3)
    expected = plain_conv(inputs).chunk(3, dim=1)
    assert all(close(found, part) for found, part in zip(session.run(None, inputs), expected, strict=True))


@needs_library
def test_channel_norm() -> None:
    inputs = {"x": 3 * normal(2, 12, 9, 37) + 5, "weight": normal(12), "bias": normal(12)}
    x, weight, bias = (torch.from_numpy(array) for array in inputs.values())
    expected = F.layer_norm(x.permute(0, 2, 3, 1), (12,), weight, bias).permute(0, 3, 1, 2)
    assert close(run_node("ChannelNorm", inputs, {"epsilon": 1e-5}, domain=DOMAIN), expected)


@needs_library
def test_haar_and_its_inverse() -> None:
    x = normal(2, 5, 10, 14)
    image = {"first_channels": [1], "channel_counts": [3]}
    bands = run_node("Haar", {"x": x}, image | {"inverse": 0}, domain=DOMAIN)
    assert close(bands, Haar()(torch.from_numpy(x[:, 1:4])), 1e-6)
    low, high = np.ascontiguousarray(bands[:, :2]), np.ascontiguousarray(bands[:, 1:])
    both = {"first_channels": [0, 1], "channel_counts": [2, 10], "inverse": 1}
    found = run_node("Haar", {"x": low, "x1": high}, both, domain=DOMAIN)
    assert close(found, torch.from_numpy(x[:, 1:4]), 1e-5)


@needs_library
@pytest.mark.parametrize(
    ("change", "attributes", "words"),
    [
        ({"residual": (2, 6, 9, 36)}, {}, "input 3: expected the batch and size of the first"),
        ({"residual": (2, 5, 9, 37)}, {}, "residual: expected as many channels as the output has"),
        ({"bias": (5,)}, {}, "a bias for each output channel"),
        ({}, {"channel_counts": [6]}, "channels of the sources: expected some that exist, as many as the weight has"),
        ({}, {"activation": "tanh"}, "attribute activation: found tanh, which is unknown"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, Any], attributes: dict[str, Any], words: str) -> None:
    inputs = conv_inputs(6, 3) | {"residual": normal(2, 6, 9, 37)}
    inputs |= {name: np.zeros(shape, np.float32) for name, shape in change.items()}
    with pytest.raises(Exception, match=words):
        run_conv(inputs, **attributes)


def agreement(folder: Path, *options: str) -> Path:
    """The program that compares the instruction sets."""
    cmake(folder, ["CPU"], "dinn360_fused_agreement", *options)
    return folder / "testing" / "dinn360_fused_agreement"


def check_agreement(command: list[str], name: str) -> None:
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    apart = {line.split()[0]: float(line.split()[1]) for line in lines}
    assert {f"{name}-{way}" for way in ("direct", "winograd", "blocks")} <= set(apart) and max(apart.values()) < 2e-5, (
        apart
    )


@needs_library
def test_instruction_sets_agree() -> None:
    check_agreement([str(agreement(ROOT / "build" / "cpu"))], "portable")


@needs_library
@pytest.mark.parametrize("name", ["portable", "sse9"])
def test_the_environment_names_an_instruction_set(name: str) -> None:
    """One that the CPU lacks is told, and the best runs."""
    code = "import test_fused_operators as t; i = t.conv_inputs(3, 1); print(t.close(t.run_conv(i), t.plain_conv(i)))"
    environment = os.environ | {"DINN360_INSTRUCTION_SET": name, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1:] == ["True"], done.stderr
    told = f"expected an instruction set of this CPU, found {name}" in done.stderr
    assert told == (name == "sse9")


@pytest.mark.skipif(cpu_cases.why_not() is not None, reason=str(cpu_cases.why_not()))
def test_neon_agrees() -> None:
    program = agreement(ROOT / "build" / "cpu-aarch64", *cpu_cases.CROSS)
    check_agreement([cpu_cases.EMULATOR, str(program)], "neon")


def graph_of(text: str, **constants: Array) -> ir.Graph:
    """A traced graph from ONNX text, x (1,4,6,8) -> y, with its constants as initializers; all else is like x."""
    imports = f'"" : 19, "{LAYERS}" : 1'
    model = onnx.parser.parse_model(f"<ir_version: 10, opset_import: [{imports}]> g {text}")
    model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    names = [name for node in model.graph.node for name in node.output if name != "y"]
    model.graph.value_info.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4, 6, 8]) for name in names
    )
    return ir.from_proto(model).graph


def fused(graph: ir.Graph) -> list[ir.Node]:
    fuse(graph)
    passes.RemoveUnusedNodesPass()(ir.Model(graph, ir_version=10))
    return list(graph)


def operators(graph: ir.Graph) -> list[str]:
    return [node.op_type for node in fused(graph)]


CONVOLUTION = """(float[1,4,6,8] x) => (float[1,4,6,8] y) {{
    convolved = dinn360.layers.SphereConv2d <wrap = 1> (x, weight)
    {rest}
}}"""
WEIGHT = {"weight": normal(4, 4, 3, 3)}


def test_a_convolution_takes_in_what_follows() -> None:
    graph = graph_of(CONVOLUTION.format(rest="active = Relu (convolved)\n    y = Add (x, active)"), **WEIGHT)
    (node,) = fused(graph)
    assert (node.domain, node.op_type) == (DOMAIN, "SphereConv2d")
    assert (node.attributes["wrap"].value, node.attributes["activation"].value) == (1, "relu")
    assert node.inputs[3] is graph.inputs[0] and graph.outputs[0].name == "y"


def test_a_residual_block_with_a_rectifier_behind_its_sum_is_two_convolutions() -> None:
    """The first takes the sum in with its rectifier; but not where the sum itself is read, too."""
    rest = """total = Add (x, convolved)
    active = Relu (total)
    y = dinn360.layers.SphereConv2d <wrap = 1> (active, weight)"""
    first, second = fused(graph_of(CONVOLUTION.format(rest=rest), **WEIGHT))
    assert (first.op_type, second.op_type) == ("SphereConv2d", "SphereConv2d")
    assert first.inputs[3] is first.inputs[0] and first.attributes["activation"].value == "leaky_relu_of_sum"
    assert first.attributes["slope"].value == 0.0
    assert second.inputs[0] is first.outputs[0] and second.attributes["input_slope"].value == 1.0
    shared = rest.replace("y =", "again =") + "\n    y = Add (again, total)"
    first, second = fused(graph_of(CONVOLUTION.format(rest=shared), **WEIGHT))
    assert (first.attributes["activation"].value, second.attributes["input_slope"].value) == ("none", 0.0)


def test_what_only_looks_alike_stays() -> None:
    """A value that somebody else reads, too; a clip that is not symmetric; a pointwise convolution with a stride."""
    shared = CONVOLUTION.format(rest="active = Relu (convolved)\n    y = Add (convolved, active)")
    assert operators(graph_of(shared, **WEIGHT)) == ["SphereConv2d", "Relu", "Add"]
    limits = {"low": np.array(-1, np.float32), "high": np.array(2, np.float32)}
    clipped = CONVOLUTION.format(rest="y = Clip (convolved, low, high)")
    assert operators(graph_of(clipped, **WEIGHT, **limits)) == ["SphereConv2d", "Clip"]
    strided = "(float[1,4,6,8] x) => (float[1,4,3,4] y) { y = Conv <strides = [2, 2]> (x, weight) }"
    assert operators(graph_of(strided, weight=normal(4, 4, 1, 1))) == ["Conv"]


def test_only_fp32_graphs_are_fused() -> None:
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT16, [1, 4, 6, 8]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", value[:1], value[1:])
    with pytest.raises(ValueError, match="expected an fp32 graph, found FLOAT16"):
        fuse(ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=10)).graph)
