"""Real engines: both graphs of the released x2 network in fp32 and fp16, for one compute capability."""

from __future__ import annotations

import importlib.util
from collections import Counter
from pathlib import Path
from shutil import copy

import onnx
import pytest
from click.testing import CliRunner
from conftest import ASSETS
from engine_files import build_small, no_gpu
from exported import checkpoint, released
from onnx_expected import check

from engines.cli import main as engines
from engines.engine_file.manifest import read_manifest
from engines.onnx_file import read_onnx
from engines.support.files import sha256_of
from engines.support.images import read_panorama, write_png
from export.cli import main as export

CKPT = checkpoint("x2")
PRECISIONS = ["fp32", "fp16"]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("tensorrt_rtx") is None, reason="tensorrt-rtx-cu13 is not installed"),
]


def graphs(precision: str) -> Path:
    """The folder with down.onnx and up.onnx of the released network."""
    return released("x2", lowering="primitive", precision=precision)


def convolutions(path: Path) -> dict[str, int]:
    """Number of Conv nodes by the type of their weights."""
    graph = read_onnx(path)
    types = {tensor.name: tensor.dtype for tensor in graph.weights}
    return dict(Counter(types[node.inputs[1]] for node in graph.nodes if node.op_type == "Conv"))


@pytest.mark.parametrize("direction", ["down", "up"])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_an_engine_of_the_released_network(precision: str, direction: str, tmp_path: Path) -> None:
    graph, out = graphs(precision) / f"{direction}.onnx", tmp_path / f"{direction}.engine"
    arguments = ["--onnx", str(graph), "--target", "rtx", "--compute-capability", "8.6", "--out", str(out)]
    done = CliRunner().invoke(engines, ["build", *arguments, "--max", "1024x512"])
    assert done.exit_code == 0, done.output
    manifest = read_manifest(out)
    manifest.check_file(out)
    assert manifest.metadata["checkpoint_sha256"] == sha256_of(CKPT)
    assert manifest.precision == precision and manifest.metadata["direction"] == direction
    assert bool(manifest.fp32_ops) == (precision == "fp16")
    assert [io.name for io in manifest.optional] == ([] if direction == "down" else ["omitted"])
    found = {name.split()[1]: count for name, count in manifest.layers.items() if name.startswith("convolution ")}
    assert found == convolutions(graph), "strongly typed: every convolution runs in the type that the graph gives it"
    assert set(found) == {"float32"} or found["float16"] > found.get("float32", 0)
    low, high = ((64, 128), (512, 1024)) if direction == "down" else ((32, 64), (256, 512))
    assert manifest.profile.minimum == (1, 3, *low) and manifest.profile.maximum == (1, 3, *high)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_an_exported_graph_is_read_as_the_onnx_package_reads_it(precision: str) -> None:
    for name in ("down", "up"):
        path = graphs(precision) / f"{name}.onnx"
        check(read_onnx(path), onnx.load(path))


@pytest.mark.skipif(not no_gpu(), reason="there is a GPU")
def test_check_says_which_engines_it_leaves_out(tmp_path: Path) -> None:
    """The panorama is a crop: this is about the engine, which PyTorch and ONNX Runtime run without."""
    for direction in ("down", "up"):
        copy(graphs("fp32") / f"{direction}.onnx", tmp_path)
    (tmp_path / "small").mkdir()
    build_small(tmp_path / "small")
    for suffix in ("engine", "engine.json"):
        copy(tmp_path / "small" / f"down.{suffix}", tmp_path)
    image = tmp_path / "crop.png"
    write_png(image, read_panorama(ASSETS / "courtyard.png")[200:264, :128])
    done = CliRunner().invoke(export, ["check", "--ckpt", str(CKPT), "--onnx", str(tmp_path), "--image", str(image)])
    assert done.exit_code == 0, done.output
    engine = tmp_path / "down.engine"
    assert f"left out: {engine} needs an NVIDIA GPU and its driver; found none" in done.output


@pytest.mark.skipif(bool(no_gpu()), reason=no_gpu())
@pytest.mark.parametrize("precision", PRECISIONS)
def test_parity_of_engines_on_this_gpu(precision: str, tmp_path: Path) -> None:
    """`python -m export check` over engines that were built for the GPU of this machine."""
    for direction in ("down", "up"):
        copy(graphs(precision) / f"{direction}.onnx", tmp_path)
        done = CliRunner().invoke(engines, ["build", "--onnx", str(tmp_path / f"{direction}.onnx"), "--target", "rtx"])
        assert done.exit_code == 0, done.output
    image = ASSETS / "courtyard.png"
    done = CliRunner().invoke(export, ["check", "--ckpt", str(CKPT), "--onnx", str(tmp_path), "--image", str(image)])
    assert done.exit_code == 0, done.output
    assert done.output.count("TensorRT-RTX") == 2
