"""The ablation study: the same network with one part off, each under one budget."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from conftest import ASSETS
from networks import tiny, tiny_flat
from PIL import Image
from training_runs import config_file

from dinn360.checkpoint import load_checkpoint
from dinn360.cli import main
from dinn360.evaluation.evaluate import Result as Evaluation
from dinn360.evaluation.evaluate import Scores
from dinn360.evaluation.published import ABLATION
from dinn360.info import describe
from dinn360.networks import FlatConfig, ModelConfig
from dinn360.training.ablation import ADDITIONS, Outcome, Variant, addition, markdown, variants, with_seeds
from dinn360.training.config import TrainConfig
from engines.support.errors import UserError

CONFIG = TrainConfig(steps=3, batch=1, crop=16)


def test_there_is_one_variant_for_each_published_row() -> None:
    found = variants(tiny(4), replace(CONFIG, seed=5), 3)
    assert [v.training.seed for v in found if v.name == "full"] == [5, 6, 7]
    assert {v.name for v in found} == set(ABLATION)
    assert len({v.folder for v in found}) == len(found) == 8


@pytest.mark.parametrize("model", [tiny(4), tiny_flat(4)], ids=["levels", "flat"])
def test_each_variant_lacks_its_part_and_nothing_else(model: ModelConfig | FlatConfig) -> None:
    found = {v.name: v for v in variants(model, CONFIG, 1)}
    full = found["full"]
    for name, field in (
        ("w/o DST", "dst"),
        ("w/o deform", "deform"),
        ("w/o latitude head", "latitude_head"),
        ("w/o content head", "content_head"),
    ):
        assert found[name].training == full.training
        assert getattr(full.model, field) and replace(full.model, **{field: False}) == found[name].model
    assert found["w/o feedback"].model == full.model
    assert replace(full.training, alpha=0.0) == found["w/o feedback"].training != full.training


def test_what_a_network_lacks_is_not_taken_away_and_may_be_added() -> None:
    model = tiny_flat(4, dst=False, margin=8)
    assert "w/o DST" not in {v.name for v in variants(model, CONFIG, 1)}
    added = [with_seeds(name, addition(name, model), replace(CONFIG, seed=3), 2) for name in ADDITIONS]
    assert len({variant.folder for row in added for variant in row}) == 2 * len(ADDITIONS)
    for name, row in zip(ADDITIONS, added, strict=True):
        assert [variant.training.seed for variant in row] == [3, 4]
        assert row[0].model == replace(model, **ADDITIONS[name]) != model  # type: ignore[arg-type]
    with pytest.raises(UserError, match="flat DINN360"):
        addition("with DST", tiny(4))


def outcome(name: str, seed: int, psnr: list[float]) -> Outcome:
    scores = {str(i): Scores(p, 0.5 + i / 10, p, 0.5, 30.0, 0.9) for i, p in enumerate(psnr)}
    variant = next(v for v in variants(tiny(2), replace(CONFIG, seed=seed), 1) if v.name == name)
    return Outcome(variant, Evaluation(name, scores, np.ones(9)))


def test_the_table_compares_with_the_mean_of_the_full_runs() -> None:
    runs = [outcome("full", 0, [30.0, 32.0]), outcome("full", 1, [31.0, 33.0]), outcome("w/o DST", 0, [30.0, 32.2])]
    text = markdown(runs)
    row = next(line for line in text.splitlines() if line.startswith("| w/o DST"))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[2] == "31.100 ± 1.10" and cells[3] == "55.00 ± 5.00"
    assert cells[4] == "-0.400 ± 0.100"  # to 30.5 and 32.5: -0.5 and -0.3
    assert cells[5:7] == ["31.79 / 89.68", "-0.13"]
    assert "2 seeds lie 1.000 dB apart (deviation 0.707 dB)" in text
    assert "noise between runs is unknown" in markdown(runs[:1])


def test_another_network_has_a_row_without_published_figures() -> None:
    other = replace(outcome("full", 0, [29.0, 30.0]), variant=Variant("irn-edge", tiny(2), CONFIG))
    row = markdown([outcome("full", 0, [30.0, 32.0]), other]).splitlines()[3]
    assert row.startswith("| irn-edge | 0 | 29.500 ± 0.50") and "| -1.500 ± 0.500 | – | – |" in row
    moved = describe(tiny(2)).traffic
    assert row.endswith(f"| {moved['downscale']:.0f} + {moved['upscale']:.0f} |")
    alone = markdown([other])
    assert "nan" not in alone and "seed" not in alone.splitlines()[-1]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    with Image.open(ASSETS / "forest.png") as image:
        image.crop((0, 200, 64, 232)).save(folder / "a.png")
        image.crop((300, 200, 364, 232)).save(folder / "b.png")
    return folder


def ablate(data: Path, out: Path, *arguments: object) -> Result:
    """A study of a tiny network in two steps."""
    settings = config_file(out.with_suffix(".toml"), data, replace(CONFIG, steps=2), val=data)
    threads = torch.get_num_threads()
    try:
        return CliRunner().invoke(main, ["ablate", *map(str, ["--config", settings, "--out", out, *arguments])])
    finally:
        torch.set_num_threads(threads)


def test_the_command_trains_prints_and_goes_on(tmp_path: Path, data: Path) -> None:
    out = tmp_path / "study"
    done = ablate(data, out, "--only", "full", "--only", "w/o DST")
    assert done.exit_code == 0, done.output
    table = [line for line in done.stdout.splitlines() if line.startswith("| ")]
    assert [row.split("|")[1].strip() for row in table[2:]] == ["full", "full", "w/o DST"]
    assert (out / "ablation.md").read_text().strip() in done.stdout
    means = {name: r["mean"]["psnr_y"] for name, r in json.loads((out / "ablation.json").read_text()).items()}
    assert f"{means['without-dst-0']:.3f}" in table[4] and set(means) == {"full-0", "full-1", "without-dst-0"}
    assert not load_checkpoint(out / "without-dst-0" / "last.pth").config.dst
    with Image.open(out / "curves.png") as picture:
        assert picture.size[0] > 500

    # Nothing is trained twice; a run with another budget is not taken for this one.
    stamp = (out / "full-0" / "last.pth").stat().st_mtime_ns
    again = ablate(data, out, "--only", "full")
    assert again.exit_code == 0 and (out / "full-0" / "last.pth").stat().st_mtime_ns == stamp
    other = ablate(data, out, "--only", "full", "--lr", 1e-4)
    assert other.exit_code == 2 and "full-0: expected a run with these settings" in other.stderr.splitlines()[-1]


def test_a_broken_off_study_goes_on(tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dinn360.training.train import Trainer

    step = Trainer.take_step

    def broken(self: Trainer, batch: object) -> dict[str, float]:
        if self.step == 3:
            raise KeyboardInterrupt
        return step(self, batch)  # type: ignore[arg-type]

    out, arguments = tmp_path / "study", ("--only", "full", "--seeds", 1, "--steps", 4, "--save-every", 1)
    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "take_step", broken)
        assert ablate(data, out, *arguments).exit_code != 0
    assert ablate(data, out, *arguments).exit_code == 0
    with (out / "full-0" / "train.csv").open() as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["1", "2", "3", "4"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--only", "w/o head"], "--only: expected some of full, w/o DST"),
        (["--seeds", 0], "--seeds"),
        (["--against", "esrgan"], "--against"),
        (["--val", "/nowhere"], "/nowhere"),
        (["--crop", 17], "--crop"),
        (["--init", "x4.pth"], "--init: expected none"),
    ],
)
def test_a_mistake_ends_in_one_line(tmp_path: Path, data: Path, arguments: list[object], words: str) -> None:
    done = ablate(data, tmp_path / "out", *arguments)
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.exit_code == 2 and len(errors) == 1 and words in errors[0]


def test_a_study_needs_panoramas_to_compare_on(tmp_path: Path, data: Path) -> None:
    done = CliRunner().invoke(main, ["ablate", "--data", str(data), "--out", str(tmp_path / "out")])
    assert done.exit_code == 2 and done.stderr.startswith("error: --val: expected")
