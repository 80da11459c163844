"""trtexec: the line that builds an engine elsewhere, and the sidecar of what it built."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import save_graph
from engine_files import SMALL, free_values, options, plugin_graph, save
from onnx import TensorProto, helper

from engines.building.build import BuildOptions, build_engine
from engines.building.trtexec import adopt_engine, trtexec_command
from engines.cli import main
from engines.engine_file.manifest import read_manifest, sidecar
from engines.engine_file.profile import Profile, profile_for, sizes_for
from engines.onnx_file import read_onnx
from engines.support.errors import UserError
from engines.support.files import sha256_of
from engines.targets import Size, find_target


@pytest.mark.parametrize(("version", "typed"), [("10.3", True), ("10.16", True), ("11.4", False)])
def test_trtexec_by_version(tmp_path: Path, version: str, typed: bool) -> None:
    orin = find_target("jetson-agx-orin")
    graph = plugin_graph(tmp_path / "down.onnx")
    chosen = options(
        target=orin,
        sizes=sizes_for(orin),
        plugins=Path("lib/libdinn360_trt.so"),
        serialize_plugins=True,
        timing_cache=Path("my timings"),
        workspace_mib=2048,
        hardware="ampere-plus",
        version_compatible=True,
        optimization_level=4,
    )
    line = trtexec_command(graph, Path("down.engine"), chosen, version)
    assert line == " ".join(
        [
            f"trtexec --onnx={graph} --saveEngine=down.engine",
            *(["--stronglyTyped"] if typed else []),
            "--minShapes=hr:1x3x64x128 --optShapes=hr:1x3x1920x3840 --maxShapes=hr:1x3x3840x7680",
            "--dynamicPlugins=lib/libdinn360_trt.so --setPluginsToSerialize=lib/libdinn360_trt.so",
            "--noTF32 --memPoolSize=workspace:2048M '--timingCacheFile=my timings' --builderOptimizationLevel=4",
            "--versionCompatible --excludeLeanRuntime --hardwareCompatibilityLevel=ampere+",
            "--profilingVerbosity=detailed --skipInference",
        ]
    )
    assert "--fp16" not in line and "--best" not in line


def test_trtexec_refusals(tmp_path: Path) -> None:
    down = save_graph(tmp_path / "down.onnx", "down", SMALL)
    orin = find_target("jetson-agx-orin")
    chosen = options(target=orin, sizes=sizes_for(orin))
    for version in ("8.6", "ten", "10"):
        with pytest.raises(UserError, match="version: expected a version of TensorRT 10 or newer, such as 10.3.0"):
            trtexec_command(down, Path("x"), chosen, version)
    with pytest.raises(UserError, match="target: expected one of TensorRT for trtexec, found rtx, which builds here"):
        trtexec_command(down, Path("x"), options(), "10.3")


def test_an_engine_of_trtexec_gets_its_sidecar(tmp_path: Path) -> None:
    orin = find_target("jetson-agx-orin")
    graph = plugin_graph(tmp_path / "down.onnx")
    library, engine = tmp_path / "libdinn360_trt.so", tmp_path / "down.engine"
    library.write_bytes(b"library")
    engine.write_bytes(b"a plan")
    adopt_engine(graph, engine, options(target=orin, sizes=sizes_for(orin), plugins=library), "10.3.0")
    manifest = read_manifest(engine)
    assert manifest.plugin_library is not None
    assert (manifest.plugin_library.file, manifest.plugin_library.plugins) == (library.name, ("DeformConv2d 1",))
    assert manifest.plugin_library.sha256 == sha256_of(library)
    assert (manifest.runtime, manifest.runtime_version, manifest.compute_capabilities) == (
        "tensorrt",
        "10.3.0",
        ("8.7",),
    )
    sidecar(engine).write_text(sidecar(engine).read_text().replace('"fp32_ops"', '"islands"'))  # as before 0.2.0
    assert read_manifest(engine) == manifest
    manifest.check_runtime(engine, "10.3.0.26")
    for version in ("10.4.0", "11.4.0"):
        with pytest.raises(UserError, match=f"expected TensorRT 10.3.0 and no other, found {version}"):
            manifest.check_runtime(engine, version)
    manifest.check_gpu(engine, "Orin", "8.7")
    with pytest.raises(UserError, match=r"compute capability 8\.7 \(jetson-agx-orin\), found 8\.9 \(L4\)"):
        manifest.check_gpu(engine, "L4", "8.9")
    manifest.check_plugins(engine, {"DeformConv2d", "DSTAttention"})


def test_the_trtexec_line_of_the_jetson_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).parents[1] / "engines" / "jetson.md").read_text()
    shown = " ".join(page.split("prints, in one line,\n\n```\n")[1].split("```")[0].split())
    monkeypatch.chdir(tmp_path)
    Path("x4").mkdir()
    plugin_graph(Path("x4/up.onnx"), source="lr", metadata={**SMALL, "direction": "up", "scale": "4"})
    arguments = ["--onnx", "x4/up.onnx", "--target", "jetson-agx-orin", "--plugins", "x4/libdinn360_trt.so"]
    result = CliRunner().invoke(main, ["build", *arguments, "--print-trtexec", "--tensorrt", "10.3.0"])
    assert result.exit_code == 0 and result.output.strip() == shown


def deform_conv_graph(
    path: Path,
    channels: int = 32,
    dtype: int = TensorProto.FLOAT,
    sides: tuple[str | None, str | None] = ("lr_height", "lr_width"),
) -> Path:
    """A graph of --ops standard with one DeformConv of 3x3 taps that gives `sides`, as far as checks read it."""
    inputs, outputs = free_values("hr"), [helper.make_tensor_value_info("lr", dtype, ["batch", 3, *sides])]
    weight = helper.make_tensor("w", dtype, [16, channels, 3, 3], np.zeros(16 * channels * 9, np.float32))
    node = helper.make_node("DeformConv", ["hr", "w", "offset"], ["lr"], "the_node", group=1)
    return save([node], inputs, outputs, [weight], {**SMALL, "ops": "standard"}, path)


def sized(size: Size | None, **changes: Any) -> BuildOptions:
    orin = find_target("jetson-agx-orin")
    return options(target=orin, sizes=sizes_for(orin, only=size), **changes)


def test_deform_conv_is_refused_for_a_range_of_sizes(tmp_path: Path) -> None:
    """TensorRT's own plugin would compute its workspace of sizes that are not there."""
    graph = deform_conv_graph(tmp_path / "down.onnx")
    refused = r"node the_node \(DeformConv\): .* a range of sizes; use a graph of plugin or primitive operators, or .*"
    refused += r"one size, found hr 1x3x64x128 to 1x3x3840x7680"
    with pytest.raises(UserError, match=refused):
        trtexec_command(graph, Path("x"), sized(None), "10.3")
    with pytest.raises(UserError, match=refused):
        build_engine(graph, tmp_path / "x.engine", sized(None))


def test_deform_conv_of_one_size_that_fits_is_built(tmp_path: Path) -> None:
    graph = deform_conv_graph(tmp_path / "down.onnx")
    line = trtexec_command(graph, Path("x"), sized((1920, 3840)), "10.10")
    assert "--minShapes=hr:1x3x1920x3840 --optShapes=hr:1x3x1920x3840 --maxShapes=hr:1x3x1920x3840" in line
    # 32*9 values of 4 bytes for each of (1920*3840)/4 pixels are 2.12e9 bytes, and 2^31 the end.
    with pytest.raises(UserError, match=r"its workspace would be up to 8493465600 bytes, and TensorRT's own plugin"):
        trtexec_command(graph, Path("x"), sized((3840, 7680)), "10.10")
    half = deform_conv_graph(tmp_path / "half.onnx", 60, TensorProto.FLOAT16)
    trtexec_command(half, Path("x"), sized((1920, 3840)), "10.3")
    # What is missing for a build here is TensorRT, and no longer the size.
    with pytest.raises(UserError, match="needs the package tensorrt|needs an NVIDIA GPU"):
        build_engine(graph, tmp_path / "x.engine", sized((1920, 3840)))


@pytest.mark.parametrize(
    ("sides", "pixels"),
    [
        (("height", "width"), 1920 * 3840),  # in front of every step
        (("ceil(height/8)", "2*lr_width + 12"), 240 * 3852),
        (("lr_height or height", "lr_width/4"), 1920 * 480),
        ((None, "lr_width"), 1920 * 3840),  # not recorded: it may be as large as the image
        (("rows", "lr_width"), 1920 * 3840),
        (("lr_height; exit()", "__import__('os')"), 1920 * 3840),
    ],
)
def test_a_deform_conv_is_as_large_as_the_graph_says(
    tmp_path: Path, sides: tuple[str | None, str | None], pixels: int
) -> None:
    """Wherever it stands: with as many channels as fit at that place, and with one more."""
    fits = (2**31 - 1) // (pixels * 9 * 4)
    trtexec_command(
        deform_conv_graph(tmp_path / "down.onnx", fits, sides=sides), Path("x"), sized((1920, 3840)), "10.3"
    )
    with pytest.raises(UserError, match=f"its workspace would be up to {pixels * 9 * 4 * (fits + 1)} bytes"):
        graph = deform_conv_graph(tmp_path / "down.onnx", fits + 1, sides=sides)
        trtexec_command(graph, Path("x"), sized((1920, 3840)), "10.3")


def test_deform_conv_by_a_trtexec_that_leaves_sizes_open_is_refused(tmp_path: Path) -> None:
    """From 10.11 on the plugin multiplies -1 where the network leaves a size open, whatever the profile says."""
    graph = deform_conv_graph(tmp_path / "down.onnx")
    for version in ("10.11", "10.13.3", "11.1"):
        with pytest.raises(UserError, match=r"from TensorRT 10\.11 on .* use a graph of plugin or primitive operators"):
            trtexec_command(graph, Path("x"), sized((1920, 3840)), version)


def test_one_size(tmp_path: Path) -> None:
    orin = find_target("jetson-agx-orin")
    up = save_graph(tmp_path / "up.onnx", "up", {**SMALL, "direction": "up", "scale": "4"})
    profile = profile_for(read_onnx(up), sizes_for(orin, batch=2, only=(1920, 3840)))
    assert profile == Profile("lr", *[(2, 3, 480, 960)] * 3) and profile.fixed
    assert not profile.admits((1, 3, 480, 960))
    for message, wrong in {
        "^opt: expected none beside the one size 3840x1920, found 1024x512": {"opt": (512, 1024)},
        "^maximum: expected none beside the one size 3840x1920, found 1024x512": {"maximum": (512, 1024)},
        r"^size: expected at least 128x64 \(width x height\), found 64x64": {"only": (64, 64)},
    }.items():
        with pytest.raises(UserError, match=message):
            sizes_for(orin, **{"only": (1920, 3840), **wrong})


def test_a_serialised_library_needs_a_version_compatible_engine(tmp_path: Path) -> None:
    """TensorRT writes no library into any other engine, and says nothing."""
    graph = plugin_graph(tmp_path / "down.onnx")
    chosen = sized(None, plugins=Path("libdinn360_trt.so"), serialize_plugins=True)
    message = "serialize_plugins: expected a version-compatible engine"
    with pytest.raises(UserError, match=message):
        trtexec_command(graph, Path("x"), chosen, "10.3")
    with pytest.raises(UserError, match=message):
        build_engine(graph, tmp_path / "x.engine", chosen)
    with pytest.raises(UserError, match=message):
        adopt_engine(graph, tmp_path / "x.engine", chosen, "10.3.0")


def test_same_compute_capability_came_with_10_9(tmp_path: Path) -> None:
    graph = save_graph(tmp_path / "down.onnx", "down", SMALL)
    chosen = sized(None, hardware="same-compute-capability")
    with pytest.raises(UserError, match="hardware: same-.*: expected TensorRT 10.9 or newer, found 10.3.0"):
        trtexec_command(graph, Path("x"), chosen, "10.3.0")
    for version in ("10.9", "10.16", "11.1"):
        line = trtexec_command(graph, Path("x"), chosen, version)
        assert "--hardwareCompatibilityLevel=sameComputeCapability" in line
