"""What the command lines share. Imports no torch and no runtime, so that --help stays fast."""

from __future__ import annotations

import errno
import importlib
import os
import warnings
from typing import Any, TextIO

import click

from engines import __version__
from engines.commands.packages import advice
from engines.support.errors import UserError
from engines.support.files import os_reason
from engines.support.termination import terminable

_LONGEST = 600  # characters of a message


class Group(click.Group):
    """A command group in which a user's mistake ends in one line on stderr and exit status 2, no traceback.

    That holds for UserError, for packages that an extra brings, for click's own complaints about options, and for what
    the system refuses: a file, or memory. Warnings are one line each as well. SIGTERM tidies up as Ctrl-C does.
    """

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """What is wrong with the group's own options looks like what is wrong with a command's."""
        try:
            return super().make_context(*args, **kwargs)
        except click.exceptions.NoArgsIsHelpError:
            raise
        except click.UsageError as error:
            click.echo(f"error: {' '.join(error.format_message().split())}", err=True)
            raise click.exceptions.Exit(2) from error

    def invoke(self, ctx: click.Context) -> Any:
        with warnings.catch_warnings(), terminable():
            warnings.showwarning = _show_warning
            try:
                return super().invoke(ctx)
            except click.exceptions.NoArgsIsHelpError:
                raise
            except click.UsageError as error:
                message = " ".join(error.format_message().split())
            except UserError as error:
                message = told(self.get_command(ctx, ctx.invoked_subcommand or ""), error)
            except ModuleNotFoundError as error:
                if (advised := advice(error)) is None:
                    raise
                message = advised
            except MemoryError as error:
                message = f"not enough memory: {error}" if str(error) else "not enough memory"
            except OSError as error:
                if error.errno == errno.EPIPE:  # nobody reads the output any more, which click knows how to end
                    raise
                where = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes) else ""
                message = UserError(f"{where}{os_reason(error)}").args[0]
            if len(message) > _LONGEST:  # an argument's own text
                message = f"{message[: _LONGEST - 1]}…"
            click.echo(f"error: {message}", err=True)
            ctx.exit(2)


def told(command: click.Command | None, error: UserError) -> str:
    """The error's message, with the option or argument of the command that it is about before it."""
    for parameter in command.params if command and error.about else ():
        if error.about in (parameter.name, *(word.lstrip("-").replace("-", "_") for word in parameter.opts)):
            is_option = isinstance(parameter, click.Option)
            name = max(parameter.opts, key=len) if is_option else parameter.human_readable_name
            return f"{name}: {error.reason}"
    return str(error)


class LazyGroup(Group):
    """A `Group` whose commands are imported when they are asked for, and not to be listed.

    Args:
        modules: the module of each command and its line in --help; the command stands in the module under its own
            name, "-" as "_".
    """

    def __init__(self, *args: Any, modules: dict[str, tuple[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._modules = modules

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._modules)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in self._modules:
            return None
        module, _ = self._modules[name]
        command = getattr(importlib.import_module(module), name.replace("-", "_"))
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in self._modules.items()])


def version_option(command: click.Group) -> click.Group:
    """--version, of all packages of this project."""
    return click.version_option(__version__, "--version", prog_name="dinn360")(command)


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
