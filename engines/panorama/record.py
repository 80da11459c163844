"""What a downscaled file says of itself, so that upscaling can restore the original and knows what it has in hand."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.support.errors import UserError

KEYWORD = "DINN360"  # of the PNG text chunk
FORMAT = 1


@dataclass(frozen=True)
class Record:
    """How an LR image came about.

    scale: the factor. model: SHA-256 of the checkpoint (graph metadata `checkpoint_sha256`; empty: unknown).
    width, height, bits: of the original. pixels: SHA-256 of the LR image's colour samples (see `digest`) before the
    file's format; whatever edits or resizes the image changes it. coding: how a file with losses was coded
    (`Coding` as text), so that a second compression shows; empty for a lossless one. layout: of its eyes (`Layout` as
    text), empty for a plain panorama.
    """

    scale: int
    model: str
    width: int
    height: int
    bits: int
    pixels: str
    coding: str = ""
    layout: str = ""

    def to_text(self) -> str:
        """One line of JSON, ASCII only; without what is empty, as readers of plain lossless files expect it."""
        optional = ("coding", "layout")
        values = {name: value for name, value in asdict(self).items() if name not in optional or value}
        return json.dumps({"format": FORMAT, **values}, sort_keys=True)

    @classmethod
    def from_text(cls, text: str) -> Record | None:
        """The inverse of `to_text`; None for anything that is no record of this format."""
        try:
            values: Any = json.loads(text)
            if not isinstance(values, dict) or values.pop("format", None) != FORMAT:
                return None
            record = cls(**values)
        except (ValueError, TypeError, RecursionError):
            return None
        numbers = (record.scale, record.width, record.height, record.bits)
        sane = all(type(number) is int and number > 0 for number in numbers) and record.bits in (8, 16)
        texts = (record.model, record.pixels, record.coding, record.layout)
        return record if sane and all(isinstance(text, str) for text in texts) else None


class Digest:
    """SHA-256 of the colour samples of an image whose rows come one after another."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def update(self, rows: NDArray[Any]) -> None:
        """Adds rows (n, W, 3 or 4) of uint8 or uint16; alpha does not count, 16 bits go in as big-endian."""
        colour = rows[..., :3]
        self._hash.update(np.ascontiguousarray(colour, colour.dtype.newbyteorder(">")).tobytes())

    def text(self) -> str:
        """64 hexadecimal digits."""
        return self._hash.hexdigest()


def check_model(record: Record, model: str, scale: int, source: object) -> None:
    """Refuses an LR image of another model.

    Raises:
        UserError: the record names another scale or another checkpoint than the graph.
    """
    if record.scale != scale:
        raise UserError(f"{source}: was downscaled by {record.scale}, the model upscales by {scale}; give its own")
    if record.model and model and record.model != model:
        raise UserError(
            f"{source}: was downscaled by the model {record.model[:12]}, found the model {model[:12]}; "
            "upscale it with its own model, or as a foreign picture"
        )
