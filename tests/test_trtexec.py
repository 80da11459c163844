"""trtexec: the line that builds an engine elsewhere, and the sidecar of what it built."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from conftest import save_graph
from engine_files import SMALL, options, plugin_graph

from engines.building.trtexec import adopt_engine, trtexec_command
from engines.cli import main
from engines.engine_file.manifest import read_manifest
from engines.engine_file.profile import sizes_for
from engines.support.errors import UserError
from engines.support.files import sha256_of
from engines.targets import find_target


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
        with pytest.raises(UserError, match="--tensorrt: expected a version of TensorRT 10 or newer, such as 10.3.0"):
            trtexec_command(down, Path("x"), chosen, version)
    with pytest.raises(UserError, match="--print-trtexec: expected a TensorRT target, found rtx, which builds here"):
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
