"""What a command may do with a strange input, and what not."""

from __future__ import annotations

import os
import re
import shutil
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import click
from click.testing import CliRunner

ROOT = Path(__file__).parents[2]
SECONDS = 30  # of the processor that a case may take


@dataclass(frozen=True)
class Command:
    """A command line on the files of a case.

    main: the group. arguments: file names are relative to the folder of the case. makes: what is new when it ends
    well, each with a function that raises when the file is not whole. leaves: names that may be new even when it fails.
    says: what its error must contain.
    """

    main: click.Group
    arguments: tuple[str, ...]
    makes: Mapping[str, Callable[[Path], object]] = field(default_factory=dict)
    leaves: tuple[str, ...] = ()
    says: str = ""


@dataclass(frozen=True)
class Case:
    """Files, and the commands that read them, one after the other."""

    files: Mapping[str, bytes]
    commands: tuple[Command, ...]

    def __repr__(self) -> str:
        lines = [" ".join(map(repr, command.arguments)) for command in self.commands]
        sizes = ", ".join(f"{name} ({len(data)} bytes)" for name, data in self.files.items())
        return f"{sizes}: {'; '.join(lines)}"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """For Hypothesis, which would print all the bytes."""
        printer.text(repr(self))


@dataclass(frozen=True)
class Finding:
    """Something that must not happen. sort: "traceback", "message" or "half-written". place: where, for counting."""

    sort: str
    place: str
    detail: str


def run(case: Case, folder: Path) -> tuple[list[int], list[Finding]]:
    """Runs a case in `folder`, which is emptied before. The exit status of each command, and what was wrong."""
    folder.mkdir(exist_ok=True)
    for entry in list(folder.iterdir()):
        shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
    for name, data in case.files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    before = os.getcwd()
    os.chdir(folder)
    try:
        codes, findings = [], []
        for command in case.commands:
            code, wrong = _run_one(command, folder)
            codes.append(code)
            findings += wrong
        return codes, findings
    finally:
        os.chdir(before)


def _run_one(command: Command, folder: Path) -> tuple[int, list[Finding]]:
    there = _tree(folder)
    result = CliRunner().invoke(command.main, list(command.arguments))
    found: list[Finding] = []
    name = " ".join(command.arguments[:2])
    if result.exc_info and not isinstance(result.exception, SystemExit | None):
        text = "".join(traceback.format_exception(*result.exc_info))
        found.append(Finding("traceback", _place(result.exc_info[2], result.exception), text))
    elif result.exit_code == 2:
        lines = [line for line in re.split(r"[\r\n]+", result.stderr.strip()) if not line.startswith("warning: ")]
        errors = [line for line in lines if line.startswith("error: ")]
        if len(errors) != 1 or lines[-1] != errors[0] or len(errors[0]) > 1500 or "Traceback" in result.stderr:
            found.append(Finding("message", f"{name}: not one line", result.stderr[:2000]))
        elif command.says not in errors[0]:
            found.append(Finding("message", f"{name}: does not say {command.says!r}", errors[0]))
    elif result.exit_code not in (0, 1):
        found.append(Finding("message", f"{name}: status {result.exit_code}", result.output[:2000]))

    new = _tree(folder) - there
    allowed = set(command.leaves) | (set(command.makes) if result.exit_code == 0 else set())
    stray = sorted(path for path in new if not any(path == a or path.startswith(f"{a}/") for a in allowed))
    if stray:
        place = re.sub(r"[0-9a-f]{8,}", "…", stray[0])
        found.append(Finding("half-written", f"{name}: left {place}", f"{stray}\n{result.output[:500]}"))
    if result.exit_code == 0:
        for made, whole in command.makes.items():
            try:
                whole(folder / made)
            except Exception as error:
                found.append(Finding("half-written", f"{name}: {made}: {type(error).__name__}", str(error)))
    return result.exit_code, found


def _tree(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def _place(trace: TracebackType | None, error: BaseException | None) -> str:
    """The type of an exception and the line of ours that it came through last."""
    ours = [frame for frame in traceback.extract_tb(trace) if frame.filename.startswith(str(ROOT))]
    ours = [frame for frame in ours if "/tests/" not in frame.filename and "/.venv/" not in frame.filename]
    frames = ours or traceback.extract_tb(trace)
    where = f"{os.path.relpath(frames[-1].filename, ROOT)}:{frames[-1].name}" if frames else "nowhere"
    return f"{type(error).__name__} in {where}"
