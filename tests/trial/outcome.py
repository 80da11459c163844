"""A command of the trial, and what clean means."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from fuzz.oracle import Case, Command, run

from trial.pool import Pool

ROOT = Path(__file__).parents[2]
SECONDS = 120  # that a command may take
ANY = ""  # no words in particular


@dataclass(frozen=True)
class Trial:
    """A command line on files of the pool.

    words: the command line without `python -m`; a word that names a file of the pool is that file. files: others that
    it needs. says: what the error must contain, of a bad one; may_work: it may also end well, with a whole result.
    makes: what is there afterwards, of a good one.
    """

    words: tuple[str, ...]
    says: str = ANY
    files: tuple[str, ...] = ()
    may_work: bool = False
    makes: tuple[str, ...] = field(default=())

    @property
    def title(self) -> str:
        words = (*self.words, *(f"[{file}]" for file in self.files))
        return " ".join(word if 0 < len(word) < 90 else f"({len(word)} characters)" for word in words)

    def contents(self, pool: Pool) -> dict[str, bytes]:
        """The files of its folder."""
        words = [word.partition("=")[2] if word.startswith("--") and "=" in word else word for word in self.words]
        found = {word.partition("!")[0]: pool.file(word) for word in (*self.files, *words)}
        return {name: data for name, data in found.items() if data is not None}

    def arguments(self, pool: Pool) -> list[str]:
        """Its words as they are typed."""
        return [word.partition("!")[0] if pool.file(word) is not None else word for word in self.words]


def here(trial: Trial, pool: Pool, folder: Path) -> str | None:
    """Runs a trial within this process; what was not clean, None where all was."""
    import dinn360.cli
    import engines.cli
    import export.cli

    groups = {"dinn360": dinn360.cli.main, "engines": engines.cli.main, "export": export.cli.main}
    group, *words = trial.arguments(pool)
    leaves = tuple(name.partition("/")[0] for name in trial.makes) or (
        ("out.png", "out.mkv", "out.mp4") if trial.may_work else ()
    )
    command = Command(groups[group], tuple(words), leaves=leaves, says=trial.says)
    codes, findings = run(Case(trial.contents(pool), (command,)), folder)
    if findings:
        return "; ".join(f"{finding.sort}: {finding.place}: {finding.detail}" for finding in findings)
    return _judge(trial, codes[0], None, folder)


def alone(trial: Trial, pool: Pool, folder: Path) -> str | None:
    """Runs a trial in a process of its own, in a folder that is not there yet."""
    folder.mkdir()
    for name, data in trial.contents(pool).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    before = _tree(folder)
    command = [sys.executable, "-m", *trial.arguments(pool)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    try:
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=SECONDS, errors="replace"
        )
    except subprocess.TimeoutExpired:
        return f"more than {SECONDS} s"
    if "Traceback" in done.stdout + done.stderr:
        return f"traceback: {done.stderr[-1500:]}"
    new = _tree(folder) - before
    if done.returncode and new:
        return f"left {sorted(new)}"
    return _judge(trial, done.returncode, done.stderr, folder)


def _judge(trial: Trial, status: int, stderr: str | None, folder: Path) -> str | None:
    """stderr: None where the oracle has looked at it."""
    if (folder / "shot").exists():
        return "a pickle was executed"
    if trial.makes or (trial.may_work and status == 0):
        lost = [name for name in trial.makes if not any(folder.glob(name))]
        return f"status {status}, lacks {lost}: {(stderr or '')[-300:]}" if status or lost else None
    if status != 2:
        return f"status {status}, not 2: {(stderr or '')[-300:]}"
    if stderr is None:
        return None
    lines = [line for line in re.split(r"[\r\n]+", stderr.strip()) if not line.startswith(("warning: ", "note: "))]
    if len(lines) != 1 or not lines[0].startswith("error: ") or len(lines[0]) > 1000:
        return f"not one line: {stderr[:500]}"
    return None if trial.says in lines[0] else f"does not say {trial.says!r}: {lines[0]}"


def _tree(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}
