"""Parameter types of the commands that take checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from dinn360 import released
from engines.commands.types import PathType


class CheckpointType(PathType):
    """The name of a released checkpoint ("x4") or a file; its value is the file."""

    name = "checkpoint"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        return released.find(super().convert(value, param, ctx))


CHECKPOINT = CheckpointType()
