"""Parameter types that several commands take."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click


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


PATH = click.Path(path_type=Path)
SIZE = SizeType()
