"""What exported graphs, and engines built from them, say of themselves in their metadata, checked where it is read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from engines.support.errors import UserError
from engines.support.reading import short, whole_number

LARGEST_SCALE = 64  # ours are 2, 4 and 8; beyond this a number is no factor but damage
_DIRECTIONS: tuple[Literal["down", "up"], ...] = ("down", "up")
LARGEST_NUMBER = 2**40  # of pixels or bytes


def scale_in(where: object, metadata: Mapping[str, str]) -> int:
    """The rescaling factor. Raises UserError, which begins with `where`, when it is missing or none."""
    text = metadata.get("scale")
    scale = whole_number(text, 2, LARGEST_SCALE)
    if scale is None:
        raise UserError(f"{where}: expected the metadata entry scale (2, 4 or 8), found {short(text)}")
    return scale


def direction_in(where: object, metadata: Mapping[str, str]) -> Literal["down", "up"]:
    """Which way the graph goes. Raises UserError, which begins with `where`, when it does not say so."""
    text = metadata.get("direction")
    for direction in _DIRECTIONS:
        if text == direction:
            return direction
    raise UserError(f"{where}: expected the metadata entry direction (down or up), found {short(text)}")


def number_in(metadata: Mapping[str, str], key: str) -> int | None:
    """A number of at least 1, such as a size of tiles; None where it is missing or no number."""
    return whole_number(metadata.get(key), 1, LARGEST_NUMBER)
