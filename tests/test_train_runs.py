"""Runs that are stopped, killed, damaged and resumed; their logs, pictures and best weights."""

from __future__ import annotations

import csv
import math
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from networks import build, tiny
from PIL import Image
from training_runs import SHORT, BrokenOffError, config_file, make, panorama_folder, stop_at, take, tensors, wait_for

from dinn360.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from dinn360.cli import main
from dinn360.data.crops import Batch
from dinn360.data.prefetcher import Prefetcher
from dinn360.evaluation.validate import Validation
from dinn360.training.config import TrainConfig
from dinn360.training.logger import STEP_COLUMNS, CsvLog, read_csv
from dinn360.training.state import load_state, save_state
from dinn360.training.train import Trainer
from engines.support.arrays import Image8
from engines.support.errors import UserError

ROOT = Path(__file__).parents[1]


def losses(folder: Path) -> list[list[str]]:
    """The rows of train.csv without the time that each step took."""
    with (folder / "train.csv").open() as file:
        return [row[:-1] for row in csv.reader(file)]


@pytest.mark.parametrize("how", [BrokenOffError(), signal.SIGINT, signal.SIGTERM], ids=["error", "Ctrl-C", "SIGTERM"])
def test_a_resumed_run_is_the_uninterrupted_run(
    tmp_path: Path, forest: Image8, how: Exception | signal.Signals
) -> None:
    config = replace(SHORT, sample_latent=True, deform_from=0.5)
    for name in ("whole", "parts"):
        (tmp_path / name).mkdir()
    whole = make(tmp_path / "whole", forest, config)
    assert whole.run() == 0
    first = make(tmp_path / "parts", forest, config)
    if isinstance(how, signal.Signals):
        stop_at(first, 3, how)
        assert first.run() == how and first.step == 4  # the step is finished, then saved
    else:
        stop_at(first, 4, how)
        with pytest.raises(BrokenOffError):
            first.run()
        assert len(losses(tmp_path / "parts")) == 1 + 4
    torch.manual_seed(12345)  # whatever happened in between
    second = make(tmp_path / "parts", forest, config)
    second.resume()
    assert second.step == (4 if isinstance(how, signal.Signals) else 3)
    second.run()
    expected, found = tensors(whole), tensors(second)
    assert expected.keys() == found.keys()
    assert [name for name in expected if not torch.equal(expected[name], found[name])] == []
    assert losses(tmp_path / "whole") == losses(tmp_path / "parts")  # no step twice


def test_the_samples_matter_to_the_run(tmp_path: Path, forest: Image8) -> None:
    """The control: of two runs on the same crops, one with other samples is another run."""
    config = replace(SHORT, sample_latent=True)
    first, same, other = (make(tmp_path, forest, config) for _ in range(3))
    other.config = replace(config, seed=1)  # the weights and the crops are made already, of seed 0
    for trainer in (first, same, other):
        take(trainer)
        take(trainer)
    a, b, c = tensors(first), tensors(same), tensors(other)
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert any(not torch.equal(a[name], c[name]) for name in a)


def test_a_damaged_state_falls_back_to_the_one_before(tmp_path: Path, forest: Image8) -> None:
    make(tmp_path, forest).run()
    whole = (tmp_path / "state.pth").read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", whole[:-100], b"hello"):
        (tmp_path / "state.pth").write_bytes(damaged)
        again = make(tmp_path, forest)
        again.resume()
        assert again.step == 3
    (tmp_path / "state.pth").unlink()
    again = make(tmp_path, forest)
    again.resume()
    assert again.step == 3
    (tmp_path / "state.previous.pth").write_bytes(b"")
    with pytest.raises(UserError, match="resume: .*state.pth: no such"):
        make(tmp_path, forest).resume()


def test_a_run_of_another_network_is_not_resumed(tmp_path: Path, forest: Image8) -> None:
    make(tmp_path, forest).save()
    with pytest.raises(UserError, match="another model config"):
        make(tmp_path, forest, dst=False).resume()
    other = "adam" if SHORT.optimiser == "muon" else "muon"
    with pytest.raises(UserError, match=f"optimiser: .*with {SHORT.optimiser}.*, found {other}"):
        make(tmp_path, forest, replace(SHORT, optimiser=other)).resume()


def test_a_branch_ends_a_run_that_has_no_end(tmp_path: Path, forest: Image8) -> None:
    """Its rate falls to 0 from the first step on; crops go on; the run it comes from stays as it is."""
    config = replace(SHORT, decay=0.0, steps=1000)
    data = panorama_folder(tmp_path / "data", forest)
    settings = config_file(tmp_path / "config.toml", data, config)
    campaign, release = tmp_path / "campaign", tmp_path / "release"
    campaign.mkdir()
    trainer = make(campaign, forest, config)
    stop_at(trainer, 4, signal.SIGTERM)
    trainer.run()
    shutil.copy(settings, campaign / "config.toml")
    state = (campaign / "state.pth").read_bytes()

    def train(*arguments: object) -> Result:
        return CliRunner().invoke(main, ["train", *map(str, arguments)])

    assert "expected both or neither" in train("--branch", campaign, "--out", release).stderr
    assert (
        "--branch: " in train("--branch", tmp_path, "--branch-steps", 3, "--config", settings, "--out", release).stderr
    )
    assert train("--branch", campaign, "--branch-steps", 4, "--out", release).exit_code == 0
    rows = read_csv(release / "train.csv")
    assert [int(row["step"]) for row in rows] == [6, 7, 8, 9]
    assert [float(row["rate"]) for row in rows] == pytest.approx([SHORT.lr * share for share in (1, 0.75, 0.5, 0.25)])
    assert load_checkpoint(release / "last.pth").provenance["steps"] == 9
    assert (campaign / "state.pth").read_bytes() == state and not (campaign / "last.pth").exists()
    assert "holds a run already" in train("--branch", campaign, "--branch-steps", 4, "--out", release).stderr


def test_a_state_from_before_a_field_of_the_config_is_resumed(tmp_path: Path, forest: Image8) -> None:
    trainer = make(tmp_path, forest)
    trainer.save()
    state = load_state(tmp_path)
    del state["model"]["mlp_ratio"]  # as tiny has it: the default
    save_state(tmp_path, state)
    make(tmp_path, forest).resume()


def test_a_killed_run_loses_only_what_followed_its_last_state(tmp_path: Path, forest: Image8) -> None:
    config = replace(SHORT, steps=60, save_every=10)
    data = panorama_folder(tmp_path / "data", forest)
    out, whole = tmp_path / "run", tmp_path / "whole"
    settings = config_file(tmp_path / "tiny.toml", data, config)
    command = [sys.executable, "-m", "dinn360", "train", "--config", str(settings), "--out", str(out)]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    wait_for(lambda: len(read_csv(out / "train.csv")) >= 12, process)
    process.kill()
    process.wait()
    seen = len(read_csv(out / "train.csv"))
    assert 12 <= seen < 60 and seen - 10 <= load_state(out)["step"] <= seen
    for arguments in (["--out", out, "--resume"], ["--out", whole, "--config", settings]):
        assert CliRunner().invoke(main, ["train", *map(str, arguments)]).exit_code == 0
    assert losses(out) == losses(whole) and len(losses(out)) == 61
    a, b = load_checkpoint(out / "last.pth").weights, load_checkpoint(whole / "last.pth").weights
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_a_log_drops_what_lies_beyond_a_step_and_what_is_torn(tmp_path: Path) -> None:
    path = tmp_path / "train.csv"
    log = CsvLog(path, STEP_COLUMNS, 0)
    for step in range(1, 5):
        log.write({name: step if name == "step" else step / 3 for name in STEP_COLUMNS})
    path.write_text(path.read_text() + "5,0.1,0.")
    assert [row["step"] for row in read_csv(path)] == ["1", "2", "3", "4"]
    CsvLog(path, STEP_COLUMNS, 3).write({name: 9 for name in STEP_COLUMNS})
    rows = read_csv(path)
    assert [row["step"] for row in rows] == ["1", "2", "3", "9"] and rows[0]["loss"] == "0.333333"
    # a log of an earlier version, without a column that there is now
    path.write_text("step,loss\n1,0.5\n2,0.25\n")
    CsvLog(path, STEP_COLUMNS, 1)
    assert [(row["step"], row["loss"], row["skipped"]) for row in read_csv(path)] == [("1", "0.5", "")]


def test_validation_keeps_the_best_and_draws(tmp_path: Path, forest: Image8) -> None:
    trainer = make(tmp_path, forest, replace(SHORT, steps=4, validate_every=2))
    trainer.validation = Validation(panorama_folder(tmp_path / "val", forest), 2)
    trainer.run()
    rows = list(csv.DictReader((tmp_path / "val.csv").open()))
    assert [int(row["step"]) for row in rows] == [2, 4]
    figures = load_checkpoint(tmp_path / "best.pth").provenance["figures"]
    assert figures["ws_psnr_y"] == pytest.approx(max(float(row["ws_psnr_y"]) for row in rows), abs=1e-3)
    assert trainer.best == figures["ws_psnr_y"]
    assert Image.open(tmp_path / "curve.png").size[0] > 500
    sheets = [np.asarray(Image.open(tmp_path / "samples" / f"step_{step:06d}.png")) for step in (2, 4)]
    # four close-ups of 32 pixels, three times enlarged, below their captions; only the network's own ones change
    original, low, restored, bicubic = (slice(column * 100, column * 100 + 96) for column in range(4))
    assert sheets[0].shape == (16 + 96, 4 * 96 + 3 * 4, 3)
    a, b = (sheet[16:] for sheet in sheets)
    assert np.array_equal(a[:, original], b[:, original]) and np.array_equal(a[:, bicubic], b[:, bicubic])
    assert not np.array_equal(a[:, restored], b[:, restored])
    assert any(np.array_equal(a[::3, original][:, ::3], forest[216:248, left : left + 32]) for left in range(97))
    assert np.array_equal(a[::6, low].repeat(6, axis=0), a[:, low])  # an LR pixel covers 2 x 3 rows


def test_skipped_steps_are_told(tmp_path: Path, forest: Image8) -> None:
    trainer = make(tmp_path, forest)
    crops = trainer.crops

    def broken(step: int) -> Batch:
        batch = crops(step)
        return Batch(batch.x * float("nan"), batch.frame) if step in (1, 2) else batch

    broken.description = crops.description  # type: ignore[attr-defined]
    trainer.crops = broken  # type: ignore[assignment]
    trainer.run()
    rows = read_csv(tmp_path / "train.csv")
    assert [row["skipped"] for row in rows] == ["0", "1", "2", "2", "2", "2"]
    assert [math.isfinite(float(row["loss"])) for row in rows] == [True, False, False, True, True, True]
    assert load_checkpoint(tmp_path / "last.pth").provenance["skipped"] == 2


def test_batches_are_made_ahead_and_their_errors_arrive() -> None:
    asked: list[int] = []

    def make_batch(step: int) -> Batch:
        asked.append(step)
        if step == 3:
            raise BrokenOffError
        return step  # type: ignore[return-value]

    with Prefetcher(make_batch) as batches:
        assert [batches(step) for step in range(3)] == [0, 1, 2]
        with pytest.raises(BrokenOffError):
            batches(3)
        assert batches(7) == 7  # type: ignore[comparison-overlap]
    assert sorted(asked) in ([0, 1, 2, 3, 7], [0, 1, 2, 3, 7, 8])


def test_training_starts_from_a_checkpoint(tmp_path: Path, forest: Image8) -> None:
    source = build(tiny(2), seed=3)
    path = tmp_path / "start.pth"
    save_checkpoint(path, Checkpoint(source.config, source.state_dict(), {}))
    trainer = make(tmp_path, forest)
    trainer.start_from(load_checkpoint(path))
    for name, tensor in source.state_dict().items():
        assert torch.equal(tensor, trainer.network.state_dict()[name]) and torch.equal(tensor, trainer.average[name])
    with pytest.raises(UserError, match="another architecture"):
        make(tmp_path, forest, window=8).start_from(load_checkpoint(path))


def test_tensorboard_holds_scalars_and_samples(tmp_path: Path, forest: Image8) -> None:
    pytest.importorskip("tensorboard", reason="needs the package tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    trainer = make(tmp_path, forest, replace(SHORT, steps=4, validate_every=2))
    trainer.tensorboard = True
    trainer.validation = Validation(panorama_folder(tmp_path / "val", forest), 2)
    trainer.run()
    events = EventAccumulator(str(tmp_path / "tensorboard"), {"images": 0, "scalars": 0})
    events.Reload()
    assert [event.step for event in events.Scalars("train/hr")] == [1, 2, 3, 4]
    assert [event.step for event in events.Scalars("train/latent")] == [1, 3]
    assert [event.step for event in events.Scalars("val/ws_psnr_y")] == [2, 4]
    assert [event.step for event in events.Images("sample")] == [2, 4]
    logged = float(read_csv(tmp_path / "train.csv")[-1]["hr"])
    assert events.Scalars("train/hr")[-1].value == pytest.approx(logged, rel=1e-4)


def test_without_tensorboard_one_line_says_so(tmp_path: Path, forest: Image8, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    trainer = make(tmp_path, forest)
    trainer.tensorboard = True
    with pytest.raises(UserError, match=r"tensorboard: needs the package tensorboard.*pip install"):
        trainer.run()


def test_a_config_is_checked_in_python_too() -> None:
    with pytest.raises(UserError, match="^lr: expected a number, found 'fast'"):
        TrainConfig(lr="fast")  # type: ignore[arg-type]
    assert Trainer.__init__.__annotations__["config"] == "TrainConfig"
