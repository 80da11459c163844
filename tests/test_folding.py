"""Deformable convolutions that change nothing leave the graphs, those that do stay, and the files say which."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner
from networks import build, tiny

from dinn360.checkpoint import Checkpoint, save_checkpoint
from engines.support.arrays import Image8
from engines.support.images import write_png
from export.cli import main
from export.folding import deformable, foldable

KEPT = 1  # the index of the one deformable convolution that matters


@pytest.fixture
def picture() -> Image8:
    noise = np.random.default_rng(0).integers(0, 256, (8, 16, 3), dtype=np.uint8)
    return noise.repeat(4, axis=0).repeat(4, axis=1)


@pytest.fixture
def network() -> torch.nn.Module:
    """All offsets are zero but those of one layer, which are two pixels."""
    result = build(tiny(2))
    with torch.no_grad():
        for index, layer in enumerate(deformable(result).values()):
            layer.conv.weight.mul_(5)
            layer.offset_head.weight.zero_()
            layer.offset_head.bias.fill_(2.0 if index == KEPT else 0.0)
    return result


def test_only_what_changes_nothing_is_folded(network: torch.nn.Module, picture: Image8) -> None:
    names = list(deformable(network))
    assert foldable(network, [picture]) == [name for index, name in enumerate(names) if index != KEPT]
    assert list(deformable(network)) == names, "measuring leaves the network as it is"


def test_the_command_folds_and_says_so(network: torch.nn.Module, picture: Image8, tmp_path: Path) -> None:
    ckpt, image, out = tmp_path / "x.pth", tmp_path / "image.png", tmp_path / "graphs"
    save_checkpoint(ckpt, Checkpoint(network.config, network.state_dict(), {"data": "none"}))  # type: ignore[arg-type]
    write_png(image, picture)
    folding = ["--fold-deformation", "auto"]
    arguments = ["onnx", "--ckpt", str(ckpt), "--out", str(out), *folding]
    result = CliRunner().invoke(main, [*arguments, "--calibration", str(image)])
    assert result.exit_code == 0, result.output
    names = [name for index, name in enumerate(deformable(network)) if index != KEPT]
    assert all(name in result.output for name in names)
    for direction in ("down", "up"):
        graph = onnx.load(out / f"{direction}.onnx")
        assert [node.op_type for node in graph.graph.node].count("DeformConv") == 1
        assert not any(name.startswith(names[0] + ".offset_head") for name in (t.name for t in graph.graph.initializer))
        assert json.loads((out / f"{direction}.json").read_text())["folded_deformation"] == names
        assert json.loads({p.key: p.value for p in graph.metadata_props}["folded_deformation"]) == names
    checked = CliRunner().invoke(main, ["check", "--ckpt", str(ckpt), "--onnx", str(out), "--image", str(image)])
    assert checked.exit_code == 0, checked.output

    without = CliRunner().invoke(main, arguments)
    assert without.exit_code != 0 and "--calibration: expected panoramas with --fold-deformation auto" in without.output
