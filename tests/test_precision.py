"""fp16 graphs: one type a node, few casts, fp32 where it was decided; 8-bit edges; what the commands say of both."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from click.testing import CliRunner
from exported import kept_trace
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import build, tiny
from onnx import ModelProto, TensorProto, helper, numpy_helper

from dinn360.checkpoint import Checkpoint, save_checkpoint
from dinn360.networks import DINN360
from engines.panorama.rescale_image import downscale_image, upscale_image
from engines.session import open_session
from engines.support.arrays import Image8, to_image, to_tensor
from engines.support.errors import UserError
from engines.support.files import sha256_of
from engines.support.images import write_png
from export.cli import main
from export.config import LOWERINGS, ExportConfig, Lowering
from export.graphs import Downscale
from export.io_format import with_8_bit_io
from export.onnx import check, finish, metadata, write_graph
from export.precision.casts import to_half
from export.precision.fp32_ops import fp32_ops_of
from export.precision.roles import EXACT, ROLES, roles_of_model
from export.precision.rounding import with_rounding

FLOATS = {TensorProto.FLOAT, TensorProto.FLOAT16}
# Integers and shapes beside the data, or a cast: the operators whose inputs may have several types.
UNTYPED = {"Cast", "Expand", "Gather", "Reshape", "Slice", "Squeeze", "Unsqueeze"}


@pytest.fixture(scope="module")
def ckpt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("precision") / "tiny.pth"
    network = build(tiny(2))
    save_checkpoint(path, Checkpoint(network.config, network.state_dict(), {}))
    return path


@pytest.fixture(scope="module")
def traced(ckpt: Path) -> dict[str, ModelProto]:
    return {direction: kept_trace(build(tiny(2)), direction, 19) for direction in ("down", "up")}


@pytest.fixture(scope="module")
def folder(ckpt: Path, traced: dict[str, ModelProto], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """<precision>-<io>/{down,up}.{onnx,json}, standard operators."""
    out = tmp_path_factory.mktemp("forms")
    network: DINN360 = build(tiny(2))
    for precision in ("fp32", "fp16"):
        for io in ("float-nchw", "uint8-nhwc"):
            form = ExportConfig("standard", 19, precision, io)  # type: ignore[arg-type]
            (out / f"{precision}-{io}").mkdir()
            for direction, model in traced.items():
                told = metadata(Checkpoint(network.config, {}), sha256_of(ckpt), direction, form)
                write_graph(model, direction, form, told, out / f"{precision}-{io}")
    return out


def types_of(model: ModelProto) -> dict[str, int]:
    model = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    values = [*model.graph.value_info, *model.graph.input, *model.graph.output]
    types = {value.name: value.type.tensor_type.elem_type for value in values}
    return types | {tensor.name: tensor.data_type for tensor in model.graph.initializer}


IN_HALF = [ops for ops in LOWERINGS if ops != "cpu"]  # whose operators are fp32 only


@pytest.mark.parametrize("direction", ["down", "up"])
@pytest.mark.parametrize("ops", IN_HALF)
def test_every_node_works_on_one_type(traced: dict[str, ModelProto], direction: str, ops: Lowering) -> None:
    model = finish(traced[direction], direction, ExportConfig(ops, precision="fp16"))
    check(model)
    types = types_of(model)
    for node in model.graph.node:
        found = {types[name] for name in (*node.input, *node.output) if name} & FLOATS
        assert len(found) <= 1 or node.op_type == "Cast", (node.name, node.op_type)
    assert {types[value.name] for value in (*model.graph.input, *model.graph.output)} & FLOATS == {TensorProto.FLOAT}
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    half = [node for node in convolutions if types[node.output[0]] == TensorProto.FLOAT16]
    assert len(half) > 0.8 * len(convolutions)


@pytest.mark.parametrize("direction", ["down", "up"])
def test_casts_stand_at_borders_only(traced: dict[str, ModelProto], direction: str) -> None:
    model = finish(traced[direction], direction, ExportConfig("plugin", precision="fp16"))
    makers = {name: node for node in model.graph.node for name in node.output}
    types = types_of(model)
    crossed = []
    for node in model.graph.node:
        if node.op_type != "Cast" or types[node.input[0]] not in FLOATS:
            continue
        maker = makers.get(node.input[0])
        assert maker is None or maker.op_type != "Cast", f"{node.name}: two casts in a row"
        assert types[node.input[0]] != types[node.output[0]], f"{node.name}: a cast to the same type"
        crossed.append(node.input[0])
    assert len(crossed) == len(set(crossed)), "a value is cast twice"
    assert 0 < len(crossed) < len(model.graph.node) / 5


def test_convolutions_may_share_a_bias(traced: dict[str, ModelProto]) -> None:
    """As those of a fresh network do: all are zero, and the exporter keeps one of each size."""
    shared = ModelProto()
    shared.CopyFrom(traced["down"])
    sizes = {tensor.name: tuple(tensor.dims) for tensor in shared.graph.initializer}
    first: dict[tuple[int, ...], str] = {}
    for node in shared.graph.node:
        if node.op_type in ("Conv", "SphereConv2d") and len(node.input) > 2:
            node.input[2] = first.setdefault(sizes[node.input[2]], node.input[2])
    check(finish(shared, "down", ExportConfig("plugin", precision="fp16")))


def test_sampling_coordinates_are_fp32(traced: dict[str, ModelProto]) -> None:
    model = finish(traced["up"], "up", ExportConfig("primitive", precision="fp16"))
    types = types_of(model)
    floors = [node for node in model.graph.node if node.op_type == "Floor"]
    assert floors and {types[node.input[0]] for node in floors} == {TensorProto.FLOAT}
    softmax = [node for node in model.graph.node if node.op_type == "Softmax"]
    assert softmax and {types[node.input[0]] for node in softmax} == {TensorProto.FLOAT}
    standard = finish(traced["up"], "up", ExportConfig("standard", precision="fp16"))
    types = types_of(standard)
    sampled = [node for node in standard.graph.node if node.op_type == "DeformConv"]
    assert sampled and {types[node.input[0]] for node in sampled} == {TensorProto.FLOAT}


def test_every_part_has_a_role_and_every_fp32_op_a_reason(traced: dict[str, ModelProto]) -> None:
    found = {direction: set(roles_of_model(model)) for direction, model in traced.items()}
    flat = {"details"}  # a role of flat DINN360 only
    assert found["up"] == set(ROLES) - flat
    assert set(ROLES) - flat - found["down"] == {"latitude map", "condition", "projection functions"}
    for direction in found:
        for ops in IN_HALF:
            kept = fp32_ops_of(direction, ops)
            assert {op.role for op in kept} <= found[direction]
            assert all(len(op.reason) > 20 for op in kept)
            assert ("deformable convolutions" in {op.role for op in kept}) == (ops == "standard")
    with pytest.raises(ValueError, match="full: expected some of .* found 'magic'"):
        to_half(traced["down"], ["magic"])


def test_a_weight_beyond_fp16_is_refused(traced: dict[str, ModelProto]) -> None:
    model = ModelProto()
    model.CopyFrom(traced["down"])
    weight = next(t for t in model.graph.initializer if t.name.endswith("phi.last.weight"))
    weight.CopyFrom(numpy_helper.from_array(1e5 * np.ones(list(weight.dims), np.float32), weight.name))
    with pytest.raises(UserError, match=rf"{weight.name}: expected weights within 65504, found 100000"):
        to_half(model, [])


def chain(kinds: list[str], constants: list[float]) -> ModelProto:
    """y = ((x kind c) kind c) ... in fp16, between casts."""
    nodes = [helper.make_node("Cast", ["x"], ["v0"], to=TensorProto.FLOAT16)]
    for i, kind in enumerate(kinds):
        nodes.append(helper.make_node(kind, [f"v{i}", f"c{i}"], [f"v{i + 1}"]))
    nodes.append(helper.make_node("Cast", [f"v{len(kinds)}"], ["y"], to=TensorProto.FLOAT))
    weights = [numpy_helper.from_array(np.float16(c), f"c{i}") for i, c in enumerate(constants)]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n"]) for name in "xy")
    graph = helper.make_graph(nodes, "chain", [x], [y], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=10)


def run(model: ModelProto, x: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


@settings(max_examples=20)
@given(
    st.lists(
        st.tuples(st.sampled_from(["Add", "Sub", "Mul"]), st.floats(-4, 4, width=16)),
        min_size=1,
        max_size=5,
    )
)
def test_rounding_is_that_of_fp16_arithmetic(steps: list[tuple[str, float]]) -> None:
    kinds, constants = [kind for kind, _ in steps], [c for _, c in steps]
    x = np.linspace(-3, 3, 257, dtype=np.float32)
    operate = {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply}
    expected = x.astype(np.float16)
    for kind, c in steps:
        expected = operate[kind](expected, np.float16(c))
    assert np.array_equal(run(with_rounding(chain(kinds, constants)), x), expected.astype(np.float32))


def test_onnxruntime_alone_would_not_round() -> None:
    """Why the fp16 rows of the parity check need `with_rounding`; when this fails, they no longer do."""
    model = chain(["Add", "Mul", "Sub"], [1.1, 1.3, 1.2])
    x = np.linspace(0, 1, 257, dtype=np.float32)
    assert np.abs(run(model, x) - run(with_rounding(model), x)).max() > 2**-12


def test_8_bit_edges_give_the_same_pixels(folder: Path, forest: Image8) -> None:
    for precision in ("fp32", "fp16"):
        places = [folder / f"{precision}-{io}" for io in ("float-nchw", "uint8-nhwc")]
        for height, width in ((64, 128), (37, 90)):
            image = np.ascontiguousarray(forest[200 : 200 + height, :width])
            with open_session(places[0] / "down.onnx", 1) as down, open_session(places[1] / "down.onnx", 1) as down8:
                assert [(spec.dtype, spec.shape) for spec in down8.inputs] == [
                    (np.dtype("uint8"), ("batch", "height", "width", 3))
                ]
                lr = downscale_image(down, image)
                assert np.array_equal(downscale_image(down8, image), lr)
            with open_session(places[0] / "up.onnx", 1) as up, open_session(places[1] / "up.onnx", 1) as up8:
                assert np.array_equal(upscale_image(up8, lr, (height, width)), upscale_image(up, lr, (height, width)))


def test_8_bit_edges_round_half_to_even_and_clip() -> None:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, "height", "width"])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 3, "height", "width"])
    moves = numpy_helper.from_array(np.array([[[0.5]], [[-0.5]], [[300.0]]], np.float32) / np.float32(255), "moves")
    graph = helper.make_graph([helper.make_node("Add", ["x", "moves"], ["y"])], "moved", [x], [y], [moves])
    model = with_8_bit_io(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=10))
    onnx.checker.check_model(model, full_check=True)
    image = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2)
    moved = to_tensor(image) + numpy_helper.to_array(moves)
    assert np.array_equal(run(model, image[None])[0], to_image(moved))
    batch = np.stack([image, image[::-1]])
    assert np.array_equal(run(model, batch)[1], to_image(moved)[::-1])


def test_the_graph_and_its_sidecar_tell_how_they_were_made(folder: Path, ckpt: Path) -> None:
    path = folder / "fp16-uint8-nhwc" / "down.onnx"
    record = json.loads(path.with_suffix(".json").read_text())
    with open_session(path) as session:
        told = session.metadata
    assert (told["precision"], told["io"]) == (record["precision"], record["io"]) == ("fp16", "uint8-nhwc")
    kept = [op.role for op in fp32_ops_of("down", "standard")]
    assert json.loads(told["fp32_ops"]) == [op["role"] for op in record["fp32_ops"]] == kept
    assert record["graph_sha256"] == sha256_of(path) and record["checkpoint_sha256"] == sha256_of(ckpt)
    assert (record["format"], record["scale"], record["opset"], record["ops"]) == ("dinn360-graph", 2, 19, "standard")
    plain = json.loads((folder / "fp32-float-nchw" / "down.json").read_text())
    assert (plain["precision"], plain["io"], plain["fp32_ops"]) == ("fp32", "float-nchw", [])


def test_graphs_hold_no_trace_of_the_machine(folder: Path) -> None:
    for path in folder.rglob("*.onnx"):
        content = path.read_bytes()
        assert b"stack_trace" not in content and b".py" not in content


def test_the_commands_know_precision(ckpt: Path, folder: Path, forest: Image8, tmp_path: Path) -> None:
    image = tmp_path / "small.png"
    write_png(image, np.ascontiguousarray(forest[200:264, :128]))
    arguments = ["--ckpt", str(ckpt), "--image", str(image)]
    for precision, io, rows in (("fp16", "float-nchw", 4), ("fp16", "uint8-nhwc", 4), ("fp32", "uint8-nhwc", 2)):
        result = CliRunner().invoke(main, ["check", *arguments, "--onnx", str(folder / f"{precision}-{io}")])
        assert result.output.count("onnxruntime") == rows, result.output
        assert result.output.count("fp16 rounded") == rows - 2
        assert "8-bit values that differ" in result.output and "loss" in result.output
    assert result.exit_code == 0, "8-bit edges alone move no pixel by more than a tie"


def test_sensitivity_tells_the_parts_apart(
    ckpt: Path, traced: dict[str, ModelProto], forest: Image8, monkeypatch: pytest.MonkeyPatch
) -> None:
    import export.precision.sensitivity as module

    monkeypatch.setattr(module, "trace", lambda network, direction, opset: traced[direction])
    monkeypatch.setattr(module, "GRAPHS", {"down": Downscale})
    parts = {"haar", "gelu"}
    effects = list(module.sensitivity(ckpt, [forest[200:264, :128]], "standard", parts))
    error = {effect.half: effect.error for effect in effects}
    assert set(error) == {*parts, "everything", "everything but the fp32 ops", "the same, and haar"}
    assert 0 < error["everything but the fp32 ops"] < error["the same, and haar"] < error["everything"]
    text = module.table(effects, "standard")
    assert [line.split()[1] for line in text.splitlines() if line.endswith("fp32")] == ["haar"]
    with pytest.raises(UserError, match="part: expected some of attention, .*, found 'hair'"):
        next(module.sensitivity(ckpt, [forest], parts={"hair"}))


def test_exact_operators_are_those_that_round_nothing() -> None:
    assert not EXACT & {"Add", "Mul", "Conv", "Softmax", "LeakyRelu", "AveragePool", "Cast"}
