"""The Polygraphy recipe: what lies in it, its ONNX Runtime half run, and the line for the device parsed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from conftest import ASSETS, save_graph
from engine_files import SMALL
from onnx import TensorProto, helper, numpy_helper
from ort_library import needs_library
from test_ort_operators import PLAIN

from engines.cli import main
from engines.support.arrays import to_tensor
from export.operators import DOMAIN, PLUGIN

POLYGRAPHY = shutil.which("polygraphy", path=str(Path(sys.executable).parent))
needs_polygraphy = pytest.mark.skipif(POLYGRAPHY is None, reason="polygraphy is not installed")
UP = {**SMALL, "direction": "up", "ops": "primitive"}


def write(model: Path, out: Path, *options: object) -> str:
    panoramas = ["--panorama", str(ASSETS / "forest.png"), "--panorama", str(ASSETS / "courtyard.png")]
    arguments = ["polygraphy", "--model", str(model), "--out", str(out), *panoramas, *map(str, options)]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    return done.output


def refusal(*arguments: object) -> str:
    done = CliRunner().invoke(main, ["polygraphy", *map(str, arguments)])
    assert done.exit_code == 2 and len(done.output.strip().splitlines()) == 1, done.output
    return done.output


def run(folder: Path, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """In the recipe's folder, without this repository on the path."""
    clean = {"PATH": "/usr/bin:/bin", "PYTHON": sys.executable, "HOME": str(folder), **environment}
    return subprocess.run(command, cwd=folder, env=clean, capture_output=True, text=True, timeout=120)


def device_line(folder: Path) -> list[str]:
    return (folder / "arguments.txt").read_text().split()


def test_what_lies_in_the_recipe(tmp_path: Path) -> None:
    model = save_graph(tmp_path / "up.onnx", "up", UP)
    printed = write(model, tmp_path / "recipe", "--size", "256x128").split()
    names = sorted(str(Path(path).relative_to(tmp_path / "recipe")) for path in printed)
    assert names == ["arguments.txt", "data_loader.py", "onnxruntime_half.py", "panoramas/courtyard.npy",
                     "panoramas/forest.npy", "run.sh", "tolerances.json", "up.onnx"]  # fmt: skip
    lr = np.load(tmp_path / "recipe" / "panoramas" / "forest.npy")
    assert lr.shape == (1, 3, 64, 128) and lr.dtype == np.float32 and 0.1 < lr.std() < 0.4, "a real panorama"
    told = json.loads((tmp_path / "recipe" / "tolerances.json").read_text())
    assert told["precision"] == "fp32" and told["result"] == {"atol": 1e-4, "rtol": 0.0}
    assert "--trt-opt-shapes lr:[1,3,64,128]" in " ".join(device_line(tmp_path / "recipe"))


@needs_polygraphy
def test_the_onnxruntime_half_and_the_comparison(tmp_path: Path) -> None:
    """Polygraphy itself compares: ONNX Runtime, with all of its optimisations, takes TensorRT's place."""
    assert POLYGRAPHY is not None
    recipe = tmp_path / "recipe"
    write(save_graph(tmp_path / "down.onnx", "down", SMALL), recipe, "--size", "256x128")
    done = run(recipe, "sh", "run.sh", "onnxruntime")
    assert done.returncode == 0, done.stdout + done.stderr
    common = ["--onnxrt", "--onnx-outputs", "mark", "all", "--data-loader-script", "data_loader.py",
              "--load-outputs", "expected.json", "--atol", "1e-4", "--rtol", "0"]  # fmt: skip
    same = run(recipe, POLYGRAPHY, "run", "down.onnx", *common)
    assert same.returncode == 0 and "PASSED" in same.stdout, same.stdout + same.stderr
    assert all(f"'{name}'" in same.stdout for name in ("mean", "scaled", "rounded", "lr")), "every node's result"
    pixels = np.load(recipe / "panoramas" / "forest.npy")
    np.save(recipe / "panoramas" / "forest.npy", pixels * np.float32(0.99))
    assert run(recipe, POLYGRAPHY, "run", "down.onnx", *common).returncode == 1, "and a difference is found"


@needs_polygraphy
def test_the_line_for_the_device_is_polygraphys(tmp_path: Path) -> None:
    """It takes every word, and would run TensorRT with it: here it only writes the script of the run."""
    assert POLYGRAPHY is not None
    recipe = tmp_path / "recipe"
    write(save_graph(tmp_path / "up.onnx", "up", UP), recipe)
    (recipe / "expected.json").write_text("{}")
    done = run(recipe, "sh", "run.sh", "tensorrt", "--gen-script", "device.py", POLYGRAPHY=POLYGRAPHY)
    assert done.returncode == 0, done.stdout + done.stderr
    script = (recipe / "device.py").read_text()
    for expected in (
        "TrtRunner", "strongly_typed=True", "constants.MARK_ALL", "data_loader.py", "expected.json",
        "'lr', min=[1, 3, 128, 256], opt=[1, 3, 128, 256], max=[1, 3, 128, 256]", "'hr': 0.0001", "'': 0.001",
    ):  # fmt: skip
        assert expected in script, script


@needs_polygraphy
@needs_library
def test_a_plugin_graph_runs_with_its_library(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    weights = {
        "weight": rng.normal(size=(3, 3, 3, 3)) / 9, "bias": rng.normal(size=3), "head": rng.normal(size=(18, 3, 3, 3))
    }  # fmt: skip
    nodes = [
        helper.make_node("Conv", ["hr", "head"], ["offset"], "offset", pads=[1, 1, 1, 1]),
        helper.make_node("DeformConv2d", ["hr", "offset", "weight", "bias"], ["lr"], "deform", domain=DOMAIN, wrap=1,
                         **PLAIN, **PLUGIN),
    ]  # fmt: skip
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", 3, "height", "width"]) for n in ("hr", "lr")]
    arrays = [numpy_helper.from_array(a.astype(np.float32), name) for name, a in weights.items()]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], arrays)
    opsets = [helper.make_opsetid("", 19), helper.make_opsetid(DOMAIN, 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    helper.set_model_props(model, {**SMALL, "ops": "plugin"})
    path = tmp_path / "down.onnx"
    onnx.save(model, path)
    line = refusal("--model", path, "--out", tmp_path / "none", "--size", "128x64")
    assert "node deform (DeformConv2d) needs" in line and "libdinn360_trt.so, found no such file" in line
    (tmp_path / "libdinn360_trt.so").write_bytes(b"stands for the library")
    recipe = tmp_path / "recipe"
    write(path, recipe, "--size", "128x64")
    assert {"libdinn360_trt.so", "libdinn360_ort.so"} <= {path.name for path in recipe.iterdir()}
    assert device_line(recipe)[1:3] == ["--plugins", "./libdinn360_trt.so"]
    done = run(recipe, "sh", "run.sh", "onnxruntime")
    assert done.returncode == 0, done.stdout + done.stderr
    check = (
        "from polygraphy.comparator import RunResults\n"
        "(name, runs), = RunResults.load('expected.json').items()\n"
        "print(len(runs), sorted(runs[0]), runs[0]['offset'].shape)"
    )
    told = run(recipe, sys.executable, "-c", check)
    assert told.stdout.strip().endswith("2 ['lr', 'offset'] (1, 18, 64, 128)"), told.stdout + told.stderr


def test_a_mistake_ends_in_one_line(tmp_path: Path) -> None:
    model = save_graph(tmp_path / "down.onnx", "down", SMALL)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    assert "expected a new or an empty folder, found files in it" in refusal(
        "--model", model, "--out", tmp_path / "full"
    )
    cpu = save_graph(tmp_path / "cpu.onnx", "down", {**SMALL, "ops": "cpu"})
    assert "expected a graph that TensorRT runs, found one for CPU cores" in refusal(
        "--model", cpu, "--out", tmp_path / "r"
    )
    line = refusal("--model", model, "--out", tmp_path / "r", "--plugins", model)
    assert "expected a graph of plugin operators for a library of TensorRT" in line
    assert "--size: expected at least 128x64" in refusal("--model", model, "--out", tmp_path / "q", "--size", "64x64")


def test_an_8_bit_graph_gets_8_bit_pixels(tmp_path: Path) -> None:
    ends: list[Any] = [
        helper.make_tensor_value_info(n, TensorProto.UINT8, ["batch", "height", "width", 3]) for n in ("hr", "lr")
    ]
    graph = helper.make_graph([helper.make_node("Identity", ["hr"], ["lr"])], "g", ends[:1], ends[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=10)
    helper.set_model_props(model, {**SMALL, "io": "uint8-nhwc"})
    onnx.save(model, tmp_path / "down.onnx")
    write(tmp_path / "down.onnx", tmp_path / "recipe", "--size", "128x64")
    pixels = np.load(tmp_path / "recipe" / "panoramas" / "forest.npy")
    assert pixels.shape == (1, 64, 128, 3) and pixels.dtype == np.uint8
    assert to_tensor(pixels[0]).std() > 0.1
