"""Parameter types that several commands take."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from engines.panorama.rescaler import Tile


class SizeType(click.ParamType):
    """An image size as people write it, WIDTHxHEIGHT; its value is (height, width)."""

    name = "WxH"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        if isinstance(value, tuple):
            return value
        found = re.fullmatch(r"(\d+)x(\d+)", value)
        if found is None or not int(found[1]) or not int(found[2]):
            self.fail(f"expected WIDTHxHEIGHT, such as 3840x1920, found {value!r}", param, ctx)
        return int(found[2]), int(found[1])


class TileSize(click.ParamType):
    """auto, none, or HEIGHTxWIDTH in LR pixels: its value is "auto", "none" or (height, width)."""

    name = "auto|none|HxW"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Tile:
        if value in ("auto", "none") or isinstance(value, tuple):
            return value
        match = re.fullmatch(r"([1-9]\d{0,5})x([1-9]\d{0,5})", value)
        if match is None:
            self.fail(f"expected auto, none or HEIGHTxWIDTH such as 256x512, found {value!r}", param, ctx)
        return int(match[1]), int(match[2])


PATH = click.Path(path_type=Path)
SIZE = SizeType()
TILE = TileSize()
