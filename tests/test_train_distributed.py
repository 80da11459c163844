"""Several processes under torchrun: they train as one does, also when one of them is killed."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from distributed_work import CONFIG, trainer
from training_runs import SHORT, config_file, panorama_folder, wait_for

from dinn360.checkpoint import load_checkpoint
from dinn360.cli import main
from dinn360.data.crops import Crops
from dinn360.training.logger import read_csv
from dinn360.training.processes import Processes, join
from engines.support.arrays import Image8
from engines.support.errors import UserError

ROOT = Path(__file__).parents[1]
COLUMNS = ("step", "loss", "hr", "lr", "latent", "rate", "norm", "skipped")

pytestmark = pytest.mark.skipif(
    not torch.distributed.is_available() or not Path("/proc").exists(), reason="needs torch.distributed and /proc"
)


def torchrun(*arguments: object) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    return subprocess.Popen([*command, *map(str, arguments)], cwd=ROOT, env=environment, stderr=subprocess.DEVNULL)


def table(folder: Path) -> np.ndarray:
    return np.array([[float(row[name]) for name in COLUMNS] for row in read_csv(folder / "train.csv")])


def same(two: Path, one: Path, tolerance: float) -> None:
    """The logs agree but for the seconds of the steps, and so do the averaged weights."""
    np.testing.assert_allclose(table(two), table(one), rtol=tolerance, atol=1e-3 * tolerance)
    a, b = load_checkpoint(two / "last.pth").weights, load_checkpoint(one / "last.pth").weights
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=0, atol=tolerance)


def workers(process: subprocess.Popen[bytes]) -> list[int]:
    return [int(n) for n in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


def test_shares_are_the_batch(forest: Image8) -> None:
    crops = Crops([forest], [forest], 16, 6, 0, 0.5)
    whole, parts = crops(3), [crops.part(rank, 3)(3) for rank in range(3)]
    assert torch.equal(torch.cat([part.x for part in parts]), whole.x)
    assert whole.frame.top is not None
    assert torch.equal(torch.cat([part.frame.top for part in parts if part.frame.top is not None]), whole.frame.top)
    with pytest.raises(UserError, match="batch: expected a multiple of the 4 processes, found 6"):
        crops.part(0, 4)


def test_two_processes_train_as_one_with_the_whole_batch(tmp_path: Path) -> None:
    """With offsets switched on halfway, a z loss at every second step, clipping, and a step that one process skips."""
    one, two = tmp_path / "one", tmp_path / "two"
    for folder in (one, two):
        folder.mkdir()
    process = torchrun(ROOT / "tests" / "distributed_work.py", two)
    trainer(one, Processes()).run()
    assert process.wait(300) == 0
    same(two, one, 1e-5)
    rows = table(two)
    assert rows[:, 0].tolist() == list(range(1, CONFIG.steps + 1))
    assert rows[:, -1].tolist() == [0, 0, 1, 1, 1, 1, 1, 1] and math.isnan(rows[2, 1])
    assert (rows[:, COLUMNS.index("norm")] > CONFIG.clip_norm).any()
    assert torch.load(two / "state.pth", weights_only=True)["skipped"] == 1


def test_a_run_goes_on_after_a_process_is_killed(tmp_path: Path, forest: Image8) -> None:
    """The one that writes the files, at that. The run becomes the undisturbed one, to the last bit."""
    config = replace(SHORT, steps=40, batch=4, save_every=5)
    data = panorama_folder(tmp_path / "data", forest)
    settings = config_file(tmp_path / "tiny.toml", data, config)
    killed, left = tmp_path / "killed", tmp_path / "left"
    arguments = ["-m", "dinn360", "train", "--config", settings, "--out"]
    undisturbed = torchrun(*arguments, left)
    process = torchrun("--max-restarts", 1, *arguments, killed)
    wait_for(lambda: len(read_csv(killed / "train.csv")) >= 6, process)
    os.kill(workers(process)[0], signal.SIGKILL)
    assert len(read_csv(killed / "train.csv")) < 40
    assert process.wait(300) == 0 and undisturbed.wait(300) == 0
    same(killed, left, 0)
    assert len(table(killed)) == 40


def test_a_signal_to_one_process_stops_all_and_resume_goes_on(tmp_path: Path, forest: Image8) -> None:
    config = replace(SHORT, steps=2000, batch=2, save_every=1000)
    out, data = tmp_path / "run", panorama_folder(tmp_path / "data", forest)
    settings = config_file(tmp_path / "tiny.toml", data, config)
    process = torchrun("-m", "dinn360", "train", "--config", settings, "--out", out)
    wait_for(lambda: len(read_csv(out / "train.csv")) >= 3, process)
    os.kill(workers(process)[1], signal.SIGTERM)
    assert process.wait(300) != 0
    steps = len(read_csv(out / "train.csv"))
    assert 3 <= steps < 1000 and torch.load(out / "state.pth", weights_only=True)["step"] == steps
    alone = ["train", "--resume", "--out", str(out), "--steps", str(steps + 2)]
    assert CliRunner().invoke(main, alone).exit_code == 0
    assert [row["step"] for row in read_csv(out / "train.csv")] == [str(n + 1) for n in range(steps + 2)]


def test_a_process_alone_needs_no_others() -> None:
    with join("cpu") as processes:
        assert processes == Processes(torch.device("cpu"), 0, 1) and processes.first
        assert processes.largest(7) == 7
        processes.wait()
    with pytest.raises(UserError, match="device: expected one of auto, cpu, cuda, found 'tpu'"), join("tpu"):
        pass
