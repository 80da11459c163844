"""Command line of the network: python -m dinn360 train | info | downscale | upscale."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import click
import torch

from dinn360.checkpoint import load_checkpoint
from dinn360.config import PRESETS, preset
from dinn360.data import Crops, list_images, read_folder
from dinn360.train import TrainConfig, Trainer
from dinn360.validate import Validation
from engines.errors import UserError


class Group(click.Group):
    """Shows a UserError as one line and exits with 2; no traceback for a user's mistake."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except UserError as error:
            click.echo(f"error: {error}", err=True)
            ctx.exit(2)


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """DINN360: the network, its training and its evaluation."""


def train_options(command: Any) -> Any:
    """One option for each field of TrainConfig, with its default."""
    for field in reversed(dataclasses.fields(TrainConfig)):
        name = "--" + field.name.replace("_", "-")
        default: Any = field.default
        if isinstance(default, bool):
            name, kind = f"{name}/--no-{name[2:]}", None
        elif isinstance(default, str):
            kind = click.Choice(["fp32", "bf16"])
        else:
            kind = type(default)
        command = click.option(name, default=default, type=kind, show_default=True)(command)
    return command


@main.command()
@click.option("--preset", "preset_name", type=click.Choice(PRESETS), default="edge", show_default=True)
@click.option("--scale", type=int, default=4, show_default=True, help="2, 4 or 8.")
@click.option("--data", type=click.Path(path_type=Path), required=True, help="Folder of ERP panoramas.")
@click.option("--photographs", type=click.Path(path_type=Path), help="Folder of ordinary photographs to mix in.")
@click.option("--val", type=click.Path(path_type=Path), help="Folder of panoramas to validate on.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder of the run.")
@click.option("--resume", is_flag=True, help="Continue the run in --out.")
@click.option("--threads", type=int, default=None, help="CPU threads (default: all cores).")
@train_options
def train(
    preset_name: str,
    scale: int,
    data: Path,
    photographs: Path | None,
    val: Path | None,
    out: Path,
    resume: bool,
    threads: int | None,
    **settings: Any,
) -> None:
    """Train a network with Algorithm 1 of the slides."""
    config = TrainConfig(**settings)
    model = preset(preset_name, scale)
    if config.crop % scale:
        raise UserError(f"--crop: expected a multiple of the scale {scale}, found {config.crop}")
    if threads:
        torch.set_num_threads(threads)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out {out}: cannot create the folder: {error.strerror}") from None
    if not resume and (out / "state.pth").exists():
        raise UserError(f"--out {out}: holds a run already; continue it with --resume or name another folder")
    panoramas = read_folder(data, config.crop, "panoramas")
    photos = read_folder(photographs, config.crop, "photographs") if photographs else []
    names = [path.name for path in list_images(data)]
    description = f"{len(panoramas)} panoramas ({', '.join(names[:40])})" + (
        f" and {len(photos)} photographs" if photos else ""
    )
    crops = Crops(panoramas, photos, config.crop, config.batch, config.seed, config.photograph_share, description)
    trainer = Trainer(model, config, crops, Validation(val, scale) if val else None, out)
    if resume:
        trainer.resume()
    trainer.run()
