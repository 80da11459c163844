"""Which files a command works on, and where each result goes."""

from __future__ import annotations

import glob
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from engines.panorama.sinks import FORMATS
from engines.support.errors import UserError

READABLE = {*FORMATS, ".bmp", ".ppm", ".gif", ".jp2", ".avif"}


@dataclass(frozen=True)
class Job:
    """One file to read and the file that it becomes."""

    source: Path
    target: Path


@dataclass(frozen=True)
class Sort:
    """What a command works on: its name in messages, the suffixes to look for in folders, and those of results."""

    name: str
    readable: frozenset[str]
    writable: tuple[str, ...]


IMAGES = Sort("an image", frozenset(READABLE), tuple(FORMATS))


def select(sources: Sequence[str], target: Path, suffix: str, sort: Sort = IMAGES) -> tuple[list[Job], bool]:
    """Pairs files with their results.

    Args:
        sources: files, folders (with all below them) and glob patterns.
        target: the result's name when there is one source, a file, and `target` has the suffix of a result; else a
            folder, in which the names, and of a folder its tree, are those of the sources.
        suffix: of results in a folder, e.g. ".png".
        sort: images or videos.

    Returns:
        The jobs in order of name, and whether `target` is a folder.

    Raises:
        UserError: nothing is there, or two sources would become one file.
    """
    if len(sources) == 1:
        return _select_one(sources[0], target, suffix, sort)
    if target.suffix and not target.is_dir():
        raise UserError(
            f"{target}: expected a folder for {len(sources)} sources, found a name that ends in {target.suffix}"
        )
    jobs = [job for source in sources for job in _select_one(source, target, suffix, sort)[0]]
    _check_names(jobs)
    return jobs, True


def _select_one(source: str, target: Path, suffix: str, sort: Sort) -> tuple[list[Job], bool]:
    path = Path(source)
    if path.is_file():
        if target.suffix.lower() in sort.writable and not target.is_dir():
            return [Job(path, target)], False
        if target.suffix and not target.is_dir():
            known = ", ".join(sort.writable)
            raise UserError(f"{target}: expected a folder or a name that ends in {known}, found {target.suffix}")
        return [Job(path, target / f"{path.stem}{suffix}")], True
    if path.is_dir():
        root, found = path, sorted(path.rglob("*"))
    elif re.search(r"[*?\[]", source):
        root = Path(*_before_pattern(path))
        found = sorted(map(Path, glob.glob(source, recursive=True)))
    else:
        raise UserError(f"{source}: expected {sort.name}, a folder or a glob pattern, found no such file")
    if target.suffix.lower() in sort.writable and not target.is_dir():
        raise UserError(
            f"{target}: expected a folder for what is in {source}, found a name that ends in {target.suffix}"
        )
    inside = target.resolve()
    sources = [
        file
        for file in found
        if file.suffix.lower() in sort.readable
        and not file.name.startswith(".")
        and file.is_file()
        and (inside == root.resolve() or inside not in file.resolve().parents)  # results of an earlier run
    ]
    if not sources:
        raise UserError(f"{source}: expected {sort.name} ({', '.join(sorted(sort.readable))}), found none")
    jobs = [Job(file, target / file.relative_to(root).with_suffix(suffix)) for file in sources]
    _check_names(jobs)
    return jobs, True


def _before_pattern(path: Path) -> list[str]:
    parts: list[str] = []
    for part in path.parts:
        if re.search(r"[*?\[]", part):
            break
        parts.append(part)
    return parts


def _check_names(jobs: list[Job]) -> None:
    first: dict[Path, Path] = {}
    for job in jobs:
        other = first.setdefault(job.target, job.source)
        if other != job.source:
            raise UserError(f"{other} and {job.source} would both become {job.target}; rename one or run them apart")
        if job.target.exists() and job.target.samefile(job.source):
            raise UserError(f"{job.target}: is the source itself; name another folder or format")
