"""python -m dinn360 data"""

from __future__ import annotations

from pathlib import Path

import click

from dinn360.commands.selection import selection_options
from dinn360.data.datasets import Selection, select
from dinn360.survey import survey
from engines.commands import Group
from engines.commands.types import PATH


@click.group(cls=Group)
def data() -> None:
    """Data sets on disk."""


@data.command()
@click.argument("folder", type=PATH)
@selection_options
@click.pass_context
def check(ctx: click.Context, folder: Path, selection: Selection) -> None:
    """Report sizes, projections, duplicates and unreadable files of FOLDER; exit 1 when something deserves a look."""
    found = survey(select(folder, selection), folder)
    click.echo(found.text())
    ctx.exit(0 if found.clean() else 1)
