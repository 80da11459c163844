"""Where built libraries are found. Nothing here builds."""

from __future__ import annotations

from pathlib import Path

PACKAGED = Path(__file__).resolve().parent / "lib"  # what a platform wheel brings


class MissingLibraryError(Exception):
    """A library is not on this machine; the message names it and the command that builds it, in one line."""


def find(name: str, built: Path, option: str) -> Path:
    """The library `name`: the one that the wheel brought, else `built`, where `python -m plugins build` puts it.

    option: that command's, for this library. Raises MissingLibraryError.
    """
    for path in (PACKAGED / name, built):
        if path.is_file():
            return path
    raise MissingLibraryError(f"no {name} on this machine; `python -m plugins build {option}` makes it")
