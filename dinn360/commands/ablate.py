"""python -m dinn360 ablate"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import torch

from dinn360.checkpoint import load_checkpoint
from dinn360.commands.settings import option, setting_options
from dinn360.commands.train import read_crops
from dinn360.configs import configs_are_checked
from dinn360.evaluation.evaluate import evaluate
from dinn360.evaluation.systems import Network
from dinn360.evaluation.validate import Validation
from dinn360.networks import PRESETS, FlatConfig, ModelConfig
from dinn360.networks import preset as named
from dinn360.training.ablation import (
    ADDITIONS,
    Outcome,
    addition,
    draw_curves,
    markdown,
    train_variant,
    variants,
    with_seeds,
)
from dinn360.training.config import TrainConfig
from dinn360.training.memory import check_memory, keep_freed_memory
from dinn360.training.processes import join
from dinn360.training.run_file import DataConfig, RunConfig, resolve
from engines.commands.types import PATH
from engines.support.errors import UserError
from engines.support.files import make_folder, probe_outputs, write_text

FILES = ("ablation.md", "ablation.json", "curves.png")


@click.command()
@click.option("--config", type=PATH, help="TOML file of settings; options given here override it.")
@click.option("--out", type=PATH, required=True, help="Folder of the study: one run a folder, and its results.")
@click.option("--preset", type=click.Choice(PRESETS), help="Size of the network.  [default: edge]")
@click.option("--scale", type=int, help="2, 4 or 8.  [default: 4]")
@click.option(
    "--seeds",
    type=click.IntRange(1, 1000),
    default=2,
    show_default=True,
    help="Runs of the full network and of each rival.",
)
@click.option("--against", type=click.Choice(PRESETS), multiple=True, help="Also this network under the same budget.")
@click.option("--also", type=click.Choice(list(ADDITIONS)), multiple=True, help="Flat DINN360 with this added, too.")
@click.option("--only", multiple=True, help='Only these rows, as "full" or "w/o DST"; may be repeated.')
@setting_options("data", DataConfig)
@setting_options("train", TrainConfig)
@setting_options("run", RunConfig)
def ablate(
    config: Path | None,
    out: Path,
    preset: str | None,
    scale: int | None,
    seeds: int,
    against: tuple[str, ...],
    also: tuple[str, ...],
    only: tuple[str, ...],
    data: dict[str, Any],
    train: dict[str, Any],
    run: dict[str, Any],
) -> None:
    """Train and evaluate the slides' five ablations and the full network under one budget.

    \b
    Writes ablation.md, ablation.json and curves.png to --out.
    Ctrl-C or SIGTERM ends the step and saves; the same command goes on.
    """
    keep_freed_memory()
    model = {name: value for name, value in (("preset", preset), ("scale", scale)) if value is not None}
    settings = resolve(config, {"model": model, "data": data, "train": train, "run": run}, option)
    if not isinstance(settings.model, ModelConfig | FlatConfig):
        raise UserError(f"--preset: expected a DINN360 network, as edge, found {settings.model.preset}")
    if settings.run.init:
        raise UserError(f"--init: expected none, since all variants start from nothing, found {settings.run.init}")
    if settings.data.val is None:
        raise UserError("--val: expected a folder of panoramas to compare on, found none")
    if settings.run.threads:
        torch.set_num_threads(settings.run.threads)
    with configs_are_checked():
        runs = variants(settings.model, settings.train, seeds)
    more = [(name, addition(name, settings.model)) for name in also]
    more += [(name, named(name, settings.model.scale)) for name in against]
    runs += [run for name, model in more for run in with_seeds(name, model, settings.train, seeds)]
    unknown = sorted(set(only) - {run.name for run in runs})
    if unknown:
        names = ", ".join(dict.fromkeys(run.name for run in runs))
        raise UserError(f"--only: expected some of {names}, found {unknown[0]!r}")
    runs = [run for run in runs if not only or run.name in only]

    check_memory(settings.train)
    probe_outputs(out, FILES)
    crops = read_crops(settings.data, settings.train)
    validation = Validation(settings.data.val, settings.model.scale)
    make_folder(out)
    networks = []
    for number, variant in enumerate(runs):
        click.echo(f"{variant.name}, seed {variant.training.seed} ({number + 1} of {len(runs)})", err=True)
        with join(settings.run.device) as processes:
            if processes.world > 1:
                raise UserError(f"torchrun: expected one process for a study, found {processes.world}")
            path = train_variant(variant, crops, validation, out, settings.run, processes)
        if path is None:
            raise UserError(f"{out}: stopped; the same command goes on", "out")
        networks.append(Network(load_checkpoint(path).build(), variant.folder))
    results = evaluate(networks, validation.images, settings.model.scale)
    outcomes = [Outcome(variant, result) for variant, result in zip(runs, results, strict=True)]
    text = markdown(outcomes)
    write_text(out / "ablation.md", text + "\n")
    write_text(out / "ablation.json", json.dumps({r.name: r.to_dict() for r in results}, indent=2) + "\n")
    draw_curves(runs, out, out / "curves.png")
    click.echo(text)
    click.echo(f"{out}: {', '.join(FILES)}")
