"""The released checkpoints: a wheel brings them inside the package, a checkout has them in checkpoints/."""

from __future__ import annotations

from pathlib import Path

from engines.support.errors import UserError

_PACKAGE = Path(__file__).resolve().parent
FOLDERS = (_PACKAGE / "checkpoints", _PACKAGE.parent / "checkpoints")


def released(name: str) -> Path:
    """The file of the released checkpoint `name`, such as "x4". Raises UserError, which lists those there are."""
    for folder in FOLDERS:
        if (path := folder / f"{name}.pth").is_file():
            return path
    names = sorted({path.stem for folder in FOLDERS for path in folder.glob("*.pth")})
    raise UserError(f"expected a released checkpoint ({', '.join(names) or 'none is here'}), found {name!r}")
