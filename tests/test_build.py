"""Building engines with TensorRT-RTX, which needs no GPU, and everything that is refused before or while building."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import save_graph
from engine_files import SMALL, build_small, free_values, no_gpu, options, plugin_graph, save
from onnx import TensorProto, helper, numpy_helper

from engines.building.build import build_engine
from engines.building.progress import BuildProgress
from engines.cli import main
from engines.engine_file.manifest import IO, Default, read_manifest
from engines.engine_file.profile import Profile, profile_for, sizes_for
from engines.onnx_file import read_onnx
from engines.support.errors import UserError
from engines.support.files import sha256_of
from engines.targets import find_target

rtx = pytest.mark.skipif(importlib.util.find_spec("tensorrt_rtx") is None, reason="tensorrt-rtx-cu13 is not installed")


@pytest.fixture
def down(tmp_path: Path) -> Path:
    return save_graph(tmp_path / "down.onnx", "down", SMALL)


@pytest.fixture
def up(tmp_path: Path) -> Path:
    return save_graph(tmp_path / "up.onnx", "up", {**SMALL, "direction": "up"})


def refusal(graph: Path, target: str = "rtx", **changes: Any) -> str:
    """The one line that says why; nothing is left behind."""
    found = find_target(target)
    out = graph.with_suffix(".engine")
    with pytest.raises(UserError) as caught:
        build_engine(graph, out, options(**{"target": found, "sizes": sizes_for(found), **changes}))
    assert "\n" not in str(caught.value)
    assert sorted(path.suffix for path in graph.parent.iterdir() if path.name.startswith((".tmp", graph.stem))) == [
        ".onnx"
    ]
    return str(caught.value)


@rtx
def test_the_sidecar_says_what_was_built(tmp_path: Path) -> None:
    engine = build_small(tmp_path)
    manifest = read_manifest(engine)
    assert manifest.engine_sha256 == sha256_of(engine) and manifest.engine_bytes == engine.stat().st_size
    assert (manifest.onnx, manifest.onnx_sha256) == ("down.onnx", sha256_of(tmp_path / "down.onnx"))
    assert (manifest.runtime, manifest.target, manifest.compute_capabilities) == ("tensorrt_rtx", "rtx", ("8.6",))
    assert manifest.profile == Profile("hr", (1, 3, 64, 128), (1, 3, 256, 512), (1, 3, 256, 512))
    assert (manifest.precision, manifest.tf32, manifest.tile, manifest.plugin_library) == (
        "fp32",
        False,
        (256, 512),
        None,
    )
    assert manifest.inputs == (IO("hr", "float32", (-1, 3, -1, -1)),)
    assert [io.name for io in manifest.outputs] == ["lr"]
    assert manifest.layers["pooling float32"] == 1
    assert manifest.metadata == SMALL


@rtx
def test_the_engine_is_a_plain_plan(tmp_path: Path) -> None:
    """It begins as TensorRT-RTX writes it, and all of our words are in the sidecar."""
    content = build_small(tmp_path).read_bytes()
    assert content[1:4] == b"trt" and b"dinn360" not in content


@rtx
def test_every_option_of_tensorrt_rtx(up: Path) -> None:
    target = find_target("rtx")
    manifest = build_engine(
        up,
        up.with_name("up.plan"),
        options(
            sizes=sizes_for(target, opt=(128, 256), maximum=(256, 512), batch=2),
            capabilities=("8.6", "12.0"),
            workspace_mib=256,
            verbosity="none",
            version_compatible=True,
            optimization_level=0,
            tf32=True,
        ),
    )
    assert manifest.profile == Profile("lr", (1, 3, 32, 64), (1, 3, 64, 128), (2, 3, 128, 256))
    assert manifest.compute_capabilities == ("8.6", "12.0") and manifest.tf32 and manifest.version_compatible


@rtx
def test_an_engine_of_one_size(down: Path) -> None:
    """The network itself has the size, so that nothing in it is open."""
    code, output = run(
        "build", "--onnx", down, "--target", "rtx", "--size", "512x256", "--batch", "2", "--compute-capability", "8.6"
    )
    assert code == 0 and "hr 2x3x256x512 to 2x3x256x512" in output
    manifest = read_manifest(down.with_suffix(".engine"))
    assert manifest.profile.fixed and manifest.tile == (256, 512)
    assert manifest.inputs == (IO("hr", "float32", (2, 3, 256, 512)),)
    assert manifest.outputs == (IO("lr", "float32", (2, 3, 128, 256)),)


@rtx
def test_an_input_with_a_default_stays_an_input(tmp_path: Path) -> None:
    """The parser alone would make a constant of it."""
    weight = numpy_helper.from_array(np.array([3], np.int64), "rows")
    declared = helper.make_tensor_value_info("rows", TensorProto.INT64, [1])
    nodes = [
        helper.make_node("Cast", ["rows"], ["amount"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["hr", "amount"], ["lr"]),
        helper.make_node("Neg", ["rows"], ["unused"]),
    ]
    graph = save(nodes, [*free_values("hr"), declared], free_values("lr"), [weight], SMALL, tmp_path / "down.onnx")
    manifest = build_engine(graph, tmp_path / "down.engine", options(capabilities=("8.6",)))
    assert [io.name for io in manifest.inputs] == ["hr"]
    assert (
        manifest.optional == (Default("rows", "int64", (1,), (3,)),) == read_manifest(tmp_path / "down.engine").optional
    )
    assert "optional    rows int64 (1,)" in run("inspect", tmp_path / "down.engine")[1]
    assert "optional    rows int64 (1)" in run("inspect", graph)[1]


@rtx
def test_progress_comes_from_the_builder(down: Path) -> None:
    class Bar:
        total = n = 0

        def __init__(self) -> None:
            self.seen: list[tuple[str, int, int]] = []

        def set_description_str(self, text: str, refresh: bool) -> None:
            self.text = text

        def refresh(self) -> None:
            self.seen.append((self.text, self.n, self.total))

    bar = Bar()
    build_engine(down, down.with_suffix(".engine"), options(capabilities=("8.6",)), BuildProgress(bar))
    assert len({phase for phase, _, _ in bar.seen}) > 2
    assert all(0 <= done <= total for _, done, total in bar.seen)
    assert any(done == total for _, done, total in bar.seen)


@rtx
def test_ctrl_c_stops_the_builder(down: Path) -> None:
    """It arrives while one of our callbacks runs, which the builder calls from C++."""

    class Interrupted(BuildProgress):
        def step(self, phase: str, step: int) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_engine(down, down.with_suffix(".engine"), options(capabilities=("8.6",)), Interrupted())
    assert [path.name for path in down.parent.iterdir()] == ["down.onnx"]


@rtx
def test_a_folder_that_is_missing_is_found_before_building(down: Path) -> None:
    class Watched(BuildProgress):
        def start(self, phase: str, steps: int) -> None:
            raise AssertionError("the build has started")

    with pytest.raises(UserError, match="cannot write: the folder .* does not exist"):
        build_engine(down, down.parent / "none" / "x.engine", options(capabilities=("8.6",)), Watched())


@rtx
def test_a_node_that_the_parser_refuses_is_named(tmp_path: Path) -> None:
    graph = plugin_graph(tmp_path / "odd.onnx", "NoSuchOperator", "")
    assert "odd.onnx: TensorRT-RTX 1.7" in (line := refusal(graph)) and "the_node (NoSuchOperator)" in line


@rtx
def test_what_the_builder_refuses(tmp_path: Path) -> None:
    """A reshape that no size of the profile fits."""
    shape = helper.make_tensor("shape", TensorProto.INT64, [4], [1, 3, 5, 7])
    node = helper.make_node("Reshape", ["hr", "shape"], ["lr"], "r")
    graph = save([node], free_values("hr"), free_values("lr"), [shape], SMALL, tmp_path / "odd.onnx")
    assert "odd.onnx: TensorRT-RTX 1.7" in (line := refusal(graph)) and "cannot build it: " in line


def test_plugins_and_targets(tmp_path: Path) -> None:
    graph = plugin_graph(tmp_path / "plugin.onnx")
    assert "expected a graph of primitive operators for TensorRT-RTX" in refusal(graph)
    assert "found DeformConv2d (node the_node)" in refusal(graph)
    assert "node the_node (DeformConv2d): expected a plugin library (libdinn360_trt.so), found none" in refusal(
        graph, "jetson-agx-orin"
    )
    standard = plugin_graph(tmp_path / "standard.onnx", "DeformConv", "")
    assert "found DeformConv (node the_node)" in refusal(standard)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"plugins": Path("libdinn360_trt.so")}, "plugins: expected a graph of plugin operators"),
        ({"serialize_plugins": True}, "serialize_plugins: expected a graph of plugin operators"),
        ({"timing_cache": Path("t.cache")}, "timing_cache: TensorRT-RTX measures nothing at build time"),
        ({"hardware": "ampere-plus"}, "hardware: a TensorRT-RTX engine serves the cards named by"),
        ({"capabilities": ("9.0",)}, "capabilities: expected some of 7.5, 8.0, .* found 9.0"),
        ({"capabilities": ("7.5",)}, "capabilities: 7.5: TensorRT-RTX has no fp32 matrix products there"),
    ],
)
def test_options_that_do_not_fit(down: Path, changes: dict[str, Any], message: str) -> None:
    assert re.search(message, refusal(down, **changes))


@pytest.mark.skipif(importlib.util.find_spec("tensorrt") is not None, reason="tensorrt is installed")
def test_tensorrt_that_is_not_installed(down: Path) -> None:
    assert refusal(down, "jetson-agx-orin").startswith(
        "the target jetson-agx-orin needs the package tensorrt, which is not installed (on a Jetson it comes with"
    )


def test_graphs_that_are_not_ours(tmp_path: Path) -> None:
    graph = save_graph(tmp_path / "down.onnx", "down", {"scale": "2"})
    assert "expected the metadata entry direction (down or up), found None" in refusal(graph)
    graph.write_bytes(b"")
    assert "down.onnx: expected an ONNX file" in refusal(graph)


def test_profiles(down: Path, up: Path) -> None:
    orin, nano = find_target("jetson-agx-orin"), find_target("jetson-orin-nano")
    assert str(profile_for(read_onnx(up), sizes_for(orin))) == ("lr 1x3x32x64 to 1x3x1920x3840, tuned for 1x3x960x1920")
    assert profile_for(read_onnx(down), sizes_for(nano)).maximum == (1, 3, 1024, 2048)
    assert sizes_for(nano, opt=(2048, 4096)).maximum == (2048, 4096), "a larger size to tune for raises the largest"
    assert sizes_for(orin, maximum=(512, 1024)).optimum == (512, 1024), "a smaller largest size lowers it"
    admits = profile_for(read_onnx(down), sizes_for(nano, batch=2)).admits
    assert admits((2, 3, 64, 2048)) and not admits((3, 3, 64, 2048)) and not admits((1, 3, 63, 128))
    for message, wrong in {
        "^opt: expected 128x64 to 1024x512 .* found 2048x1024": {"opt": (1024, 2048), "maximum": (512, 1024)},
        "^maximum: expected 128x64 to .* found 64x64": {"maximum": (64, 64)},
        "^batch: expected a number of at least 1, found 0": {"batch": 0},
    }.items():
        with pytest.raises(UserError, match=message):
            sizes_for(orin, **wrong)


def run(*arguments: str | Path) -> tuple[int, str]:
    result = CliRunner().invoke(main, list(map(str, arguments)))
    return result.exit_code, result.output


@rtx
def test_the_command_line(down: Path) -> None:
    code, output = run("build", "--onnx", down, "--target", "rtx", "--max", "512x256", "--compute-capability", "8.6")
    lines = output.splitlines()
    assert code == 0 and lines[0].startswith(f"{down.with_suffix('.engine')}  ") and "fp32, for 8.6" in lines[0]
    assert lines[1].endswith("down.engine.json  hr 1x3x64x128 to 1x3x256x512, tuned for 1x3x256x512")
    code, output = run("inspect", down.with_suffix(".engine"))
    assert code == 0 and "TF32 no" in output and "pooling float32 1" in output
    assert ["target", "rtx,", "compute", "capability", "8.6"] in [line.split() for line in output.splitlines()]
    code, output = run("inspect", down.with_suffix(".engine"), "--json")
    assert code == 0 and json.loads(output)["target"] == "rtx"
    if no_gpu():
        code, output = run("inspect", down.with_suffix(".engine"), "--layers")
        assert code == 2 and "telling its layers needs an NVIDIA GPU and its driver" in output
    down.with_suffix(".engine").write_bytes(b"another")
    code, output = run("inspect", down.with_suffix(".engine"))
    assert code == 2 and "expected the engine of down.engine.json" in output


def test_the_command_line_without_building(down: Path) -> None:
    code, output = run("build", "--onnx", down, "--target", "jetson-thor", "--print-trtexec", "--tensorrt", "10.13")
    assert code == 0 and output.startswith("trtexec ") and "--stronglyTyped" in output
    code, output = run("build", "--onnx", down, "--target", "h100", "--print-trtexec")
    assert code == 0 and "--stronglyTyped" not in output, "the last version of the target is 11.4"
    code, output = run("build", "--onnx", down, "--target", "rtx", "--tensorrt", "10.3")
    assert code == 2 and "error: --tensorrt: expected --print-trtexec or --engine beside it" in output
    code, output = run("build", "--onnx", down, "--target", "h100", "--max", "big")
    assert code == 2 and "expected WIDTHxHEIGHT, such as 3840x1920" in output and "found 'big'" in output
    down.with_suffix(".plan").write_bytes(b"a plan")
    engine = down.with_suffix(".plan")
    code, output = run("build", "--onnx", down, "--target", "h100", "--engine", engine, "--tensorrt", "10.16.0")
    assert code == 0 and read_manifest(engine).runtime_version == "10.16.0"


def test_a_graph_is_inspected(tmp_path: Path) -> None:
    graph = plugin_graph(tmp_path / "down.onnx")
    code, output = run("inspect", graph)
    assert code == 0
    for line in ("input       hr float32 (batch, 3, height, width)", "plugins     DeformConv2d 1 (libdinn360_trt.so)"):
        assert line in output
    assert json.loads(run("inspect", graph, "--json")[1])["operators"] == {"DeformConv2d float32": 1}
    assert run("inspect", graph, "--layers")[1] == (
        "the_node  dinn360:DeformConv2d  lr float32 (batch, 3, height, width)\n"
    )
    code, output = run("inspect", tmp_path / "x4.pth")
    assert code == 2 and "expected a file that ends in .onnx, .engine, .plan, found '.pth'" in output


@pytest.mark.parametrize("key", ["fp32_ops", "islands"])  # the second is what graphs from before 0.2.0 say
def test_precision_is_read_from_the_file_and_fp32_ops_from_its_label(key: str, tmp_path: Path) -> None:
    weight = helper.make_tensor("w", TensorProto.FLOAT16, [1], np.ones(1, np.float16))
    nodes = [
        helper.make_node("Cast", ["hr"], ["half"], to=TensorProto.FLOAT16),
        helper.make_node("Mul", ["half", "w"], ["product"]),
        helper.make_node("Cast", ["product"], ["lr"], to=TensorProto.FLOAT),
    ]
    parts = nodes, free_values("hr"), free_values("lr"), [weight]
    graph = save(*parts, {**SMALL, "precision": "fp16", key: '["haar", "low path"]'}, tmp_path / "down.onnx")
    assert "precision   fp16, with haar, low path in fp32" in run("inspect", graph)[1]
    save(*parts, {**SMALL, key: "haar"}, graph)
    code, output = run("inspect", graph)
    assert code == 2 and f"metadata entry {key}: expected a JSON list of names, found 'haar'" in output
