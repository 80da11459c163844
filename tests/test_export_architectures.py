"""Flat DINN360, IRN and HCFlow through the exporter: the same graphs, contract and commands as DINN360's."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner
from exported import kept_trace
from networks import build, picture, tiny_flat, tiny_hcflow, tiny_irn
from ort_library import needs_library

import export.onnx
from dinn360.checkpoint import Checkpoint, save_checkpoint
from dinn360.networks import NetworkConfig, RescalingNetwork
from dinn360.sphere import Frame
from dinn360.tiling import tiling
from engines.session import open_session
from engines.support.arrays import to_image
from engines.support.images import write_png
from export.cli import main
from export.config import LOWERINGS, ExportConfig
from export.graphs import GRAPHS
from export.onnx import check, finish, label, metadata
from export.parity import TOLERANCE, difference, rounded_session

CONFIGS: dict[str, NetworkConfig] = {
    "flat-x2": tiny_flat(2, margin=4, untie=True, luma_details=True, reads_coarseness=True, knows_file=True),
    "flat-x4": tiny_flat(4, margin=4, luma_details=True),
    "flat-x8": tiny_flat(8, margin=4),
    "flat-sphere": tiny_flat(4, margin=4, blocks=1, sphere_offsets=True, latitude_offsets=True, sphere_windows=True),
    "irn": tiny_irn(2),
    "hcflow": tiny_hcflow(4),
}
FORMS = {**{ops: ExportConfig(ops) for ops in LOWERINGS}, "fp16": ExportConfig("primitive", precision="fp16")}


@pytest.fixture(scope="module", params=CONFIGS)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[RescalingNetwork, Path]:
    """A network and the folder of its graphs: <form>/{down,up}.onnx."""
    config = CONFIGS[request.param]
    network, folder = build(config), tmp_path_factory.mktemp(request.param)
    checkpoint = Checkpoint(config, network.state_dict())
    for direction in GRAPHS:
        traced = kept_trace(network, direction, 19)
        for name, form in FORMS.items():
            model = finish(traced, direction, form)
            told = metadata(checkpoint, "", direction, form) | tiling(network, direction, measure=False).metadata()
            label(model, told)
            check(model)
            (folder / name).mkdir(exist_ok=True)
            onnx.save(model, str(folder / name / f"{direction}.onnx"))
    return network, folder


@pytest.mark.parametrize("ops", ["standard", "primitive", "plugin", pytest.param("cpu", marks=needs_library)])
def test_graphs_equal_torch_at_every_size(case: tuple[RescalingNetwork, Path], ops: str) -> None:
    network, folder = case
    for direction, graph in GRAPHS.items():
        module = graph(network).eval()
        with open_session(folder / ops / f"{direction}.onnx", 1) as session:
            for height, width in ((16, 32), (21, 43), (3, 5)):
                x = torch.cat([picture(height, width, seed) for seed in range(2)])
                with torch.inference_mode():
                    expected = module(x).numpy()
                found = session.run(**{graph.source: x.numpy()})[graph.result]
                assert difference(found, expected)[0] <= TOLERANCE, (direction, height, width)
                assert expected.std() > 0.01
            for name in (spec.name for spec in session.optional if spec.name != "omitted"):
                told = torch.tensor([4.5 if name == "coarseness" else 1.0])
                with torch.inference_mode():
                    coarse = module(x, **{name: told}).numpy()
                found = session.run(**{graph.source: x.numpy(), name: told.numpy()})[graph.result]
                assert difference(found, coarse)[0] <= TOLERANCE and difference(coarse, expected)[0] > 0.01


def test_fp16_keeps_the_path_to_the_lr_image_in_fp32(case: tuple[RescalingNetwork, Path]) -> None:
    network, folder = case
    x = picture(32, 64)
    for direction, graph in GRAPHS.items():
        path = folder / "fp16" / f"{direction}.onnx"
        kinds = {tensor.name: tensor.data_type for tensor in onnx.load(path).graph.initializer}
        halves = [name for name, kind in kinds.items() if kind == onnx.TensorProto.FLOAT16 and "weight" in name]
        assert len(halves) > 10
        with torch.inference_mode():
            expected = graph(network).eval()(x).numpy()
        with rounded_session(path, 1) as session:
            worst = difference(session.run(**{graph.source: x.numpy()})[graph.result], expected)[0]
        assert 1e-6 < worst < 4 / 255


def test_every_upscaling_graph_can_be_told_where_a_tile_lies(case: tuple[RescalingNetwork, Path]) -> None:
    """Neither IRN nor HCFlow knows latitudes, but who cuts tiles need not know that."""
    network, folder = case
    y = picture(8, 16).numpy()
    for ops in LOWERINGS:
        graph = onnx.load(folder / ops / "up.onnx").graph
        assert [value.name for value in graph.input][:2] == ["lr", "omitted"]
        assert "omitted" in {tensor.name for tensor in graph.initializer}
    for ops in ("standard", "primitive"):
        with open_session(folder / ops / "up.onnx", 1) as session:
            assert session.optional[0].name == "omitted"
            whole, tile = session.run(lr=y)["hr"], session.run(lr=y, omitted=np.array([4, 2, 0, 0]))["hr"]
            knows = network.config.architecture == "flat"
            with open_session(folder / ops / "down.onnx", 1) as down:
                reads = network.config.encoder_reads_latitude
                told = ["coarseness", "halved"] * network.config.knows_file
                assert [spec.name for spec in down.optional] == ["omitted"] * reads + told
                if reads:
                    frame = Frame.of_tile(torch.tensor([4, 2, 0, 0]), network.config.scale)
                    x = picture(8 * network.config.scale, 16 * network.config.scale)
                    with torch.inference_mode():
                        expected = network.downscale(x, frame).numpy()
                    found = down.run(hr=x.numpy(), omitted=np.array([4, 2, 0, 0]))["lr"]
                    assert difference(found, expected)[0] <= TOLERANCE
                    assert difference(down.run(hr=x.numpy())["lr"], expected)[0] > 10 * TOLERANCE
            assert np.array_equal(whole, tile) != knows
            assert session.metadata["tile_align"] == str(network.alignment)
            config = json.loads(session.metadata["config"])
            assert config["architecture"] == network.config.architecture


def test_the_commands_take_its_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export.onnx, "trace", kept_trace)
    ckpt, image, out = tmp_path / "irn.pth", tmp_path / "small.png", tmp_path / "graphs"
    network = build(tiny_irn(2))
    save_checkpoint(ckpt, Checkpoint(network.config, network.state_dict()))
    write_png(image, to_image(picture(32, 64).numpy()))
    made = CliRunner().invoke(main, ["onnx", "--ckpt", str(ckpt), "--out", str(out)])
    assert made.exit_code == 0, made.output
    done = CliRunner().invoke(main, ["check", "--ckpt", str(ckpt), "--onnx", str(out), "--image", str(image)])
    assert done.exit_code == 0 and done.output.count(" ok") == 2, done.output
