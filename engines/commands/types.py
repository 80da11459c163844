"""Parameter types that several commands take."""

from __future__ import annotations

import math
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from engines.panorama.rescaler import Tile


LONGEST_NAME, LONGEST_PATH = 255, 4095  # bytes, of Linux
LONGEST_SIDE = 10**6  # pixels of a panorama; no memory holds more


class PathType(click.Path):
    """The name of a file or folder, there or not: not empty, as unset variables are, and not too long."""

    def __init__(self, pattern: bool = False) -> None:
        """pattern: a glob pattern will do as well, so the value stays a text."""
        super().__init__(path_type=None if pattern else Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        text = os.fspath(value)
        if not text:
            self.fail("expected a name, found an empty text (an unset variable?)", param, ctx)
        if "\0" in text:
            self.fail("expected a name without NUL characters, found one", param, ctx)
        longest = max(len(os.fsencode(part)) for part in text.split(os.sep))
        if longest > LONGEST_NAME or len(os.fsencode(text)) > LONGEST_PATH:
            self.fail(
                f"expected names of at most {LONGEST_NAME} bytes and {LONGEST_PATH} with all folders, "
                f"found {longest} and {len(os.fsencode(text))}",
                param,
                ctx,
            )
        return super().convert(value, param, ctx)


class NumberRange(click.FloatRange):
    """A number within bounds. click's own type lets NaN through, which compares with nothing."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number: float = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail("expected a number, found NaN", param, ctx)
        return number


class SizeType(click.ParamType):
    """An image size as people write it, WIDTHxHEIGHT; its value is (height, width)."""

    name = "WxH"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        if isinstance(value, tuple):
            return value
        found = re.fullmatch(r"([0-9]{1,9})x([0-9]{1,9})", value)
        if found is None or not all(1 <= int(side) <= LONGEST_SIDE for side in found.groups()):
            expected = f"WIDTHxHEIGHT, such as 3840x1920, of at most {LONGEST_SIDE} pixels a side"
            self.fail(f"expected {expected}, found {value[:50]!r}", param, ctx)
        return int(found[2]), int(found[1])


class TileSize(click.ParamType):
    """auto, none, or HEIGHTxWIDTH in LR pixels: its value is "auto", "none" or (height, width)."""

    name = "auto|none|HxW"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Tile:
        if value in ("auto", "none") or isinstance(value, tuple):
            return value
        match = re.fullmatch(r"([1-9][0-9]{0,5})x([1-9][0-9]{0,5})", value)
        if match is None:
            self.fail(f"expected auto, none or HEIGHTxWIDTH such as 256x512, found {value[:50]!r}", param, ctx)
        return int(match[1]), int(match[2])


PATH = PathType()
SOURCE = PathType(pattern=True)
THREADS = click.IntRange(1, max(256, os.cpu_count() or 1))  # more than a processor has only wait for each other
WORKERS = click.IntRange(1, 1024)
SIZE = SizeType()
TILE = TileSize()
