"""Training where the disk is full, and starts that fail: one line, nothing lost, nothing left."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from training_runs import SHORT, config_file, panorama_folder

from dinn360.cli import main
from dinn360.training.logger import read_csv
from dinn360.training.state import load_state
from engines.support.errors import UserError
from engines.support.files import folder_for
from engines.support.images import Image8

ROOT = Path(__file__).parents[1]


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["train", *map(str, arguments)])


def error_lines(stderr: str) -> list[str]:
    return [line for line in stderr.splitlines() if "error" in line.lower() or "Traceback" in line]


@pytest.fixture
def small_disk(tmp_path: Path) -> Path:
    """A file system of one megabyte, which holds two states of the tiny network and no third."""
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True)
    if done.returncode:
        pytest.skip("needs the right to mount a file system")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_full_disk_is_one_line_and_the_run_goes_on_when_there_is_room(
    tmp_path: Path, forest: Image8, small_disk: Path
) -> None:
    data, out = panorama_folder(tmp_path / "data", forest), small_disk / "run"
    config = config_file(tmp_path / "tiny.toml", data, replace(SHORT, steps=4, save_every=1))
    out.mkdir()
    (small_disk / "ballast").write_bytes(bytes(500 * 1024))
    command = [sys.executable, "-m", "dinn360", "train", "--config", config, "--out", out]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 2, ended.stderr
    (line,) = error_lines(ended.stderr)
    assert line.startswith("error: ") and str(out) in line and "no space left on the disk" in line
    assert load_state(out)["step"] == 1  # the last one that fitted
    assert [path for path in out.iterdir() if "tmp" in path.name] == []

    (small_disk / "ballast").unlink()
    subprocess.run(["mount", "-o", "remount,size=8m", small_disk], check=True)
    again = run("--resume", "--out", out)
    assert again.exit_code == 0, again.output
    assert load_state(out)["step"] == 4 and len(read_csv(out / "train.csv")) == 4


@pytest.mark.parametrize(
    "options",
    [
        ["--data", "nothing-here"],
        ["--config", "nothing-here.toml"],
        ["--init", "nothing-here.pth"],
        ["--batch", 10**9],
        ["--batch", 10**12],
        ["--threads", 5000],
        ["--resume"],
    ],
    ids=lambda options: options[0] + str(options[1:]),
)
def test_a_start_that_fails_leaves_nothing(tmp_path: Path, forest: Image8, options: list[object]) -> None:
    data = panorama_folder(tmp_path / "data", forest)
    before = set(tmp_path.rglob("*"))
    result = run("--data", data, "--crop", 16, "--steps", 1, "--out", tmp_path / "deep" / "run", *options)
    assert result.exit_code == 2 and len(error_lines(result.stderr)) == 1, result.output
    assert set(tmp_path.rglob("*")) == before


def test_a_folder_that_was_there_stays(tmp_path: Path, forest: Image8) -> None:
    (tmp_path / "run").mkdir()
    assert run("--data", tmp_path / "none", "--out", tmp_path / "run").exit_code == 2
    assert list(tmp_path.iterdir()) == [tmp_path / "run"] and os.listdir(tmp_path / "run") == []


def test_folders_that_were_made_for_nothing_go_again(tmp_path: Path) -> None:
    with pytest.raises(UserError), folder_for(tmp_path / "a" / "b"):
        raise UserError("x")
    assert not (tmp_path / "a").exists()
    with pytest.raises(UserError), folder_for(tmp_path / "a" / "b"):
        (tmp_path / "a" / "kept").write_text("x")
        raise UserError("x")
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["kept"]


def test_a_log_of_something_else(tmp_path: Path) -> None:
    path = tmp_path / "train.csv"
    path.write_bytes(b"step,loss\n1,0.5\n2,\xff\xfe\n\xb2,1\n" + b"9" * 5000 + b",1\n3,x\n4,0.25\n")
    assert [row["step"] for row in read_csv(path)] == ["1", "4"]
    path.write_text('step\n"' + "x" * 200_000 + '"\n')
    with pytest.raises(UserError, match=r"train\.csv: expected the log of a run"):
        read_csv(path)
