"""`python -m dinn360 downscale | upscale | info`: images in and out, and what happens to mistakes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from networks import build, tiny
from PIL import Image

from dinn360.checkpoint import Checkpoint, save_checkpoint
from dinn360.cli import MODULES, main
from engines.support.arrays import Image8
from engines.support.images import read_panorama, write_png


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint x2.pth of small random weights."""
    path = tmp_path_factory.mktemp("cli")
    network = build(tiny(2), std=0.01)
    save_checkpoint(path / "x2.pth", Checkpoint(network.config, network.state_dict(), {"steps": 3}))
    return path


@pytest.fixture
def panorama(tmp_path: Path, forest: Image8) -> Path:
    path = tmp_path / "in.png"
    write_png(path, np.ascontiguousarray(forest[200:217, :34]))  # 17 x 34: 2:1, and no multiple of the scale
    return path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def refused(*arguments: object) -> str:
    """The one line of the error."""
    result = run(*arguments)
    lines = result.stderr.splitlines()
    assert result.exit_code == 2 and lines[-1].startswith("error: "), result.output
    assert all(line.startswith("warning: ") for line in lines[:-1])
    return lines[-1]


def test_there_and_back(tmp_path: Path, folder: Path, panorama: Path) -> None:
    lr, hr = tmp_path / "lr.png", tmp_path / "hr.png"
    done = run("downscale", panorama, lr, "--ckpt", folder / "x2.pth")
    assert done.exit_code == 0 and done.output.startswith("1 panorama, ")
    assert Image.open(lr).size == (17, 9)
    assert run("upscale", lr, hr, "--ckpt", folder / "x2.pth", "--size", "34x18").exit_code == 0
    assert Image.open(hr).size == (34, 18)
    assert run("upscale", lr, hr, "--ckpt", folder / "x2.pth", "--overwrite").exit_code == 0
    restored = read_panorama(hr)
    assert restored.shape == (17, 34, 3)
    error = np.abs(restored.astype(int) - read_panorama(panorama).astype(int)).mean()
    assert 0 < error < 40


def test_an_image_that_is_not_2_to_1_is_a_warning(tmp_path: Path, folder: Path, forest: Image8) -> None:
    write_png(tmp_path / "square.png", np.ascontiguousarray(forest[:16, :16]))
    done = run("downscale", tmp_path / "square.png", tmp_path / "lr.png", "--ckpt", folder / "x2.pth")
    assert done.exit_code == 0 and (tmp_path / "lr.png").exists()
    assert done.stderr.startswith("warning: ") and "16 x 16" in done.stderr and done.stderr.count("\n") == 1


def test_grey_and_transparent_images_are_taken(tmp_path: Path, folder: Path, panorama: Path) -> None:
    for mode in ("L", "RGBA", "I;16"):
        source = tmp_path / "mode.png"
        image = Image.open(panorama).convert("L" if mode == "I;16" else mode)
        image = Image.fromarray(np.asarray(image).astype(np.uint16) * 257) if mode == "I;16" else image
        image.save(source)
        done = run("downscale", source, tmp_path / "lr.png", "--ckpt", folder / "x2.pth", "--overwrite")
        assert done.exit_code == 0, done.output


@pytest.mark.parametrize("command", ["downscale", "upscale"])
def test_mistakes_end_in_one_line(tmp_path: Path, folder: Path, panorama: Path, command: str) -> None:
    good, out = folder / "x2.pth", tmp_path / "out.png"
    before = set(tmp_path.rglob("*"))
    assert "none.pth: no such" in refused(command, panorama, out, "--ckpt", tmp_path / "none.pth")
    assert "not a readable checkpoint" in refused(command, panorama, out, "--ckpt", panorama)
    assert "found a folder" in refused(command, panorama, out, "--ckpt", tmp_path)
    assert "none.png" in refused(command, tmp_path / "none.png", out, "--ckpt", good)
    assert "x2.pth" in refused(command, good, out, "--ckpt", good)
    assert ".png" in refused(command, panorama, tmp_path / "out.txt", "--ckpt", good)
    assert "does not exist" in refused(command, panorama, tmp_path / "none" / "out.png", "--ckpt", good)
    assert "--ckpt" in refused(command, panorama, out)
    assert "--colour" in refused(command, panorama, out, "--ckpt", good, "--colour", "red")
    assert set(tmp_path.rglob("*")) == before


def test_an_output_that_cannot_be_written_leaves_nothing(tmp_path: Path, folder: Path, panorama: Path) -> None:
    (tmp_path / "lr" / "in.png").mkdir(parents=True)
    before = set(tmp_path.rglob("*"))
    message = refused("downscale", panorama, tmp_path / "lr", "--ckpt", folder / "x2.pth", "--overwrite")
    assert "in.png: cannot write: expected a file, found a folder" in message
    assert set(tmp_path.rglob("*")) == before


def test_a_damaged_checkpoint(tmp_path: Path, folder: Path, panorama: Path) -> None:
    damaged = tmp_path / "damaged.pth"
    damaged.write_bytes((folder / "x2.pth").read_bytes()[:-500])
    assert "damaged.pth" in refused("downscale", panorama, tmp_path / "out.png", "--ckpt", damaged)


@pytest.mark.parametrize(
    ("size", "words"),
    [
        ("36x17", "34x18"),
        ("34x20", "34x18"),
        ("34", "WIDTHxHEIGHT"),
        ("0x5", "WIDTHxHEIGHT"),
        ("-2x4", "'-2x4'"),
    ],
)
def test_a_wrong_size(tmp_path: Path, folder: Path, panorama: Path, size: str, words: str) -> None:
    lr = tmp_path / "lr.png"
    run("downscale", panorama, lr, "--ckpt", folder / "x2.pth")
    message = refused("upscale", lr, tmp_path / "hr.png", "--ckpt", folder / "x2.pth", f"--size={size}")
    assert "--size" in message and words in message and not (tmp_path / "hr.png").exists()


def test_info_of_a_checkpoint(folder: Path) -> None:
    done = run("info", "--ckpt", folder / "x2.pth", "--size", "64x32")
    assert done.exit_code == 0 and "custom x2" in done.output and "steps" in done.output
    assert "--scale: expected one of (2, 4, 8), found 5" in refused("info", "--scale", 5)
    assert "huge" in refused("info", "--preset", "huge")


def test_the_module_runs_and_names_its_commands() -> None:
    done = CliRunner().invoke(main, ["--help"])
    assert done.exit_code == 0
    for name, (_, line) in MODULES.items():
        assert f"  {name} " in done.output and line in done.output
        assert run(name, "--help").exit_code == 0
    root = Path(__file__).parents[1]
    command = [sys.executable, "-m", "dinn360", "fly"]
    failed = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=120)
    assert failed.returncode == 2 and failed.stderr == "error: No such command 'fly'.\n"


def test_help_is_not_kept_waiting_by_torch() -> None:
    code = "import sys, dinn360.cli as c; c.main(['--help'], standalone_mode=False); sys.exit('torch' in sys.modules)"
    root = Path(__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert all(name in done.stdout for name in MODULES)
