"""python -m dinn360 train"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, get_args

import click
import torch

from dinn360.checkpoint import load_checkpoint
from dinn360.commands.selection import selection_options
from dinn360.data.crops import Crops, read_folder
from dinn360.data.datasets import Selection
from dinn360.evaluation.validate import Validation
from dinn360.native import Choice, choose_kernels
from dinn360.networks.config import PRESETS, preset
from dinn360.training.memory import keep_freed_memory
from dinn360.training.train import TrainConfig, Trainer
from engines.commands.types import PATH
from engines.errors import UserError
from engines.files import make_folder


def train_options(command: Any) -> Any:
    """One option for each field of TrainConfig, with its default."""
    for field in reversed(dataclasses.fields(TrainConfig)):
        name = "--" + field.name.replace("_", "-")
        default: Any = field.default
        kind: Any
        if isinstance(default, bool):
            name, kind = f"{name}/--no-{name[2:]}", None
        elif isinstance(default, str):
            kind = click.Choice(["fp32", "bf16"])
        else:
            kind = type(default)
        command = click.option(name, default=default, type=kind, show_default=True)(command)
    return command


@click.command()
@click.option("--preset", "preset_name", type=click.Choice(PRESETS), default="edge", show_default=True)
@click.option("--scale", type=int, default=4, show_default=True, help="2, 4 or 8.")
@click.option("--data", type=PATH, required=True, help="Folder of ERP panoramas.")
@click.option("--photographs", type=PATH, help="Folder of ordinary photographs to mix in.")
@click.option("--val", type=PATH, help="Folder of panoramas to validate on.")
@click.option("--out", type=PATH, required=True, help="Folder of the run.")
@click.option("--resume", is_flag=True, help="Continue the run in --out.")
@click.option("--init", type=PATH, help="Start from this checkpoint's weights (fine-tuning).")
@click.option("--threads", type=click.IntRange(min=1), default=None, help="CPU threads (default: all cores).")
@click.option(
    "--kernels",
    type=click.Choice(get_args(Choice)),
    default="auto",
    show_default=True,
    help="Deformable convolutions: C++ kernels, twice as fast, or composed of PyTorch's operators.",
)
@selection_options
@train_options
def train(
    preset_name: str,
    scale: int,
    data: Path,
    photographs: Path | None,
    val: Path | None,
    out: Path,
    resume: bool,
    init: Path | None,
    threads: int | None,
    kernels: Choice,
    selection: Selection,
    **settings: Any,
) -> None:
    """Train a network with Algorithm 1 of the slides."""
    keep_freed_memory()
    config = TrainConfig(**settings)
    model = preset(preset_name, scale)
    if config.crop % scale:
        raise UserError(f"--crop: expected a multiple of the scale {scale}, found {config.crop}")
    if threads:
        torch.set_num_threads(threads)
    make_folder(out)
    if not resume and (out / "state.pth").exists():
        raise UserError(f"--out {out}: holds a run already; continue it with --resume or name another folder")
    panoramas = read_folder(data, config.crop, "panoramas", selection)
    photos = read_folder(photographs, config.crop, "photographs") if photographs else {}
    description = f"{len(panoramas)} panoramas ({', '.join(list(panoramas)[:40])})" + (
        f" and {len(photos)} photographs" if photos else ""
    )
    crops = Crops(
        list(panoramas.values()),
        list(photos.values()),
        config.crop,
        config.batch,
        config.seed,
        config.photograph_share,
        description,
    )
    trainer = Trainer(model, config, crops, Validation(val, scale) if val else None, out)
    click.echo(choose_kernels(trainer.network, kernels))
    if resume:
        trainer.resume()
    elif init:
        trainer.start_from(load_checkpoint(init))
    trainer.run()
