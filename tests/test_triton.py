"""The model repository, read with Triton's own schema, and its files run as the server's backend would."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from conftest import GraphMaker
from exported import EDGE, checkpoint, released
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from engines.cli import main
from engines.session import open_session
from engines.support.arrays import Image8, to_image, to_tensor
from engines.support.files import sha256_of
from engines.triton import Serving, Tensor, configuration, read_model


def triton(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["triton", *map(str, arguments)])


def parsed(path: Path) -> Any:
    return text_format.Parse(path.read_text(), model_config_pb2.ModelConfig())


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("triton") / "models"
    graphs = released("x2")
    done = triton(graphs / "down.onnx", graphs / "up.onnx", "--out", out, "--device", "gpu", "--instances", 2)
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines() == [f"{out}/dinn360_x2_{side}/config.pbtxt" for side in ("down", "up")]
    return out


@pytest.mark.parametrize(("side", "source", "result"), [("down", "hr", "lr"), ("up", "lr", "hr")])
def test_the_configuration_is_what_the_schema_wants(repository: Path, side: str, source: str, result: str) -> None:
    config = parsed(repository / f"dinn360_x2_{side}" / "config.pbtxt")
    assert (config.name, config.backend, config.max_batch_size) == (f"dinn360_x2_{side}", "onnxruntime", 4)
    for tensor, name in ((config.input[0], source), (config.output[0], result)):
        assert (tensor.name, list(tensor.dims)) == (name, [3, -1, -1])
        assert tensor.data_type == model_config_pb2.TYPE_FP32
    assert len(config.input) == len(config.output) == 1
    assert config.dynamic_batching.max_queue_delay_microseconds == 2000
    (group,) = config.instance_group
    assert (group.kind, group.count) == (model_config_pb2.ModelInstanceGroup.KIND_GPU, 2)
    said = {key: value.string_value for key, value in config.parameters.items()}
    assert said["scale"] == "2" and said["checkpoint_sha256"] == sha256_of(checkpoint("x2"))


def test_the_models_run_in_batches(repository: Path, courtyard: Image8) -> None:
    """As the server joins requests: what a batch gives is what each image gives alone."""
    pair = np.concatenate([to_tensor(courtyard[:64, :128]), to_tensor(courtyard[200:264, 300:428])])
    with open_session(repository / "dinn360_x2_down" / "1" / "model.onnx", threads=1) as session:
        both = session.run(hr=pair)["lr"]
        alone = [session.run(hr=pair[i : i + 1])["lr"] for i in range(2)]
    assert np.abs(both - np.concatenate(alone)).max() < 1e-5
    with open_session(repository / "dinn360_x2_up" / "1" / "model.onnx", threads=1) as session:
        assert session.run(lr=to_tensor(to_image(both[0])))["hr"].shape == (1, 3, 64, 128)


def test_a_model_is_replaced_only_when_asked(repository: Path) -> None:
    graph = released("x2") / "up.onnx"
    done = triton(graph, "--out", repository)
    assert done.exit_code == 2 and "--overwrite: expected, because" in done.output
    done = triton(graph, "--out", repository, "--overwrite", "--max-batch", 1, "--device", "cpu")
    assert done.exit_code == 0, done.output
    config = parsed(repository / "dinn360_x2_up" / "config.pbtxt")
    assert config.max_batch_size == 1 and not config.HasField("dynamic_batching")


def test_types_layouts_and_engines() -> None:
    """What the command cannot show with the released graphs: 8-bit edges, an engine's largest batch, odd names."""
    model = read_model(released("x2") / "up.onnx")
    image = (Tensor("lr", "uint8", (-1, -1, -1, 3)),)
    engine = replace(
        model, backend="tensorrt", inputs=image, largest=2, metadata={**model.metadata, "preset": 'a"\\b\n'}
    )
    config = text_format.Parse(configuration(engine, Serving(max_batch=8)), model_config_pb2.ModelConfig())
    assert (config.backend, config.max_batch_size, engine.filename) == ("tensorrt", 2, "model.plan")
    assert (config.input[0].data_type, list(config.input[0].dims)) == (model_config_pb2.TYPE_UINT8, [-1, -1, 3])
    assert config.parameters["preset"].string_value == 'a"\\b\n'


def test_a_model_for_a_codec_is_told_of_the_file(tmp_path: Path) -> None:
    """As optional inputs, which Triton's ONNX Runtime backend takes of models without batching only."""
    graphs = released("x2-codec")
    done = triton(graphs / "down.onnx", graphs / "up.onnx", "--out", tmp_path)
    assert done.exit_code == 0, done.output
    for side, asked in (("down", ["coarseness", "halved"]), ("up", ["coarseness"])):
        config = parsed(tmp_path / f"dinn360_x2_{side}" / "config.pbtxt")
        assert config.max_batch_size == 0 and not config.HasField("dynamic_batching")
        image, *optional = config.input
        assert list(image.dims) == list(config.output[0].dims) == [-1, 3, -1, -1] and not image.optional
        assert [(tensor.name, list(tensor.dims), tensor.optional) for tensor in optional] == [
            (name, [1], True) for name in asked
        ]


def test_an_engine_is_given_all_its_inputs() -> None:
    model = read_model(released("x2-codec") / "up.onnx")
    place = Tensor("omitted", "int64", (4,))
    engine = replace(model, backend="tensorrt", inputs=(model.inputs[0], place), largest=8, batches=False)
    config = text_format.Parse(configuration(engine, Serving()), model_config_pb2.ModelConfig())
    assert config.max_batch_size == 0 and not any(tensor.optional for tensor in config.input)
    assert (config.input[1].data_type, list(config.input[1].dims)) == (model_config_pb2.TYPE_INT64, [4])


def test_plugin_graphs_bring_their_library(tmp_path: Path) -> None:
    graph, library = released(EDGE, lowering="plugin") / "down.onnx", tmp_path / "libdinn360_ort.so"
    done = triton(graph, "--out", tmp_path / "models")
    assert done.exit_code == 2 and "--library: " in done.output
    assert not (tmp_path / "models").exists()
    library.write_bytes(b"only copied here")
    done = triton(graph, "--out", tmp_path / "models", "--library", library)
    assert done.exit_code == 0, done.output
    folder = tmp_path / "models" / "dinn360_x8_down"
    assert parsed(folder / "config.pbtxt").model_operations.op_library_filename == [library.name]
    assert (folder / library.name).read_bytes() == b"only copied here"


def test_a_mistake_ends_in_one_line_and_writes_nothing(tmp_path: Path, make_graph: GraphMaker) -> None:
    good, out = released("x2") / "up.onnx", tmp_path / "models"
    for wrong, expected in [
        ([make_graph()], "expected the metadata entry direction (down or up)"),
        ([good], "expected one file for each model"),
        ([tmp_path / "absent.onnx"], "no such file"),
        ([tmp_path / "absent.engine"], "expected its sidecar"),
        ([tmp_path], "expected a file that ends in .onnx, .engine or .plan"),
    ]:
        done = triton(good, *wrong, "--out", out)
        assert done.exit_code == 2 and expected in done.output
        assert len(done.output.strip().splitlines()) == 1
        assert not out.exists()
