"""What a benchmark found, as tables of numbers: printed as Markdown, stored as JSON with the machine that it ran on.

A benchmark takes `--save` (`SAVE`, `add_option`) and calls, at its end, `report(...)`. With `--save NAME` the tables go
to benchmarks/results/NAME.json, from where `python -m benchmarks.tables` puts them into README.md, docs/ and so on.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import os
import platform
import re
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click

from engines.support.files import write_text

ROOT = Path(__file__).resolve().parents[1]
FOLDER = Path(__file__).resolve().parent / "results"
SETS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "sve")  # as /proc/cpuinfo names them
PACKAGES = ("numpy", "bjontegaard", "onnxruntime", "openvino", "torch", "pillow", "av", "tensorrt-rtx-cu13")

Cell = str | int | float | None


@dataclass(frozen=True)
class Table:
    """columns: each heading and how its values are written (a format string, as "{:.1f} ms"). rows: the values.

    A value that is None is written as a dash. A string is written as it is.
    """

    title: str
    columns: dict[str, str]
    rows: list[list[Cell]]

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"{self.title}: a row of {len(row)} values for {len(self.columns)} columns")

    def markdown(self) -> str:
        lines = [f"| {' | '.join(self.columns)} |", f"|{'---|' * len(self.columns)}"]
        for row in self.rows:
            cells = (_written(value, form) for value, form in zip(row, self.columns.values(), strict=True))
            lines.append(f"| {' | '.join(cells)} |")
        return "\n".join(lines)


def _written(value: Cell, form: str) -> str:
    if value is None:
        return "–"
    return value if isinstance(value, str) else form.format(value)


_SAVE = "Also store the tables as benchmarks/results/NAME.json."
SAVE = click.option("--save", metavar="NAME", help=_SAVE)  # of a benchmark that is a click command


def add_option(parser: argparse.ArgumentParser) -> None:
    """The same of a benchmark with argparse."""
    parser.add_argument("--save", metavar="NAME", help=_SAVE)


def report(tables: list[Table], notes: list[str], save: str | None) -> None:
    """Prints the tables and notes; with `save` also stores them."""
    for table in tables:
        print(f"\n{table.title}\n\n{table.markdown()}")
    if notes:
        print("\n" + "\n".join(notes))
    if save is not None:
        path = FOLDER / f"{save}.json"
        write_text(path, json.dumps(stored(tables, notes), indent=1, ensure_ascii=False) + "\n")
        print(f"\n{path.relative_to(ROOT)}")


def stored(tables: list[Table], notes: list[str]) -> dict[str, Any]:
    """Everything that a reader has to know of a measurement, in JSON's types."""
    return {
        "command": command(),
        "date": datetime.date.today().isoformat(),
        "revision": _revision(),
        "machine": machine(),
        "versions": versions(),
        "tables": [asdict(table) for table in tables],
        "notes": notes,
    }


def load(path: Path) -> tuple[dict[str, Any], list[Table]]:
    """What `report` stored: the record and its tables."""
    held = json.loads(path.read_text(encoding="utf-8"))
    return held, [Table(**table) for table in held["tables"]]


def command() -> str:
    """The command line of this process, as a user would type it."""
    module = Path(sys.argv[0]).stem
    arguments = [argument for argument in sys.argv[1:] if not argument.startswith("--save=")]
    if "--save" in arguments:
        at = arguments.index("--save")
        del arguments[at : at + 2]
    return " ".join(["python -m", f"benchmarks.{module}", *arguments])


def machine() -> dict[str, Any]:
    """The processor by name, its cores and vector instruction sets, memory in GiB, system and Python."""
    try:
        lines = Path("/proc/cpuinfo").read_text()
    except OSError:
        lines = ""
    name = re.search(r"^model name\s*:\s*(.+)$", lines, re.MULTILINE)
    flags = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", lines, re.MULTILINE)
    held = set(flags.group(1).split()) if flags else set()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 0
    return {
        "processor": name.group(1) if name else platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "instruction sets": [s for s in SETS if s in held],
        "memory GiB": round(memory / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }


def versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _revision() -> str:
    try:
        git = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=10"]
        return subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
