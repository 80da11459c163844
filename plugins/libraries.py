"""Where built libraries are found. Nothing here builds."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

from plugins.build import is_stale

PACKAGED = Path(__file__).resolve().parent / "lib"  # what a platform wheel brings


class MissingLibraryError(Exception):
    """A library is not on this machine; the message names it and the command that builds it, in one line."""


def find(name: str, built: Path, option: str, parts: Sequence[str]) -> Path:
    """The library `name`: the one that the wheel brought, else `built`, where `python -m plugins build` puts it.

    option: that command's, for this library. parts: what it is built from; a warning tells when that has changed since.
    Raises MissingLibraryError.
    """
    if (PACKAGED / name).is_file():
        return PACKAGED / name
    return find_built(built, f"no {name} on this machine", option, parts)


def find_built(path: Path, lacking: str, option: str, parts: Sequence[str]) -> Path:
    """`find` without what a wheel brings; `lacking` is the message where there is none."""
    makes = f"`python -m plugins build {option}` makes it"
    if not path.is_file():
        raise MissingLibraryError(f"{lacking}; {makes}")
    if is_stale(path, parts):
        warnings.warn(f"{path}: its sources have changed since it was built; {makes} anew", stacklevel=3)
    return path
