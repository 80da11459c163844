"""Which images of a data set a command takes."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import click

from dinn360.data.datasets import LAYOUTS, SPLITS, Selection
from engines.commands.types import PATH


def selection_options(command: Any) -> Any:
    """Which images of --data to take: --layout, --split, --exclude, --names, given to the command as one Selection."""

    @functools.wraps(command)
    def run(layout: str, split: str | None, exclude: Path | None, names: Path | None, **rest: Any) -> Any:
        return command(selection=Selection(layout, split, exclude, names), **rest)

    for option in (
        click.option("--names", type=PATH, help="Text file: the only images to take, a name a line."),
        click.option("--exclude", type=PATH, help="Images to leave out: a text file, or OSRT's list of bad images."),
        click.option("--split", type=click.Choice(list(SPLITS)), help="Of layouts that have splits; default: all."),
        click.option("--layout", type=click.Choice(list(LAYOUTS)), default="folder", show_default=True),
    ):
        run = option(run)
    return run
