"""What a user should hear at once, and is to hear: outputs before the work, versions, dropped frames; ready graphs."""

from __future__ import annotations

import hashlib
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from conftest import ASSETS, save_graph
from networks import build, tiny
from onnx import helper
from PIL import Image

import dinn360.cli
import engines
import engines.cli
import export.cli
from dinn360.checkpoint import Checkpoint, save_checkpoint
from engines.panorama.metadata import Metadata
from engines.panorama.sources import open_source
from engines.panorama.tiff import write_tiff
from engines.support.arrays import Image8
from engines.support.errors import UserError
from engines.support.files import prepare_output
from export.release import KINDS

GROUPS = {"dinn360": dinn360.cli.main, "engines": engines.cli.main, "export": export.cli.main}
ROOT = Path(__file__).parents[1]


def test_outputs_are_seen_to_before_the_work(tmp_path: Path) -> None:
    prepare_output(tmp_path / "new" / "deep" / "page.html")
    assert list((tmp_path / "new" / "deep").iterdir()) == []
    kept = tmp_path / "kept.txt"
    kept.write_text("as it was")
    prepare_output(kept)
    assert kept.read_text() == "as it was"
    with pytest.raises(UserError, match="kept.txt/x.html: .*: expected a folder, found a file"):
        prepare_output(kept / "x.html")
    with pytest.raises(UserError, match="expected a file, found a folder"):
        prepare_output(tmp_path / "new")


@pytest.mark.parametrize(
    ("words", "lost"),
    [
        ("dinn360 evaluate --ckpt x2 --data nothing --out {}", "results.json"),
        ("dinn360 evaluate --ckpt x2 --data nothing --codec jpeg --out {}", "rate_distortion.png"),
        ("dinn360 ablate --data nothing --val assets --scale 2 --out {}", "curves.png"),
        ("dinn360 train --data nothing --out {}", "config.toml"),
        ("export onnx --ckpt nothing.pth --out {}", "up.json"),
        ("export release --ckpt x2 --kind primitive --out {}", "dinn360-x2-primitive.zip"),
        ("engines view nothing.png {}/lost.png --overwrite --model nothing.onnx", "lost.png/x"),
    ],
)
def test_what_is_written_at_the_end_can_be_written_at_the_start(words: str, lost: str, tmp_path: Path) -> None:
    """A folder has the name of a file that is to come: told before the other mistake, and nothing is left."""
    (tmp_path / lost).mkdir(parents=True)
    before = set(tmp_path.rglob("*"))
    group, *arguments = words.format(tmp_path).split()
    done = CliRunner().invoke(GROUPS[group], arguments)
    assert done.exit_code == 2 and "found a folder" in done.stderr, done.output
    assert set(tmp_path.rglob("*")) - {tmp_path / ".lock"} == before


@pytest.mark.parametrize(
    "words",
    [
        "report --ckpt x2 --image nothing.png --out {}/page.html",
        "sensitivity --ckpt x2 --image nothing.png --out {}/table.md",
        "estimate --onnx nothing.onnx --target h100 --plot {}/roof.png",
    ],
)
def test_long_commands_look_at_their_output_first(words: str, tmp_path: Path) -> None:
    """A file stands where the folder should be: told before the other mistake, which only the work would find."""
    (tmp_path / "file").write_text("")
    done = CliRunner().invoke(export.cli.main, words.format(tmp_path / "file").split())
    assert done.exit_code == 2 and "expected a folder, found a file" in done.stderr, done.output


def cpu_graph(path: Path) -> Path:
    """A graph with an operator for CPU cores beside a stranger's."""
    save_graph(path, "down", {"scale": "2", "direction": "down", "ops": "cpu"})
    model = onnx.load(path)
    model.graph.node.append(helper.make_node("Haar", ["lr"], ["a"], "haar", domain="dinn360.cpu"))
    model.graph.node.append(helper.make_node("Glow", ["a"], ["b"], "glow", domain="other"))
    onnx.save(model, path)
    return path


def test_trtexec_is_told_of_no_graph_for_cpu_cores(tmp_path: Path) -> None:
    graph = cpu_graph(tmp_path / "down.onnx")
    arguments = ["build", "--onnx", str(graph), "--target", "jetson-agx-orin", "--print-trtexec", "--tensorrt", "10.3"]
    done = CliRunner().invoke(engines.cli.main, arguments)
    assert done.exit_code == 2 and "found one for CPU cores: Haar (node haar)" in done.stderr, done.output


def test_inspect_lists_all_custom_operators(tmp_path: Path) -> None:
    done = CliRunner().invoke(engines.cli.main, ["inspect", str(cpu_graph(tmp_path / "down.onnx"))])
    assert "plugins     Haar 1, other:Glow 1 (libdinn360_ort.so)" in done.stdout, done.output


def test_a_target_says_which_version_it_assumes(tmp_path: Path) -> None:
    graph = save_graph(tmp_path / "down.onnx", "down", {"scale": "2", "direction": "down"})
    arguments = ["build", "--onnx", str(graph), "--target", "jetson-agx-orin", "--print-trtexec"]
    done = CliRunner().invoke(engines.cli.main, arguments)
    assert done.stdout.startswith("trtexec ") and len(done.stdout.splitlines()) == 1, done.output
    assert done.stderr.startswith("note: for TensorRT 10.") and "(JetPack " in done.stderr
    assert CliRunner().invoke(engines.cli.main, [*arguments, "--tensorrt", "10.3"]).stderr == ""


def test_frames_of_apng_are_dropped_aloud(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 4), (n, 0, 0)) for n in (10, 20)]
    frames[0].save(tmp_path / "a.png", save_all=True, append_images=frames[1:])
    with pytest.warns(UserWarning, match="a.png: only the first frame is read"):
        open_source(tmp_path / "a.png").close()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [3, 4])
def test_tiff_is_compressed_and_keeps_all(dtype: type, channels: int, tmp_path: Path, forest: Image8) -> None:
    """Several strips, EXIF with its directories, XMP, a profile; read by libtiff and by tifffile."""
    import tifffile

    samples = (np.dstack([forest, forest[..., :1]])[..., :channels]).astype(dtype)
    exif = Image.Exif()
    exif[0x010F], exif[0x8769], exif[0x8825] = "Maker", {0x9003: "2026:01:01 00:00:00"}, {1: "N", 2: (1.0, 2.0, 3.0)}
    path, icc = tmp_path / "a.tif", b"\0" * 16 + b"RGB " + b"\0" * 108
    with path.open("wb") as file:
        write_tiff(file, samples, Metadata(exif.tobytes(), b"<x:xmpmeta/>", icc))
    assert path.stat().st_size < 0.85 * samples.nbytes
    assert np.array_equal(tifffile.imread(path), samples)
    with Image.open(path) as image:
        found = image.getexif()
        assert found.get_ifd(0x8769) == {0x9003: "2026:01:01 00:00:00"} and found.get_ifd(0x8825)[1] == "N"
        assert (found[0x010F], found[700], image.info["icc_profile"]) == ("Maker", b"<x:xmpmeta/>", icc)
        assert dtype != np.uint8 or np.array_equal(np.asarray(image), samples)


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_deflate", "jpeg"])
def test_libtiff_is_silent(compression: str, tmp_path: Path, forest: Image8) -> None:
    """Two threads read a damaged file; nothing but what we say is on stderr, and it is there again afterwards."""
    path = tmp_path / "a.tif"
    Image.fromarray(forest).save(path, compression=compression)
    content = bytearray(path.read_bytes())
    at = len(content) // 2
    content[at : at + 400] = np.random.default_rng(1).bytes(400)
    path.write_bytes(content)
    code = """
import os, sys, threading
from engines.support.errors import UserError
from engines.support.images import read_panorama
def read():
    try:
        read_panorama(sys.argv[1])
    except UserError:
        os.write(1, b"refused ")
threads = [threading.Thread(target=read) for _ in range(4)]
[thread.start() for thread in threads], [thread.join() for thread in threads]
os.write(2, b"heard")
"""
    done = subprocess.run([sys.executable, "-c", code, path], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stderr == "heard" and (compression == "jpeg" or done.stdout == 4 * "refused "), done


def test_pillow_says_nothing_of_its_own(tmp_path: Path, forest: Image8) -> None:
    """A TIFF of eight samples a pixel, of which Pillow would log an error before it refuses the file."""
    path = tmp_path / "a.tif"
    Image.fromarray(forest).save(path)
    content, tag = path.read_bytes(), struct.pack("<HHIH", 277, 3, 1, 3)
    assert content.count(tag) == 1
    path.write_bytes(content.replace(tag, struct.pack("<HHIH", 277, 3, 1, 8)))
    command = [sys.executable, "-m", "engines", "downscale", path, tmp_path / "b.png", "--model"]
    save_graph(tmp_path / "down.onnx", "down", {"scale": "2", "direction": "down"})
    done = subprocess.run([*command, tmp_path / "down.onnx"], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr


def test_a_released_checkpoint_by_name_on_the_command_line() -> None:
    done = CliRunner().invoke(dinn360.cli.main, ["info", "--ckpt", "x2"])
    assert done.exit_code == 0 and "x2" in done.output, done.output


# What a base install with ONNX Runtime lacks.
LACKING = ("torch", "onnx", "onnx_ir", "onnxscript", "safetensors", "matplotlib", "av", "ray", "tifffile", "scipy")


def test_ready_graphs(tmp_path: Path) -> None:
    """An archive is a folder that says what it is and runs both ways with the base install and ONNX Runtime."""
    network = build(tiny())
    save_checkpoint(tmp_path / "small.pth", Checkpoint(network.config, network.state_dict(), {"steps": 7}))
    arguments = ["--ckpt", str(tmp_path / "small.pth"), "--kind", "standard-fp16", "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(export.cli.main, ["release", *arguments])
    assert done.exit_code == 0, done.output
    archive = tmp_path / "out" / "dinn360-small-standard-fp16.zip"
    assert sorted(path.name for path in archive.parent.iterdir()) == ["SHA256SUMS", archive.name]
    sums_hold(archive.parent, 1)
    with zipfile.ZipFile(archive) as opened:
        opened.extractall(tmp_path)
    folder = tmp_path / archive.stem
    sums_hold(folder, 6)
    readme = (folder / "README.md").read_text()
    assert f"--model {archive.stem}\n" in readme and "- steps: 7" in readme and "fp16 data" in readme
    assert "Apache License" in (folder / "LICENSE").read_text()
    Image.open(ASSETS / "forest.png").convert("RGB").resize((64, 32)).save(tmp_path / "in.png")
    code = f"""
import sys
sys.modules.update(dict.fromkeys({LACKING!r}))
from engines.cli import main
folder = sys.argv[1]
for command, source, target in (("downscale", "../in.png", "lr.png"), ("upscale", "lr.png", "hr.png")):
    words = [command, f"{{folder}}/{{source}}", f"{{folder}}/{{target}}", "--model", folder, "--quiet"]
    main(words, standalone_mode=False)
"""
    ran = subprocess.run([sys.executable, "-c", code, folder], cwd=ROOT, capture_output=True, text=True)
    assert (ran.returncode, ran.stderr) == (0, ""), ran.stderr
    assert Image.open(folder / "lr.png").size == (32, 16) and Image.open(folder / "hr.png").size == (64, 32)


def sums_hold(folder: Path, count: int) -> None:
    """SHA256SUMS names as many files of the folder and their digests."""
    lines = (folder / "SHA256SUMS").read_text().splitlines()
    assert lines == [
        f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}"
        for name in (line.split("  ")[1] for line in lines)
    ]
    assert len(lines) == count


def test_kinds_of_the_command_line() -> None:
    assert tuple(KINDS) == export.cli.KINDS
