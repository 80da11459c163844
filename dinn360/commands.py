"""What the command lines of dinn360 and export share. Imports no torch, so that --help stays fast."""

from __future__ import annotations

import warnings
from typing import Any, TextIO

import click

from engines.errors import UserError


class Group(click.Group):
    """A command group in which a user's mistake ends in one line on stderr and exit status 2, no traceback.

    That holds for UserError and for click's own complaints about options. Warnings are one line each as well.
    """

    def invoke(self, ctx: click.Context) -> Any:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            try:
                return super().invoke(ctx)
            except click.exceptions.NoArgsIsHelpError:
                raise
            except click.UsageError as error:
                message = " ".join(error.format_message().split())
            except UserError as error:
                message = str(error)
            click.echo(f"error: {message}", err=True)
            ctx.exit(2)


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Where in the source a warning was raised says nothing to the person who runs the command."""
    click.echo(f"warning: {' '.join(str(message).split())}", err=True)
