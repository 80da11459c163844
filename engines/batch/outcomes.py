"""What became of each file: OUT/manifest.jsonl, one line of JSON a file, every file exactly once."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import IO, Any, Literal

from engines.panorama.selection import Job
from engines.support.errors import UserError
from engines.support.files import os_reason, write_text
from engines.support.reading import from_table

NAME = "manifest.jsonl"
JOURNAL = ".manifest.journal"  # what has happened so far in a run that is under way or was cut off


@dataclass(frozen=True)
class Outcome:
    """One line of the manifest.

    status: "done" in this run or an earlier one, "existing" (a result that no manifest knows of) or "failed".
    attempts: how often it was tried. seconds: all attempts. megapixels: HR side. bytes: of the result.
    error: of the last attempt; about: the option that it is about, if any (see `UserError`).
    notes: warnings about the image.
    """

    source: str
    target: str
    status: Literal["done", "existing", "failed"]
    attempts: int = 0
    seconds: float = 0.0
    megapixels: float = 0.0
    bytes: int = 0
    error: str = ""
    notes: tuple[str, ...] = ()
    about: str = ""

    @classmethod
    def from_line(cls, line: str) -> Outcome:
        """The inverse of `to_line`. Raises ValueError for anything else."""
        try:
            values = json.loads(line)
            names = {field.name for field in fields(cls)}
            if not isinstance(values, dict) or not names - {"about"} <= set(values) <= names:  # younger than the others
                raise ValueError("no outcome")
            return from_table("outcome", cls, values)
        except (UserError, RecursionError) as error:
            raise ValueError(str(error)) from None

    def to_line(self) -> str:
        return json.dumps(asdict(self), ensure_ascii=False)


class Manifest:
    """The book of one output folder. A context manager: leaving it writes the manifest, also after an interruption."""

    def __init__(self, folder: Path, jobs: Sequence[Job], overwrite: bool) -> None:
        """Reads what earlier runs did; `waiting` holds the jobs that are left.

        Raises:
            UserError: the folder's manifest is none of ours, or cannot be read.
        """
        self.folder, self.jobs = folder, jobs
        known = {} if overwrite else {o.source: o for o in _read(folder / NAME) + _read(folder / JOURNAL, torn=True)}
        self.outcomes: dict[str, Outcome] = {}
        self.waiting: list[Job] = []
        for job in jobs:
            if overwrite or not job.target.exists():
                self.waiting.append(job)
                continue
            earlier = known.get(str(job.source))
            there = Outcome(str(job.source), str(job.target), "existing", bytes=job.target.stat().st_size)
            self.outcomes[str(job.source)] = earlier if earlier and earlier.status == "done" else there
        self._journal: IO[str] | None = None

    def __enter__(self) -> Manifest:
        try:
            self._journal = (self.folder / JOURNAL).open("a", encoding="utf-8")
        except OSError as error:
            raise UserError(f"{self.folder}: cannot write: {os_reason(error)}") from error
        return self

    def add(self, outcome: Outcome) -> None:
        """Notes an outcome, on disk as well: a run that is killed has its results in the book."""
        assert self._journal is not None
        self.outcomes[outcome.source] = outcome
        self._journal.write(outcome.to_line() + "\n")
        self._journal.flush()

    def __exit__(self, *_: Any) -> None:
        assert self._journal is not None
        self._journal.close()
        lines = [self.outcomes[str(job.source)].to_line() for job in self.jobs if str(job.source) in self.outcomes]
        write_text(self.folder / NAME, "".join(line + "\n" for line in lines))
        (self.folder / JOURNAL).unlink(missing_ok=True)

    def count(self, status: str) -> int:
        """How many files have this status."""
        return sum(outcome.status == status for outcome in self.outcomes.values())


def _read(path: Path, torn: bool = False) -> list[Outcome]:
    """The outcomes in a file, none if it is not there. torn: a last line that was cut off is left out."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UserError(f"{path}: cannot read: {os_reason(error)}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: expected a manifest of this command, found another file") from error
    return list(_parsed(path, lines, torn))


def _parsed(path: Path, lines: Sequence[str], torn: bool) -> Iterable[Outcome]:
    for number, line in enumerate(lines, 1):
        try:
            yield Outcome.from_line(line)
        except (ValueError, TypeError, KeyError) as error:
            if torn and number == len(lines):
                return
            raise UserError(
                f"{path}: line {number}: expected an outcome of this command, found something else"
            ) from error
