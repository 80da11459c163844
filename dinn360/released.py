"""The released checkpoints by name: a wheel brings them inside the package, a checkout has them in checkpoints/."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
FOLDERS = (_PACKAGE / "checkpoints", _PACKAGE.parent / "checkpoints")


def names() -> list[str]:
    """The names that `find` knows, such as "x4", in order."""
    return sorted({path.stem for folder in FOLDERS for path in folder.glob("*.pth")})


def find(name: str | Path) -> Path:
    """The file of a released checkpoint; a `name` that is none of theirs is taken as a path and given back."""
    files = (folder / f"{name}.pth" for folder in FOLDERS if str(name) in names())
    return next((path for path in files if path.is_file()), Path(name))
