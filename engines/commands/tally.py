"""How a command line tells what it has done: file by file, and at the end."""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import click
from tqdm import tqdm

from engines.commands import told
from engines.commands.options import Request
from engines.support.errors import UserError

_DISK_IS_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}


@dataclass
class Tally:
    """What a run has done so far. name: of what it works on."""

    name: str = "panorama"
    done: int = 0
    skipped: int = 0
    failed: list[str] = field(default_factory=list)
    megapixels: float = 0.0
    seconds: float = 0.0
    files: list[dict[str, Any]] = field(default_factory=list)

    def json(self) -> str:
        """The same and what became of each file, on one line."""
        numbers = {"megapixels": round(self.megapixels, 6), "seconds": round(self.seconds, 3)}
        told = {"done": self.done, "skipped": self.skipped, "failed": self.failed, **numbers, "files": self.files}
        return json.dumps(told, ensure_ascii=False)

    def text(self) -> str:
        """One line for the end of a run."""
        parts = [f"{self.done} {self.name}{'' if self.done == 1 else 's'}"]
        if self.done:
            rate = self.megapixels / max(self.seconds, 1e-9)
            parts.append(f"{self.megapixels:.1f} megapixels in {self.seconds:.1f} s: {rate:.2f} megapixels/s")
        if self.skipped:
            parts.append(f"{self.skipped} there already (--overwrite replaces them)")
        if self.failed:
            parts.append(f"{len(self.failed)} failed")
        return ", ".join(parts)

    @contextmanager
    def attempt(self, bar: tqdm, alone: bool) -> Iterator[None]:
        """A file that fails in the block is told and counted, and the others go on; a full disk ends them all."""
        try:
            yield
        except UserError as error:
            cause = error.__cause__
            if alone or (isinstance(cause, OSError) and cause.errno in _DISK_IS_FULL):
                raise
            message = told(click.get_current_context().command, error)
            self.failed.append(message)
            bar.clear()
            click.echo(f"error: {message}", err=True)


def conclude(tally: Tally, request: Request) -> None:
    """Prints the summary; exit status 1 where files failed."""
    report(tally.text(), tally.json(), request.quiet, request.as_json)
    if tally.failed:
        click.get_current_context().exit(1)


def report(text: str, as_json: str, quiet: bool, wants_json: bool) -> None:
    """Prints a summary as the command line asks for it."""
    if wants_json:
        click.echo(as_json)
    elif not quiet:
        click.echo(text)
