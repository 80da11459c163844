"""What an exported graph says of itself: which way it goes, by which factor, and with which pixels.

The downscaling graph maps `hr` (1, 3, H, W) to `lr`, not rounded; the upscaling graph maps `lr` to `hr`, clamped to
[0, 1]. Both are floats in [0, 1] and carry their factor as the metadata entry `scale`. Graphs with 8-bit pixels map
uint8 (1, H, W, 3) to uint8 (1, h, w, 3) instead.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from engines.engine_file.label import scale_in
from engines.runtimes.base import Session
from engines.support.errors import UserError

Direction = Literal["down", "up"]
ENDS: dict[Direction, tuple[str, str]] = {"down": ("hr", "lr"), "up": ("lr", "hr")}  # input, output
_KIND = {"down": "a downscaling", "up": "an upscaling"}


def scale_of(session: Session) -> int:
    """Return the rescaling factor (2, 4, 8) that the graph file carries.

    Raises:
        UserError: the entry is missing or not a factor.
    """
    return scale_in(session.path, session.metadata)


def direction_of(session: Session) -> Direction | None:
    """Which way the graph goes, by the names of its tensors; None when it is none of ours."""
    inputs, outputs = ({spec.name for spec in specs} for specs in (session.inputs, session.outputs))
    return next((way for way, (given, made) in ENDS.items() if inputs == {given} and made in outputs), None)


def check_direction(session: Session, direction: Direction) -> None:
    """Refuse a graph that does not go this way.

    Raises:
        UserError: the graph goes the other way, or is none of ours.
    """
    found = direction_of(session)
    if found == direction:
        return
    if found is not None:
        what = f"{_KIND[found]} one ({' -> '.join(ENDS[found])})"
    else:
        inputs, outputs = (sorted(spec.name for spec in specs) for specs in (session.inputs, session.outputs))
        what = f"{', '.join(inputs)} -> {', '.join(outputs)}"
    expected = f"{_KIND[direction]} graph ({' -> '.join(ENDS[direction])})"
    raise UserError(f"{session.path}: expected {expected}, found {what}")


def has_8_bit_pixels(session: Session) -> bool:
    """Whether the graph takes and gives uint8 (B, H, W, 3) pixels instead of floats (B, 3, H, W)."""
    return all(spec.dtype == np.uint8 for spec in (*session.inputs, *session.outputs))
