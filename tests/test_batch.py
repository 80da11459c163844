"""Many panoramas: the same files from processes and from Ray, each once in the manifest, whatever fails."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from batch_work import Fragile, Slow
from click.testing import CliRunner, Result
from conftest import ASSETS, GraphMaker
from exported import released
from PIL import Image

from engines.batch import local
from engines.batch.outcomes import JOURNAL, NAME, Manifest, Outcome
from engines.cli import main
from engines.panorama.selection import Job
from engines.support.files import sha256_of
from engines.support.images import read_panorama, write_png

ROOT = Path(__file__).parents[1]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three pieces of real panoramas, one in a folder below, and one file that is no image."""
    source = tmp_path / "in"
    (source / "below").mkdir(parents=True)
    for name, asset in (("a.png", "forest"), ("b.png", "courtyard"), ("below/c.png", "citadella")):
        write_png(source / name, np.ascontiguousarray(read_panorama(ASSETS / f"{asset}.png")[:64, :128]))
    (source / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nno more")
    return source


def batch(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["batch", *map(str, arguments)])


def manifest(out: Path) -> dict[str, dict[str, Any]]:
    """The lines by the name of the source; each name once."""
    lines = [json.loads(line) for line in (out / NAME).read_text().splitlines()]
    assert len({line["source"] for line in lines}) == len(lines)
    return {Path(line["source"]).name: line for line in lines}


def test_processes_do_a_folder_and_report_each_file(folder: Path, make_graph: GraphMaker, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = batch(folder, out, "--model", make_graph(), "--workers", 2, "--threads", 1, "--retries", 1)
    assert done.exit_code == 1
    assert done.stdout == f"{out / NAME}: 3 of 4 done, 1 failed\n"
    assert "broken.png" in done.stderr and "(2 attempts)" in done.stderr
    told = manifest(out)
    assert sorted(told) == ["a.png", "b.png", "broken.png", "c.png"]
    assert {name: line["status"] for name, line in told.items() if line["status"] != "done"} == {"broken.png": "failed"}
    assert told["c.png"]["bytes"] == (out / "below" / "c.png").stat().st_size
    assert Image.open(out / "a.png").size == (64, 32)
    assert not (out / "broken.png").exists() and not (out / JOURNAL).exists()


def test_a_second_run_does_only_what_is_left(folder: Path, make_graph: GraphMaker, tmp_path: Path) -> None:
    out, model = tmp_path / "out", make_graph()
    batch(folder, out, "--model", model)
    first, written = manifest(out), (out / "a.png").stat().st_mtime_ns
    shutil.copy(folder / "a.png", folder / "broken.png")  # mended
    (out / "b.png").unlink()
    done = batch(folder, out, "--model", model)
    assert done.exit_code == 0 and done.stdout == f"{out / NAME}: 4 of 4 done, 0 failed\n"
    second = manifest(out)
    assert second["a.png"] == first["a.png"] and (out / "a.png").stat().st_mtime_ns == written
    assert second["broken.png"]["status"] == second["b.png"]["status"] == "done"


def test_a_killed_run_goes_on(folder: Path, make_graph: GraphMaker, tmp_path: Path) -> None:
    """The journal of a run that was killed, its last line torn, becomes part of the next manifest."""
    out, model = tmp_path / "out", make_graph()
    batch(folder, out, "--model", model)
    lines = (out / NAME).read_text().splitlines()
    (out / NAME).unlink()
    (out / JOURNAL).write_text("\n".join([lines[0], lines[1], lines[3][:20]]))
    batch(folder, out, "--model", model)
    told = manifest(out)
    assert told["a.png"]["status"] == told["b.png"]["status"] == "done"
    assert told["c.png"]["status"] == "existing"  # its line was lost, its result was not


def test_ctrl_c_leaves_a_manifest(folder: Path, tmp_path: Path) -> None:
    for number in range(30):
        shutil.copy(folder / "a.png", folder / f"more{number}.png")
    out = tmp_path / "out"
    command = [
        sys.executable,
        "-m",
        "engines",
        "batch",
        str(folder),
        str(out),
        "--model",
        str(released("x2") / "down.onnx"),
    ]
    running = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    stop = time.monotonic() + 120
    while len(list(out.glob("*.png"))) < 2:
        assert time.monotonic() < stop and running.poll() is None, running.communicate()
        time.sleep(0.05)
    running.send_signal(signal.SIGINT)
    _, errors = running.communicate(timeout=60)
    assert running.returncode != 0 and "Traceback" not in errors
    told, results = manifest(out), list(out.rglob("*.png"))
    assert 2 <= len(results) < 34
    assert {line["target"] for line in told.values() if line["status"] == "done"} <= {str(path) for path in results}
    assert len(results) - len([line for line in told.values() if line["status"] == "done"]) <= 1


def test_what_is_under_way_at_an_interruption_is_told(tmp_path: Path) -> None:
    told = []
    outcomes = local.process(Slow(), 0, [Job(tmp_path / f"{n}", tmp_path / f"{n}.png") for n in range(9)], workers=1)
    with pytest.raises(KeyboardInterrupt):
        for outcome in outcomes:
            told.append(Path(outcome.source).name)
            if len(told) == 1:
                threading.Timer(0.1, os.kill, [os.getpid(), signal.SIGINT]).start()
    assert told == ["0", "1"]


def test_a_worker_that_dies_is_replaced(tmp_path: Path) -> None:
    names = ["good1", "shaky", "deadly", "good2", "good3"]
    jobs = [Job(tmp_path / name, tmp_path / f"{name}.png") for name in names]
    outcomes = {Path(o.source).name: o for o in local.process(Fragile(tmp_path), 1, jobs, workers=2)}
    assert {name for name, o in outcomes.items() if o.status == "done"} == set(names) - {"deadly"}
    assert outcomes["deadly"].attempts == 2 and "the worker process died" in outcomes["deadly"].error


def test_ray_gives_the_same_files(folder: Path, make_graph: GraphMaker, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="no ray on this machine (pip install ray[data])")
    model = make_graph()
    here, there = tmp_path / "processes", tmp_path / "ray"
    batch(folder, here, "--model", model, "--retries", 0)
    done = batch(folder, there, "--model", model, "--retries", 0, "--ray")
    assert done.exit_code == 1 and done.stdout == f"{there / NAME}: 3 of 4 done, 1 failed\n", done.output
    for name in ("a.png", "b.png", "below/c.png"):
        assert sha256_of(here / name) == sha256_of(there / name)
    assert list(manifest(there)) == list(manifest(here))


def test_without_ray_one_line_says_so(folder: Path, make_graph: GraphMaker, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    done = batch(folder, tmp_path / "out", "--model", make_graph(), "--ray")
    assert (
        done.exit_code == 2
        and "--ray: needs the package ray, which is not installed: pip install 'dinn360[ray]'" in done.output
    )


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["absent", "out", "--model", "m.onnx"], "absent: expected an image, a folder or a glob pattern"),
        ([ASSETS, "out", "--model", "absent.onnx"], "absent.onnx: expected an ONNX file, found no such file"),
        ([ASSETS / "forest.png", "x.png", "--model", "m.onnx"], "x.png: expected a folder"),
        ([ASSETS, "out", "--model", "m.onnx", "--workers", "0"], "'--workers'"),
    ],
)
def test_a_mistake_ends_in_one_line(
    arguments: list[object], expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = batch(*arguments)
    assert done.exit_code == 2 and expected in done.output
    assert len(done.output.strip().splitlines()) == 1


def test_a_foreign_manifest_is_refused(tmp_path: Path) -> None:
    (tmp_path / NAME).write_text('{"some": "json"}\n')
    with pytest.raises(Exception, match=f"{NAME}: line 1: expected an outcome of this command"):
        Manifest(tmp_path, [], overwrite=False)


def test_outcomes_survive_a_line() -> None:
    outcome = Outcome("a", "b", "failed", 3, 1.5, error="täglich\nneu", notes=("x", "y"))
    assert Outcome.from_line(outcome.to_line()) == outcome
    assert os.linesep not in outcome.to_line()


def test_a_worker_names_the_option_as_the_command_line_does(
    folder: Path, make_graph: GraphMaker, tmp_path: Path
) -> None:
    options = ("--bits", "16", "--format", "jpg", "--lossy", "--retries", 0)
    done = batch(folder / "a.png", folder / "b.png", tmp_path / "out", "--model", make_graph(), *options)
    assert done.exit_code == 1
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 2 and all(line.startswith("error: --bits: ") for line in lines), done.stderr


def test_a_manifest_from_before_a_field_was_added_is_read(folder: Path) -> None:
    line = Outcome("a", "b", "done").to_line()
    older = json.dumps({name: value for name, value in json.loads(line).items() if name != "about"})
    assert Outcome.from_line(older) == Outcome.from_line(line)
