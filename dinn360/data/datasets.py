"""Where the panoramas of a data set lie on disk: the sets of the slides, their successors, and any folder.

A layout says which folder of a set holds the HR images of a split. Layouts as found in public code: ODI-SR and SUN360
in the bundle of LAU-Net and OSRT, Flickr360 and ODV360 as in NTIRE 2023; for F-360iSOD and YouTube360 no layout is
published, so they are a folder of images with an optional list of names, and a folder of frames a clip.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path

from engines.support.errors import UserError

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"}
SPLITS = {"train": ("training", "train"), "val": ("validation", "valid", "val"), "test": ("testing", "test")}


@dataclass(frozen=True)
class Layout:
    """top: folders in which the splits may lie, beside the root itself. hr: names of the folder of HR images in a
    split, any of them; empty: the split itself. splits: whether the set is divided. clips: images are frames in one
    folder a clip, of which every `step`-th is taken."""

    top: tuple[str, ...]
    hr: tuple[str, ...]
    splits: bool = True
    clips: bool = False
    step: int = 1


LAYOUTS = {
    "folder": Layout((), (), splits=False),
    "odisr": Layout(("odisr", "ODI-SR", "ODISR", "lau_dataset/odisr"), ("HR",)),
    "sun360": Layout(("sun_test", "SUN360", "lau_dataset/sun_test"), ("HR",), splits=False),
    "f-360isod": Layout((), (), splits=False),
    "youtube360": Layout((), (), splits=False, clips=True, step=10),
    "flickr360": Layout(("flickr360", "Flickr360"), ("HR", "GT")),
    "odv360": Layout(("odv360", "ODV360"), ("GT", "HR"), clips=True, step=10),
}


@dataclass(frozen=True)
class Selection:
    """Which images of a folder to take.

    layout: a name of LAYOUTS. split: "train", "val" or "test"; None takes all there are. exclude: a list of images to
    leave out (`read_exclusions`). names: a text file of the only names to take, one a line, suffix optional.
    """

    layout: str = "folder"
    split: str | None = None
    exclude: Path | None = None
    names: Path | None = None


def select(folder: Path, selection: Selection | None = None) -> list[Path]:
    """The image files of a data set, sorted.

    Raises:
        UserError: the folder is missing, is not of that layout (the message says what was looked for), or no image is
            left after the lists.
    """
    selection = selection or Selection()
    if selection.layout not in LAYOUTS:
        raise UserError(f"expected one of {', '.join(LAYOUTS)}, found {selection.layout!r}", "layout")
    if not folder.is_dir():
        raise UserError(f"{folder}: expected a folder of panoramas, found {'a file' if folder.exists() else 'nothing'}")
    layout = LAYOUTS[selection.layout]
    groups = _hr_folders(folder, selection)
    paths = []
    for split, place in groups:
        skip = read_exclusions(selection.exclude, split) if selection.exclude else set()
        found = _frames(place, layout.step) if layout.clips else sorted(p for p in place.rglob("*") if _is_image(p))
        paths += [path for path in found if path.stem not in skip]
    if selection.names:
        wanted = set(_lines(selection.names, "names"))
        paths = [path for path in paths if path.name in wanted or path.stem in wanted]
    if not paths:
        shown = ", ".join(str(place) for _, place in groups)
        listed = " that the lists leave" if selection.exclude or selection.names else ""
        raise UserError(f"{shown}: expected images ({', '.join(sorted(SUFFIXES))}){listed}, found none")
    return paths


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and path.is_file() and not path.name.startswith(".")


def _frames(place: Path, step: int) -> list[Path]:
    """Every `step`-th frame of each clip (a folder), clips and frames in the order of names."""
    frames = []
    for clip in sorted(path for path in place.iterdir() if path.is_dir()):
        frames += sorted(path for path in clip.iterdir() if _is_image(path))[::step]
    return frames


def _hr_folders(folder: Path, selection: Selection) -> list[tuple[str | None, Path]]:
    """(split, folder of HR images) for each split asked for."""
    layout = LAYOUTS[selection.layout]
    roots = [folder, *(folder / top for top in layout.top if (folder / top).is_dir())]
    if not layout.splits:
        if selection.split:
            raise UserError(f"the layout {selection.layout} has no splits, found {selection.split!r}", "split")
        for root in reversed(roots):  # the deeper one knows better
            hr = _inside(root, layout.hr)
            if hr is not None:
                return [(None, hr)]
        raise UserError(f"{folder}: expected the layout {selection.layout} ({' or '.join(layout.hr)}/*), found no such")
    found: list[tuple[str | None, Path]] = []
    for split in [selection.split] if selection.split else SPLITS:
        if split not in SPLITS:
            raise UserError(f"expected one of {', '.join(SPLITS)}, found {split!r}", "split")
        for place in (root / name for root in roots for name in SPLITS[split]):
            hr = _inside(place, layout.hr)
            if hr is not None:
                found.append((split, hr))
                break
    if not found:
        looked = " or ".join(f"{name}/{layout.hr[0]}" for name in SPLITS[selection.split or "train"])
        raise UserError(
            f"{folder}: expected the layout {selection.layout} ({looked}, also below "
            f"{' or '.join(layout.top)}), found no such folder"
        )
    return found


def _inside(place: Path, names: tuple[str, ...]) -> Path | None:
    if not names:
        return place if place.is_dir() else None
    return next((place / name for name in names if (place / name).is_dir()), None)


def read_exclusions(path: Path, split: str | None) -> set[str]:
    """Stems of the images to leave out.

    Two forms: OSRT's make_clean_lau_dataset.py, whose dictionaries train_dict, validation_dict, test_dict, suntest_dict
    map stems to reasons (read as literals, never run); or text lines "stem" or "stem: reason", "#" starts a comment.
    `split` picks the dictionary; None takes suntest_dict (SUN360 has no splits).

    Raises:
        UserError: the file cannot be read or holds no such dictionary.
    """
    if path.suffix != ".py":
        return {line.split(":")[0].strip() for line in _lines(path, "exclude")}
    name = {"train": "train_dict", "val": "validation_dict", "test": "test_dict", None: "suntest_dict"}[split]
    try:
        tree = ast.parse("\n".join(_lines(path, "exclude", comments=False)))
    except SyntaxError as error:
        message = f"{path}: expected Python as in OSRT's list, found an error in line {error.lineno}"
        raise UserError(message, "exclude") from None
    except (ValueError, RecursionError, MemoryError):  # NUL characters; nested too deeply for the parser
        message = f"{path}: expected Python as in OSRT's list, found something else"
        raise UserError(message, "exclude") from None
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == name:
            try:
                return set(ast.literal_eval(node.value))
            except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
                break
    raise UserError(f"{path}: expected a dictionary {name} of literals, found none", "exclude")


def _lines(path: Path, about: str, comments: bool = True) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: expected a readable text file: {error}", about) from None
    if not comments:
        return lines
    return [line for line in (raw.split("#")[0].strip() for raw in lines) if line]
