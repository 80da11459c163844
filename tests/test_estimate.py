"""Costs on paper: figures by hand on a small graph, and the released graphs against what is known of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from click.testing import CliRunner
from exported import checkpoint, released
from onnx import TensorProto, helper
from ort_library import needs_library
from PIL import Image

from dinn360.checkpoint import load_checkpoint
from dinn360.info import describe
from engines.onnx_file import OnnxNode, read_onnx
from engines.support.errors import UserError
from engines.targets import find_target, load_targets
from export.cli import main
from export.estimate import issue, plan
from export.estimate.layers import layers_of
from export.estimate.roofline import Shares, estimate, layer_seconds, peak_activations
from export.estimate.shapes import shapes_at

HEIGHT, WIDTH = 192, 384
PIXELS = HEIGHT * WIDTH
AGX = "jetson-agx-orin"


def graph(
    path: Path,
    *nodes: onnx.NodeProto,
    result: str,
    weights: dict[str, tuple[int, ...]],
    numbers: dict[str, list[int]] | None = None,
) -> Path:
    """A graph of ours in name: hr (1,3,H,W), scale 2. numbers: further constants."""
    floats = [helper.make_tensor(n, TensorProto.FLOAT, s, np.zeros(s, np.float32).ravel()) for n, s in weights.items()]
    floats += [helper.make_tensor(n, TensorProto.INT64, [len(v)], v) for n, v in (numbers or {}).items()]
    free = ["batch", 3, "height", "width"]
    made = helper.make_graph(
        list(nodes),
        "g",
        [helper.make_tensor_value_info("hr", TensorProto.FLOAT, free)],
        [helper.make_tensor_value_info(result, TensorProto.FLOAT, [None] * 4)],
        floats,
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 19)], ir_version=10)
    helper.set_model_props(model, {"scale": "2", "ops": "standard"})
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def test_counts_by_hand(tmp_path: Path) -> None:
    """Conv, activation and residual addition are one launch; a second reader keeps a tensor in memory."""
    pads = {"pads": [1, 1, 1, 1]}
    path = graph(
        tmp_path / "g.onnx",
        helper.make_node("Conv", ["hr", "w", "b"], ["a"], "first", **pads),
        helper.make_node("LeakyRelu", ["a"], ["c"], "act"),
        helper.make_node("Conv", ["c", "v", "b"], ["d"], "second", **pads),
        helper.make_node("Add", ["d", "c"], ["y"], "residual"),
        result="y",
        weights={"w": (8, 3, 3, 3), "v": (8, 8, 3, 3), "b": (8,)},
    )
    file = read_onnx(path)
    shapes = shapes_at(file, (HEIGHT, WIDTH))
    first, second = layers_of(file, shapes, stock=False)
    image, features = 3 * PIXELS * 4, 8 * PIXELS * 4
    assert (first.name, first.fused, first.macs) == ("first", 1, 8 * 27 * PIXELS)
    assert first.reads == {"hr": image, "w": 8 * 27 * 4, "b": 32} and first.writes == {"c": features}
    assert (second.name, second.fused, second.macs) == ("second", 1, 8 * 72 * PIXELS)
    assert second.reads == {"c": features, "v": 8 * 72 * 4, "b": 32} and second.writes == {"y": features}
    assert peak_activations([first, second], file) == 2 * features
    target = find_target(AGX)
    memory = first.bytes / (0.8 * 204.8e9)
    assert layer_seconds(first, target, Shares(), {}) == pytest.approx(memory)  # bound by it
    assert layer_seconds(first, target, Shares(bandwidth=0.4), {}) == pytest.approx(2 * memory)
    arithmetic = 2 * first.macs / (0.45 * 5.3e12)
    assert layer_seconds(first, target, Shares(bandwidth=1, products=0.01), {}) == pytest.approx(45 * arithmetic)
    assert second.intensity == pytest.approx(second.macs / second.bytes)


def test_what_changes_nothing_at_a_size_costs_nothing_and_indices_are_not_the_image(tmp_path: Path) -> None:
    path = graph(
        tmp_path / "g.onnx",
        helper.make_node("Slice", ["hr", "zero", "end", "axis"], ["all"], "all"),
        helper.make_node("Gather", ["all", "places"], ["y"], "gather", axis=3),
        result="y",
        weights={},
        numbers={"zero": [0], "end": [2**31], "axis": [3], "places": [0, 1, 2, 3]},
    )
    file = read_onnx(path)
    (gather,) = layers_of(file, shapes_at(file, (HEIGHT, WIDTH)), stock=False)
    column = 3 * HEIGHT * 4
    assert (gather.reads, gather.writes) == ({"hr": 4 * column, "places": 32}, {"y": 4 * column})


def test_a_tensor_with_two_readers_stays_inside_where_both_are_in_the_kernel(tmp_path: Path) -> None:
    path = graph(
        tmp_path / "g.onnx",
        helper.make_node("Relu", ["hr"], ["a"], "shared"),
        helper.make_node("Exp", ["a"], ["e"], "exp"),
        helper.make_node("Sigmoid", ["a"], ["s"], "sigmoid"),
        helper.make_node("Mul", ["e", "s"], ["y"], "product"),
        result="y",
        weights={},
    )
    file = read_onnx(path)
    layers = layers_of(file, shapes_at(file, (HEIGHT, WIDTH)), stock=False)
    (kernel,) = layers
    assert (kernel.name, kernel.fused, sorted(kernel.reads), sorted(kernel.writes)) == ("shared", 3, ["hr"], ["y"])


def test_a_gather_waits_for_its_image_and_takes_its_indices_along(tmp_path: Path) -> None:
    """relu -> gather by computed places -> product: the image is written once, the places never."""
    path = graph(
        tmp_path / "g.onnx",
        helper.make_node("Relu", ["hr"], ["a"], "image"),
        helper.make_node("ReduceMean", ["hr", "axes"], ["m"], "mean", keepdims=0),
        helper.make_node("Cast", ["m"], ["at"], "places", to=TensorProto.INT64),
        helper.make_node("Gather", ["a", "at"], ["g"], "gather", axis=3),
        helper.make_node("Exp", ["g"], ["y"], "exp"),
        result="y",
        weights={},
        numbers={"axes": [0, 1, 2]},
    )
    file = read_onnx(path)
    layers = layers_of(file, shapes_at(file, (HEIGHT, WIDTH)), stock=False)
    assert [(layer.name, sorted(layer.reads), sorted(layer.writes)) for layer in layers] == [
        ("image", ["hr"], ["a"]),
        ("mean", ["a", "axes", "hr"], ["y"]),
    ]


def test_stock_deformable_convolution_moves_its_columns(tmp_path: Path) -> None:
    path = graph(
        tmp_path / "g.onnx",
        helper.make_node("Conv", ["hr", "o"], ["offset"], "offsets"),
        helper.make_node("DeformConv", ["hr", "w", "offset"], ["y"], "deform", pads=[1, 1, 1, 1]),
        result="y",
        weights={"o": (18, 3, 1, 1), "w": (5, 3, 3, 3)},
    )
    file = read_onnx(path)
    _, deform = layers_of(file, shapes_at(file, (HEIGHT, WIDTH)), stock=False)
    columns = 27 * PIXELS
    assert (deform.products, deform.samples) == (5 * columns, 4 * columns)
    assert deform.scratch == 4 * columns
    assert deform.bytes == sum(deform.reads.values()) + sum(deform.writes.values()) + 8 * columns


PLAIN = {"strides": [1, 1], "pads": [1, 1], "dilations": [1, 1], "group": 1, "offset_group": 1, "max_offset": 3.0}


def half_graph(path: Path, *nodes: onnx.NodeProto, weights: dict[str, tuple[int, ...]]) -> Path:
    """As `graph`, between casts to fp16 and back: from `x` to `y`."""
    halves = {
        name: helper.make_tensor(name, TensorProto.FLOAT16, s, np.zeros(s).ravel()) for name, s in weights.items()
    }
    ends = [helper.make_node("Cast", ["hr"], ["x"], "in", to=TensorProto.FLOAT16),
            helper.make_node("Cast", ["y"], ["lr"], "out", to=TensorProto.FLOAT)]  # fmt: skip
    free = helper.make_tensor_value_info("hr", TensorProto.FLOAT, ["batch", 3, "height", "width"])
    result = helper.make_tensor_value_info("lr", TensorProto.FLOAT, [None] * 4)
    made = helper.make_graph([ends[0], *nodes, ends[1]], "g", [free], [result], list(halves.values()))
    opsets = [helper.make_opsetid("", 19), helper.make_opsetid("dinn360", 1)]
    model = helper.make_model(made, opset_imports=opsets, ir_version=10)
    helper.set_model_props(model, {"scale": "2", "ops": "plugin"})
    onnx.save(model, path)
    return path


@needs_library
def test_a_plugin_takes_no_pointwise_operator_in_and_fills_channels_up(tmp_path: Path) -> None:
    path = half_graph(
        tmp_path / "g.onnx",
        helper.make_node("Conv", ["x", "o"], ["offset"], "offsets"),
        helper.make_node("DeformConv2d", ["x", "offset", "w", "b"], ["d"], "deform", domain="dinn360", wrap=1, **PLAIN,
                         plugin_namespace="", plugin_version="1"),
        helper.make_node("Relu", ["d"], ["y"], "act"),
        weights={"o": (18, 3, 1, 1), "w": (12, 3, 3, 3), "b": (12,)},
    )  # fmt: skip
    ours, stock = estimate(path, find_target(AGX), (HEIGHT, WIDTH))
    assert [(layer.name, layer.fused, layer.launches) for layer in ours.layers] == [
        ("in", 0, 1), ("offsets", 0, 1), ("deform", 0, 2), ("act", 1, 1)
    ]  # fmt: skip
    deform = ours.layers[2]
    assert deform.reads["x"] == 8 * PIXELS * 2 and deform.reads["offset"] == 24 * PIXELS * 2
    assert deform.writes == {"d": 16 * PIXELS * 2}
    assert ours.launches == 5 and stock.launches == 5


def test_instructions_of_the_kernels_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """A warp of a 3x3 convolution of 16 channels: 9 spots in 3 turns of the outer loop, 18 octets in 5 steps."""
    monkeypatch.setattr(issue, "_lengths", lambda kernel, capability: (1000, 400, 100, 30))
    node = OnnxNode("d", "DeformConv2d", "dinn360", ("x", "o", "w", "b"), ("y",), {"group": 1, "offset_group": 1})
    shapes = {"x": (1, 16, 10, 33), "w": (16, 16, 3, 3), "y": (1, 16, 10, 33)}
    assert issue._deform_conv(node, shapes, "8.7") == 10 * 2 * (600 + 3 * 300 + 5 * 100)
    attention = OnnxNode("a", "DSTAttention", "dinn360", ("q", "k", "v", "b"), ("y",), {"heads": 2, "window": 8})
    shapes = {"y": (1, 32, 16, 24)}  # 6 windows of 2 heads: 12 units in 3 blocks of 4 warps
    assert issue._dst_attention(attention, shapes, "8.7") == 4 * (3 * (1000 - 100 + 30) + 12 * (100 - 30))
    agx = find_target(AGX)
    assert (
        issue.seconds(node, {**shapes, "x": (1, 16, 10, 33), "w": (16, 16, 3, 3), "y": (1, 16, 10, 33)}, True, agx) > 0
    )
    assert issue._rate(agx) == pytest.approx(5.3e12 / 64)


def test_the_committed_instructions_are_of_every_fp16_kernel_on_every_target() -> None:
    for tiles in (2, 4, 8):
        total, outer, inner, skipped = issue._lengths(f"deform_conv_half<{tiles}, true>", "8.7") or (0, 0, 0, 0)
        assert total > outer > inner > skipped >= 0
    for depth in (8, 16, 32, 64):
        total, _, inner, once = issue._lengths(f"dst_attention<__half, {depth}, true>", "8.7") or (0, 0, 0, 0)
        assert total > inner > once > 0
    for target in load_targets().values():
        if target.runtime == "tensorrt" and target.compute_capabilities[0] not in ("10.3",):
            assert issue._lengths("deform_conv_half<2, true>", target.compute_capabilities[0]), target.key


TOLD = """Layers:
Name: a_myl0_0, LayerType: kgen, Inputs: [ { Name: lr, Dimensions: [1,3,4,8], Strides: [96,32,8,1], Datatype: Float, \
Format: (Linear) }], Constants: [ { Name: c, Dimensions: [], Strides: [], Datatype: Half, Format: (Linear) }], \
Outputs: [ { Name: y, Dimensions: [1,4,4,8], Strides: [1], Datatype: Half, Format: (NHWC) }], TacticName: t, StreamId: 0
Name: s, LayerType: signal, Inputs: [], Constants: [], Outputs: [], TacticName: , StreamId: 0
""".replace("\\\n", "")


def test_a_builders_plan_is_read() -> None:
    assert plan.read_layers(TOLD) == [plan.PlanLayer("a_myl0_0", "kgen", 96 * 4 + 2 + 128 * 2)]


def test_a_builders_plan_beside_the_estimate(tmp_path: Path) -> None:
    """TensorRT-RTX fuses the activation into the convolution, as the estimate does."""
    pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx-cu13 is not installed")
    convolution = helper.make_node("Conv", ["hr", "w"], ["a"], "conv", pads=[1, 1, 1, 1])
    path = graph(tmp_path / "g.onnx", convolution, helper.make_node("Relu", ["a"], ["y"], "act"), result="y",
                 weights={"w": (8, 3, 3, 3)})  # fmt: skip
    model = onnx.load(path)
    helper.set_model_props(model, {"scale": "2", "ops": "primitive", "direction": "down"})
    onnx.save(model, path)
    done = CliRunner().invoke(
        main, ["estimate", "--onnx", str(path), "--target", AGX, "--size", f"{WIDTH}x{HEIGHT}", "--plan"]
    )
    assert done.exit_code == 0, done.output
    rows = {line[:19].strip(): line[19:].split() for line in done.output.splitlines()[-8:] if line.strip()}
    assert rows["estimate"][0] == "1" and 1 <= int(rows["TensorRT-RTX's plan"][0]) <= 3
    standard = graph(tmp_path / "s.onnx", helper.make_node("Conv", ["hr", "o"], ["offset"], "offsets"),
                     helper.make_node("DeformConv", ["hr", "w", "offset"], ["y"], "deform", pads=[1, 1, 1, 1]),
                     result="y", weights={"o": (18, 3, 1, 1), "w": (5, 3, 3, 3)})  # fmt: skip
    with pytest.raises(
        UserError, match=r"expected operators of ops primitive or plugin to build a plan of, found DeformConv"
    ):
        plan.built_plan(standard, (HEIGHT, WIDTH))


@needs_library
def test_a_builders_plan_of_what_lies_between_plugins(tmp_path: Path) -> None:
    """Two convolutions in front of a plugin, one behind it: kernels that cannot be one."""
    pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx-cu13 is not installed")
    path = half_graph(
        tmp_path / "g.onnx",
        helper.make_node("Conv", ["x", "o"], ["offset"], "offsets"),
        helper.make_node("DeformConv2d", ["x", "offset", "w", "b"], ["d"], "deform", domain="dinn360", wrap=1, **PLAIN,
                         plugin_namespace="", plugin_version="1"),
        helper.make_node("Conv", ["d", "v"], ["y"], "behind"),
        weights={"o": (18, 3, 1, 1), "w": (12, 3, 3, 3), "b": (12,), "v": (8, 12, 1, 1)},
    )  # fmt: skip
    model = onnx.load(path)
    model.graph.value_info.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT16, [None] * 4) for name in ("x", "offset", "d")
    )
    helper.set_model_props(model, {"scale": "2", "ops": "plugin", "direction": "down"})
    onnx.save(model, path)
    layers = plan.built_plan(path, (HEIGHT, WIDTH))
    assert 3 <= len(layers) <= 6
    written = HEIGHT * WIDTH * 2 * (18 + 8)  # the offsets, which the plugin reads, and y
    assert written < sum(layer.bytes for layer in layers) < 5 * written
    assert "plan without plugins" in plan.beside(estimate(path, find_target(AGX), (HEIGHT, WIDTH))[0], layers)


@pytest.mark.parametrize("size", [(HEIGHT, WIDTH), (320, 448)], ids=str)
def test_shapes_are_those_of_a_run_at_that_size(size: tuple[int, int]) -> None:
    """Small runs foretell every tensor of a larger one; nearly, where the proportions are rounded."""
    path = released("x2") / "down.onnx"
    file = read_onnx(path)
    foretold = shapes_at(file, size)
    names = [name for node in file.nodes[:: len(file.nodes) // 40] for name in node.outputs if name in foretold]
    model = onnx.load(path)
    del model.graph.output[:]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found = session.run(None, {"hr": np.zeros((1, 3, *size), np.float32)})
    assert len(names) > 20
    for name, value in zip(names, found, strict=True):
        expected, wanted = np.prod(foretold[name]), value.size
        assert expected == pytest.approx(wanted, rel=0 if size == (HEIGHT, WIDTH) else 0.1), name


@pytest.mark.parametrize("direction", ["down", "up"])
def test_the_count_agrees_with_the_networks_own(direction: str) -> None:
    """Convolutions and matrix products of the graph are those that `dinn360 info` counts in PyTorch."""
    (one,) = estimate(released("x2") / f"{direction}.onnx", find_target(AGX), (512, 1024))
    info = describe(load_checkpoint(checkpoint("x2")).config)
    counted = sum(layer.macs for layer in one.layers) / (512 * 1024)
    known = info.macs["downscale" if direction == "down" else "upscale"]
    assert 0.9 * known < counted < 1.1 * known  # wrapped columns are computed twice; DST samples by gathering


def test_the_command_prints_and_draws(tmp_path: Path) -> None:
    picture = tmp_path / "roof.png"
    convolution = helper.make_node("Conv", ["hr", "w"], ["y"], "conv", pads=[1, 1, 1, 1])
    small = graph(tmp_path / "g.onnx", convolution, result="y", weights={"w": (8, 3, 3, 3)})
    arguments = ["--onnx", small, "--target", AGX, "--size", "1024x512", "--plot", picture]
    done = CliRunner().invoke(main, ["estimate", *map(str, arguments)])
    assert done.exit_code == 0, done.output
    assert "Jetson AGX Orin 64 GB: 42.5 fp16 and 5.3 fp32 TFLOPS, 204.8 GB/s" in done.output
    assert "counted with 80% of the bandwidth and 45% of the matrix products" in done.output
    assert "An estimate" in done.output and "Nothing ran on this device" in done.output
    assert Image.open(picture).size[0] > 1000


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--target", "abacus"], "--target: expected one of"),
        (["--target", AGX, "--size", "big"], "expected WIDTHxHEIGHT"),
        (["--target", AGX, "--onnx", "absent.onnx"], "absent.onnx: cannot read: no such file"),
        (["--target", AGX, "--onnx", "setup.cfg"], "setup.cfg: expected an ONNX file"),
    ],
)
def test_a_mistake_ends_in_one_line(arguments: list[str], expected: str) -> None:
    graph_option = [] if "--onnx" in arguments else ["--onnx", str(released("x2") / "up.onnx")]
    done = CliRunner().invoke(main, ["estimate", *graph_option, *arguments])
    assert done.exit_code == 2 and expected in done.output
    assert len(done.output.strip().splitlines()) == 1
