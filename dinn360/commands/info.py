"""python -m dinn360 info"""

from __future__ import annotations

import json
from pathlib import Path

import click

from dinn360.checkpoint import load_checkpoint
from dinn360.commands.types import CHECKPOINT
from dinn360.configs import configs_are_checked
from dinn360.info import describe
from dinn360.networks import PRESETS, preset
from engines.commands.types import SIZE


@click.command()
@click.option("--preset", "preset_name", type=click.Choice(PRESETS), default="edge", show_default=True)
@click.option("--scale", type=int, default=4, show_default=True, help="2, 4 or 8.")
@click.option("--ckpt", type=CHECKPOINT, help="Describe this checkpoint instead of a preset.")
@click.option("--size", type=SIZE, default="3840x1920", show_default=True, help="HR image to estimate memory for.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def info(preset_name: str, scale: int, ckpt: Path | None, size: tuple[int, int], as_json: bool) -> None:
    """Print parameters, MAC per pixel, receptive field and memory."""
    checkpoint = load_checkpoint(ckpt) if ckpt else None
    with configs_are_checked():
        config = checkpoint.config if checkpoint else preset(preset_name, scale)
        figures = describe(config, (size[1], size[0]))
    provenance = checkpoint.provenance if checkpoint else None
    if as_json:
        click.echo(json.dumps({**figures.to_dict(), "provenance": provenance}, indent=2))
        return
    click.echo(figures.text())
    for name, value in (provenance or {}).items():
        click.echo(f"{name:<16} {value}")
