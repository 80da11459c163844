"""What hands expect of a command line: several inputs, -o, a folder as the model, --quiet, --json, --version."""

from __future__ import annotations

import io
import json
import re
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from conftest import GraphMaker
from PIL import Image

import dinn360.cli
import engines
import engines.cli
import export.cli
from engines.support import progress as lines

ROOT = Path(__file__).parents[1]
GROUPS = {"engines": engines.cli.main, "dinn360": dinn360.cli.main, "export": export.cli.main}


def call(*arguments: object) -> Result:
    return CliRunner().invoke(engines.cli.main, list(map(str, arguments)))


@pytest.fixture
def graphs(make_graph: GraphMaker) -> Path:
    make_graph("down")
    return make_graph("up").parent


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / "in" / f"{name}.png" for name in "abc"]
    paths[0].parent.mkdir()
    for number, path in enumerate(paths):
        Image.new("RGB", (8, 4), (number, 20, 30)).save(path)
    return paths


def test_several_inputs_and_a_folder_as_the_model(graphs: Path, pictures: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "lr"
    done = call("downscale", *pictures, "-o", out, "--model", graphs)
    assert done.exit_code == 0 and done.output.startswith("3 panoramas, "), done.output
    assert [Image.open(out / path.name).size for path in pictures] == [(4, 2)] * 3
    done = call("upscale", *sorted(out.iterdir()), tmp_path / "hr", "--model", graphs)
    assert done.exit_code == 0 and len(list((tmp_path / "hr").iterdir())) == 3, done.output


def test_out_names_a_file_too(graphs: Path, pictures: list[Path], tmp_path: Path) -> None:
    assert call("downscale", pictures[0], "--out", tmp_path / "one.png", "--model", graphs).exit_code == 0
    assert Image.open(tmp_path / "one.png").size == (4, 2)


def test_a_forgotten_target_overwrites_nothing(graphs: Path, pictures: list[Path]) -> None:
    """`downscale *.png` without a target: the last picture must not become one."""
    before = pictures[-1].read_bytes()
    for given in (pictures, pictures[1:], pictures[:1]):
        done = call("downscale", *given, "--model", graphs)
        assert done.exit_code == 2 and len(done.stderr.splitlines()) == 1, done.output
    assert pictures[-1].read_bytes() == before


def test_names_that_would_meet_in_the_target(graphs: Path, pictures: list[Path], tmp_path: Path) -> None:
    twin = tmp_path / "other" / "a.png"
    twin.parent.mkdir()
    twin.write_bytes(pictures[0].read_bytes())
    done = call("downscale", pictures[0], twin, "-o", tmp_path / "lr", "--model", graphs)
    assert done.exit_code == 2 and "would both become" in done.stderr


def test_a_folder_without_the_direction(make_graph: GraphMaker, pictures: list[Path], tmp_path: Path) -> None:
    folder = make_graph("down").parent
    done = call("upscale", pictures[0], tmp_path / "x.png", "--model", folder)
    assert done.stderr == f"error: --model: expected up.onnx or an engine up*.engine in {folder}, found none\n"
    done = call("batch", pictures[0].parent, tmp_path / "lr", "--model", folder)
    assert done.exit_code == 2 and done.stderr.startswith("error: --model: expected a graph or an engine")


def test_quiet_and_json(graphs: Path, pictures: list[Path], tmp_path: Path) -> None:
    quiet = call("downscale", *pictures, "-o", tmp_path / "q", "--model", graphs, "-q")
    assert (quiet.exit_code, quiet.output) == (0, "")
    told = json.loads(call("downscale", *pictures, "-o", tmp_path / "j", "--model", graphs, "--json").stdout)
    assert (told["done"], told["skipped"], told["failed"]) == (3, 0, [])
    assert told["files"][0]["target"] == str(tmp_path / "j" / "a.png")
    assert (told["files"][0]["width"], told["files"][0]["height"]) == (8, 4)


def test_a_wrong_size_names_the_option(graphs: Path, pictures: list[Path], tmp_path: Path) -> None:
    done = call("upscale", pictures[0], tmp_path / "x.png", "--model", graphs, "--size", "99x99", "--foreign")
    assert done.stderr == "error: --size: expected 15x7 to 16x8 (width x height), found 99x99\n"


@pytest.mark.parametrize("name", GROUPS)
def test_version(name: str) -> None:
    done = CliRunner().invoke(GROUPS[name], ["--version"])
    assert done.output == f"dinn360, version {engines.__version__}\n"


@pytest.mark.parametrize("words", ["--bogus", "bogus", "data --bogus", "data bogus", "info --bogus"])
def test_errors_look_the_same_at_every_level(words: str) -> None:
    done = CliRunner().invoke(dinn360.cli.main, words.split())
    assert done.exit_code == 2 and done.stdout == ""
    assert done.stderr.startswith("error: No such ") and len(done.stderr.splitlines()) == 1


def test_every_bar_is_a_line_where_nobody_watches() -> None:
    """Only engines/support/progress.py makes bars; others may name their type."""
    sources = [path for name in ("dinn360", "engines", "export", "benchmarks") for path in (ROOT / name).rglob("*.py")]
    assert len(sources) > 100
    makers = [path.name for path in sources if re.search(r"\b(tqdm|trange)\(|tqdm\.(auto|notebook)", path.read_text())]
    assert makers == ["progress.py"]


def test_progress_is_lines_where_nobody_watches(monkeypatch: pytest.MonkeyPatch) -> None:
    said = io.StringIO()
    monkeypatch.setattr(sys, "stderr", said)
    monkeypatch.setattr(lines, "SECONDS", 0.0)
    with lines.progress(total=3, unit="file") as bar:
        for _ in range(3):
            bar.update()
    assert "\r" not in said.getvalue() and "2 of 3, " in said.getvalue()
    assert all(line.strip() for line in said.getvalue().splitlines())
    with lines.progress(total=9) as bar:
        monkeypatch.setattr(lines, "SECONDS", 60.0)
        said.seek(said.truncate(0))
        bar.refresh()
        assert said.getvalue() == ""  # not more often than that, whoever asks
    with lines.progress(total=3, quiet=True) as bar:
        bar.update()
    assert said.getvalue() == ""
