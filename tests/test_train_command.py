"""`python -m dinn360 train`: options, config files, what a run stores, and mistakes in one line."""

from __future__ import annotations

import dataclasses
import os
import signal
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from networks import tiny
from training_runs import SHORT, config_file, panorama_folder

from dinn360.checkpoint import load_checkpoint
from dinn360.cli import main
from dinn360.commands.train import ABLATIONS
from dinn360.data.crops import Batch
from dinn360.networks import preset
from dinn360.training.config import TrainConfig
from dinn360.training.logger import read_csv
from dinn360.training.run_file import DataConfig, RunConfig, RunFile, resolve
from dinn360.training.state import sole_writer
from dinn360.training.train import Trainer
from engines.support.arrays import Image8
from engines.support.errors import UserError

EXAMPLE = Path(__file__).parents[1] / "dinn360" / "training" / "configs" / "x4-edge.toml"
LEVEL = ", ".join(f"{name} = {value!r}" for name, value in dataclasses.asdict(tiny(2).levels[0]).items())


@pytest.fixture
def data(tmp_path: Path, forest: Image8) -> Path:
    return panorama_folder(tmp_path / "data", forest)


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def run(*arguments: object) -> tuple[int, str]:
    """Exit code and stderr of the train command."""
    done = CliRunner().invoke(main, ["train", *map(str, arguments)])
    return done.exit_code, done.stderr


def train(*arguments: object) -> tuple[int, str]:
    return run("--scale", 2, "--crop", 16, "--batch", 1, "--steps", 4, "--threads", 1, *arguments)


def mistake(*arguments: object) -> str:
    """The one line of the error."""
    code, message = train(*arguments)
    errors = [line for line in message.splitlines() if line.startswith("error: ")]
    assert code == 2 and len(errors) == 1 and "Traceback" not in message, message
    return errors[0]


def losses(folder: Path) -> list[tuple[str, str]]:
    return [(row["step"], row["loss"]) for row in read_csv(folder / "train.csv")]


def test_the_command_trains_and_resumes(tmp_path: Path, data: Path) -> None:
    out = tmp_path / "run"
    assert train("--data", data, "--photographs", data, "--val", data, "--out", out)[0] == 0
    assert load_checkpoint(out / "best.pth").config.preset == "edge"
    code, message = train("--data", data, "--out", out)
    assert code == 2 and "--resume" in message.splitlines()[-1]
    assert train("--data", data, "--out", out, "--resume", "--steps", 5)[0] == 0
    assert load_checkpoint(out / "last.pth").provenance["steps"] == 5


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--scale", 3], "--scale"),
        (["--crop", 15], "--crop"),
        (["--alpha", 2], "--alpha"),
        (["--preset", "huge"], "--preset"),
        (["--steps", "many"], "--steps"),
        (["--threads", 0], "--threads"),
        (["--lr", "nan"], "--lr: expected a number"),
        (["--seed", -1], "--seed: expected 0 or more, found -1"),
        (["--device", "tpu"], "--device: expected one of auto, cpu, cuda, found 'tpu'"),
        (["--layout", "cube"], "--layout: expected one of folder, odisr"),
        (["--no-latitude-head", "--no-content-head"], "latitude_head, content_head: at least one head"),
        (["--resume"], "--resume"),
        (["--data", "/nowhere"], "/nowhere"),
        (["--crop", 400], "no image could be used"),
        (["--out", "/dev/null/x"], "/dev/null/x"),
        (["--config", "/nowhere.toml"], "/nowhere.toml: cannot read: no such file"),
    ],
)
def test_a_mistake_ends_in_one_line(tmp_path: Path, data: Path, arguments: list[object], words: str) -> None:
    assert words in mistake("--data", data, "--out", tmp_path / "run", *arguments)


def test_no_data_is_a_mistake(tmp_path: Path) -> None:
    assert "--data: expected a folder of panoramas" in mistake("--out", tmp_path / "run")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_missing_gpu_is_named(tmp_path: Path, data: Path) -> None:
    found = mistake("--data", data, "--out", tmp_path / "run", "--device", "cuda")
    assert "--device: cuda: expected a GPU" in found and "found 0" in found


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[train", "expected a TOML file, found: "),
        ("[trian]\nsteps = 3", ": trian: expected one of the sections model, data, train, run"),
        ("train = 3", ": train: expected a table, found 3"),
        ("[train]\nstep = 3", ": train.step: expected one of steps, batch, crop"),
        ("[train]\nsteps = 3.5", ": train.steps: expected a whole number, found 3.5"),
        ("[train]\nsteps = true", ": train.steps: expected a whole number, found True"),
        ("[train]\nsteps = 0", ": train.steps: expected at least 1, found 0"),
        ("[train]\nlr = 'fast'", ": train.lr: expected a number, found 'fast'"),
        ("[train]\nlr = inf", ": train.lr: expected a number above 0, found inf"),
        ("[train]\naverage = 1", ": train.average: expected 0 or more and below 1, found 1.0"),
        ("[train]\nsample_latent = 1", ": train.sample_latent: expected true or false, found 1"),
        ("[train]\nprecision = 'fp8'", ": train.precision: expected fp32 or bf16, found 'fp8'"),
        ("[train]\ncrop = 30", ": train.crop: expected a multiple of the scale 4, found 30"),
        ("[data]\nval = 3", ": data.val: expected a path, found 3"),
        ("[data]\nsplit = 'all'", ": data.split: expected one of train, val, test, found 'all'"),
        ("[run]\ndevice = 'tpu'", ": run.device: expected one of auto, cpu, cuda, found 'tpu'"),
        ("[model]\nscale = 3", ": model.scale: expected one of 2, 4, 8, found 3"),
        ("[model]\nscale = 4.0", ": model.scale: expected one of 2, 4, 8, found 4.0"),
        ("[model]\narchitecture = 'irn'", ": model.architecture: expected one of dinn360, found 'irn'"),
        ("[model]\npreset = 'custom'", ": model.preset: expected one of base, edge, "),
        ("[model]\nwindow = 7", ": model.window: expected an even number"),
        ("[model]\nlevels = 3", ": model.levels: expected a list, found 3"),
        ("[model]\nlevels = [3]", ": model.levels[0]: expected a table, found 3"),
        ("[[model.levels]]\nblocks = 2", ": model.levels[0]: expected the key width, found it missing"),
        (
            f"[model]\nscale = 2\nlevels = [{{ {LEVEL.replace('heads = 2', 'heads = 0')} }}]",
            ": model.levels[0].heads: ",
        ),
        ("[model]\nmlp_ratio = 0", ": model.mlp_ratio: expected at least 1, found 0"),
        ("[[model.levels]]\nblocks = 'two'", ": model.levels[0].blocks: expected a whole number, found 'two'"),
    ],
)
def test_a_mistake_in_a_config_file_is_named_with_file_and_key(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "run.toml"
    path.write_text(text)
    with pytest.raises(UserError) as error:
        resolve(path, {"data": {"train": "data"}})
    assert str(error.value).startswith(f"{path}: ") and words in str(error.value)


def test_options_override_the_file_which_overrides_the_defaults(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text(
        "[model]\npreset = 'base'\nscale = 2\ndst = false\n[data]\ntrain = 'a'\n[train]\nsteps = 7\nlr = 1\n"
    )
    found = resolve(path, {"train": {"steps": 9}, "model": {"scale": 4}, "data": {}})
    assert found.train == TrainConfig(steps=9, lr=1.0)
    assert found.model == dataclasses.replace(preset("base", 4), dst=False)
    assert found.data == DataConfig(Path("a")) and found.run == RunConfig()
    with pytest.raises(UserError, match="^train.steps: expected at least 1, found 0"):
        resolve(path, {"train": {"steps": 0}})


def test_what_is_stored_is_read_back(tmp_path: Path) -> None:
    data = DataConfig(Path("a"), Path("/b"), layout="odisr", split="train", exclude=Path("c.txt"))
    config = TrainConfig(steps=3, lambda_z=1e-7, alpha=0, lr=1 / 3, precision="bf16", sample_latent=True)
    stored = RunFile(tiny(4, dst=False), data, config, RunConfig("cpu", 2, "composed", True))
    stored.save(tmp_path / "config.toml")
    here = Path.cwd()
    absolute = dataclasses.replace(data, train=here / "a", exclude=here / "c.txt")
    assert resolve(tmp_path / "config.toml", {}) == dataclasses.replace(stored, data=absolute)


def test_the_example_is_the_defaults_and_complete() -> None:
    found = resolve(EXAMPLE, {})
    assert found.train == TrainConfig() and found.model == preset("edge", 4) and found.run == RunConfig()
    text, tables = EXAMPLE.read_text(), tomllib.loads(EXAMPLE.read_text())
    assert set(tables["train"]) == {f.name for f in dataclasses.fields(TrainConfig)}
    for cls in (DataConfig, RunConfig):
        assert all(f"{f.name} = " in text for f in dataclasses.fields(cls))
    assert all(f"{name} = false" in text for name in ABLATIONS)


@pytest.mark.parametrize("name", ABLATIONS)
def test_ablations_are_options_and_keys(tmp_path: Path, name: str) -> None:
    path = tmp_path / "run.toml"
    path.write_text(f"[model]\n{name} = false\n[data]\ntrain = 'a'\n[train]\nalpha = 0\n")
    for found in (resolve(path, {}), resolve(None, {"model": {name: False}, "data": {"train": "a"}})):
        assert found.model == dataclasses.replace(preset("edge", 4), **{name: False})
    assert resolve(path, {}).train.alpha == 0


def test_the_stored_config_repeats_and_resumes_the_run(tmp_path: Path, data: Path) -> None:
    first, again = tmp_path / "first", tmp_path / "again"
    assert run("--config", config_file(tmp_path / "tiny.toml", data), "--out", first, "--steps", 4)[0] == 0
    assert run("--config", first / "config.toml", "--out", again)[0] == 0
    assert losses(first) == losses(again) and len(losses(first)) == 4
    stored = [resolve(folder / "config.toml", {}) for folder in (first, again)]
    assert stored[0] == stored[1] and stored[0].train == dataclasses.replace(SHORT, steps=4)
    assert run("--out", again, "--resume", "--steps", 5)[0] == 0
    assert [step for step, _ in losses(again)] == ["1", "2", "3", "4", "5"]
    assert load_checkpoint(again / "last.pth").config == tiny(2)


def test_a_signal_ends_the_command_with_its_number(tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    take_step = Trainer.take_step

    def stopping(self: Trainer, batch: Batch) -> dict[str, float]:
        if self.step == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return take_step(self, batch)

    monkeypatch.setattr(Trainer, "take_step", stopping)
    code, message = run("--config", config_file(tmp_path / "tiny.toml", data), "--out", tmp_path / "run")
    assert code == 128 + signal.SIGTERM
    assert message.splitlines()[-1] == f"{tmp_path / 'run'}: stopped after step 2 of 6; --resume goes on"
    assert torch.load(tmp_path / "run" / "state.pth", weights_only=True)["step"] == 2


def test_one_process_at_a_time_trains_in_a_folder(tmp_path: Path, data: Path) -> None:
    """Also a second --resume: a run that was told to stop may still have to save what the next would read."""
    out, config = tmp_path / "run", config_file(tmp_path / "tiny.toml", data)
    assert run("--config", config, "--out", out)[0] == 0
    with sole_writer(out):
        code, message = run("--out", out, "--resume", "--steps", 9)
    assert code == 2 and message.splitlines()[-1].endswith(
        f"--out: {out}: expected a folder of its own, found another process training there"
    )
    assert run("--out", out, "--resume", "--steps", 9)[0] == 0
