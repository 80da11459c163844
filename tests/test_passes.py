"""The graph passes: what they take away, and that nothing else changes."""

from __future__ import annotations

from collections import Counter
from typing import cast

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from exported import EDGE, checkpoint, kept_trace
from onnx import ModelProto
from ort_library import needs_library

import export.lowering
from dinn360.checkpoint import load_checkpoint
from dinn360.networks import build_network, preset
from export.fusion.pieces import pieces, producer
from export.lowering import lower
from export.passes import ask_first, cancel_seams, regions, simplify
from plugins.onnxruntime import library

NAMES = ("x2", "x4", "x8", "x2-codec", EDGE)


def run(model: ModelProto, size: tuple[int, int], plugins: bool) -> np.ndarray:
    """The result for two soft images (2,3,*size): white noise is what no camera makes."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    if plugins:
        options.register_custom_ops_library(str(library.find()))
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    rows, columns = np.mgrid[: size[0], : size[1]].astype(np.float32)
    phases = np.arange(6, dtype=np.float32).reshape(2, 3, 1, 1)
    x = 0.5 + 0.4 * np.sin(rows * 0.9 + phases) * np.cos(columns * 0.7 - phases)
    return cast(np.ndarray, session.run(None, {session.get_inputs()[0].name: x})[0])


def counts(model: ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


@pytest.mark.parametrize("direction", ["down", "up"])
@pytest.mark.parametrize("name", NAMES)
def test_nothing_changes_in_what_a_graph_computes(name: str, direction: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sizes are odd, and narrower than the widest region: the circle is gone around more than once."""
    network = load_checkpoint(checkpoint(name)).build()
    traced = kept_trace(network, direction, 19)
    scale = network.config.scale
    size = (13, 9) if direction == "up" else (13 * scale - 1, 9 * scale - 1)
    after = {ops: lower(traced, ops) for ops in ("standard", "primitive")}
    monkeypatch.setattr(export.lowering, "simplify", lambda *_, **__: None)
    before = {ops: lower(traced, ops) for ops in ("standard", "primitive")}
    expected = run(before["standard"], size, plugins=False)
    for model in after.values():
        assert abs(run(model, size, plugins=False) - expected).max() < 2e-5
    if name == EDGE:
        saved = counts(before["standard"]) - counts(after["standard"])
        least = {"down": {"Slice": 30, "Concat": 15, "Pad": 10}, "up": {"Slice": 70, "Concat": 50, "Pad": 10}}[
            direction
        ]
        assert {kind: saved[kind] >= number for kind, number in least.items()} == dict.fromkeys(least, True)


@needs_library
def test_plugins_in_a_region_do_not_wrap_and_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    traced = kept_trace(build_network(preset("edge", 2)).eval(), "up", 19)
    after = lower(traced, "plugin")
    monkeypatch.setattr(export.lowering, "simplify", lambda *_, **__: None)
    before = lower(traced, "plugin")

    def wraps(model: ModelProto) -> Counter[int]:
        nodes = [node for node in model.graph.node if node.op_type == "DeformConv2d"]
        return Counter(next(a.i for a in node.attribute if a.name == "wrap") for node in nodes)

    assert wraps(before) == {1: 8} and wraps(after) == {0: 4, 1: 4}, "in front of attention a plugin wraps itself"
    assert abs(run(after, (13, 9), plugins=True) - run(before, (13, 9), plugins=True)).max() < 2e-5


def test_no_slice_of_one_part_of_a_concatenation_is_left_in_a_trace() -> None:
    graph = ir.from_proto(kept_trace(load_checkpoint(checkpoint(EDGE)).build(), "up", 19)).graph
    cuts = [node for node in graph if node.op_type in ("Slice", "Split") and not node.domain]
    joined = [node for node in cuts if producer(node.inputs[0], "Concat")]
    assert len(cuts) > 20 and all(len(pieces(value)) > 1 for node in joined for value in node.outputs)


def values(*channels: int) -> list[ir.Value]:
    """Graph inputs (B,C,H,W)."""
    return [
        ir.Value(name=f"x{i}", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape(["b", count, "h", "w"]))
        for i, count in enumerate(channels)
    ]


def graph_of(inputs: list[ir.Value], nodes: list[ir.Node], shapes: list[tuple[int, int]]) -> ir.Graph:
    """shapes: node and channels of its first output."""
    for index, count in shapes:
        value = nodes[index].outputs[0]
        value.name, value.type = f"v{index}", ir.TensorType(ir.DataType.FLOAT)
        value.shape = ir.Shape(["b", count, "h", "w"])
    return ir.Graph(inputs, [nodes[-1].outputs[0]], nodes=nodes, opset_imports={"": 19})


@pytest.mark.parametrize(
    ("bounds", "left"),
    [((0, 3), ["Relu"]), ((3, 2**31), ["Relu"]), ((4, 6), ["Slice", "Relu"]), ((2, 5), ["Concat", "Slice", "Relu"])],
    ids=["a part", "the other", "of one part", "of both"],
)
def test_seams(bounds: tuple[int, int], left: list[str]) -> None:
    a, b = values(3, 5)
    join = ir.node("Concat", [a, b], {"axis": 1})
    numbers = [
        ir.Value(name=f"c{i}", const_value=ir.tensor(np.array([n]), name=f"c{i}")) for i, n in enumerate((*bounds, 1))
    ]
    cut = ir.node("Slice", [join.outputs[0], *numbers])
    graph = graph_of([a, b], [join, cut, ir.node("Relu", cut.outputs)], [(0, 8), (1, min(bounds[1], 8) - bounds[0])])
    for number in numbers:
        graph.register_initializer(number)
    cancel_seams(graph)
    assert [node.op_type for node in graph] == left


def test_a_region_is_never_wider_than_it_may_be() -> None:
    for direction in ("down", "up"):
        graph = ir.from_proto(kept_trace(load_checkpoint(checkpoint(EDGE)).build(), direction, 19)).graph
        found = [region.radius for region in regions._regions(graph)]
        assert 6 <= max(found) <= regions.WIDEST


@needs_library
def test_tensors_of_one_size_are_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The windows of a level are of one size: a part of the arithmetic is left, and the same numbers come out."""
    traced = kept_trace(load_checkpoint(checkpoint(EDGE)).build(), "down", 19)
    after = lower(traced, "cpu")
    monkeypatch.setattr(export.lowering, "ask_first", lambda graph: None)
    before = lower(traced, "cpu")
    assert counts(before)["Shape"] - counts(after)["Shape"] == 4 and len(before.graph.node) - len(after.graph.node) > 30
    size = (13 * 8 - 1, 9 * 8 - 1)
    assert np.array_equal(run(after, size, plugins=True), run(before, size, plugins=True))


def test_sizes_are_taken_for_equal_where_operators_show_it_only() -> None:
    """A pool of other strides, and a sum that may broadcast, are asked themselves."""
    a, b = values(3, 3)
    relu = ir.node("Relu", [a])
    pools = [
        ir.node("AveragePool", [x], {"kernel_shape": [2, 2], "strides": [s, s]})
        for x, s in ((a, 2), (relu.outputs[0], 2), (relu.outputs[0], 1))
    ]
    add = ir.node("Add", [a, b])
    asked = [*(pool.outputs[0] for pool in pools), add.outputs[0], relu.outputs[0]]
    shapes = [ir.node("Shape", [value], {"start": 2, "end": 3}) for value in asked]
    whole = ir.node("Shape", [relu.outputs[0]])
    graph = ir.Graph([a, b], [node.outputs[0] for node in (*shapes, whole)],
                     nodes=[relu, *pools, add, *shapes, whole], opset_imports={"": 19})  # fmt: skip
    ask_first(graph)
    first, second, other = (pool.outputs[0] for pool in pools)
    assert [node.inputs[0] for node in shapes] == [first, first, other, add.outputs[0], a]
    assert whole.inputs[0] is relu.outputs[0], "batch and channels are asked, too"
    assert second not in [node.inputs[0] for node in shapes]


def test_a_graph_without_wraps_stays_as_it_is() -> None:
    """A network with a margin of its own has nothing to share: its convolutions do not wrap."""
    (x,) = values(3)
    weight = ir.Value(name="w", const_value=ir.tensor(np.zeros((3, 3, 3, 3), np.float32), name="w"))
    nodes = []
    for _ in range(3):
        given = nodes[-1].outputs[0] if nodes else x
        nodes.append(ir.node("SphereConv2d", [given, weight], {"wrap": 0}, domain="dinn360.layers"))
    graph = graph_of([x], nodes, [(i, 3) for i in range(3)])
    graph.register_initializer(weight)
    simplify(graph, wrapping_deformation=True)
    assert [node.op_type for node in graph] == ["SphereConv2d"] * 3
