"""The files of the trial by name: whole ones, and what can be wrong with each sort."""

from __future__ import annotations

import functools
import io
import json
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

from fuzz.corpus import ENGINE, Corpus

TEXT = b"This is no file of that sort.\n"
# Values of the wrong type or size for any field of a sidecar.
WRONG: tuple[Any, ...] = (5, "x", [], {}, None, True, -1, 10**30, "9" * 400)


class Shot:
    """What a pickle could do to whoever loads it: make the file `shot`."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path("shot").touch, ()


class Pool:
    """Files by name. `name!damage` is a damaged one; its file has the same suffix."""

    def __init__(self, corpus: Corpus) -> None:
        self._corpus = corpus

    @functools.cached_property
    def whole(self) -> dict[str, bytes]:
        corpus = self._corpus
        made = {**corpus.images, **corpus.lr, **corpus.graphs, **corpus.checkpoint, **corpus.videos}
        made |= {"down.engine": ENGINE, "down.engine.json": json.dumps(corpus.sidecar).encode()}
        return {
            **made,
            "in.png": corpus.images["rgb.png"],
            "list.txt": b"in.png\n",
            "run.toml": corpus.run["run/config.toml"],
        }

    def names(self) -> list[str]:
        """Images to shrink."""
        return sorted(self._corpus.images)

    def damaged(self, name: str, damage: str) -> bytes:
        """`damage`: empty, text, head (16 bytes), half, flipped (a bit in every 50th byte) or one of a sort of file."""
        data = self.whole[name]
        if damage in ("empty", "text", "head", "half"):
            return {"empty": b"", "text": TEXT, "head": data[:16], "half": data[: len(data) // 2]}[damage]
        if damage == "flipped":
            return bytes(byte ^ (4 if at > 200 and at % 50 == 0 else 0) for at, byte in enumerate(data))
        if damage == "huge":  # a PNG that says 100,000 x 100,000 pixels
            return data[:16] + struct.pack(">II", 10**5, 10**5) + data[24:]
        if damage == "pickle":
            return pickle.dumps(Shot())
        if damage == "zip":
            out = io.BytesIO()
            with zipfile.ZipFile(out, "w") as archive:
                archive.writestr("readme", "nothing")
            return out.getvalue()
        return self._changed(data, damage)

    def _changed(self, data: bytes, damage: str) -> bytes:
        """`key=value` with a JSON value: of a sidecar the value of a key, of a TOML file one line."""
        key, _, value = damage.partition("=")
        if data.startswith(b"{"):
            return json.dumps({**json.loads(data), key: json.loads(value)}).encode()
        section, _, name = key.partition(".")
        lines = [line for line in data.decode().splitlines() if not line.startswith(f"{name} =")]
        at = lines.index(f"[{section}]") if f"[{section}]" in lines else len(lines)
        return "\n".join([*lines[: at + 1], f"{name} = {value}", *lines[at + 1 :]]).encode()

    def file(self, word: str) -> bytes | None:
        """The content of a word of a command line that is the name of a file of ours, else None."""
        name, _, damage = word.partition("!")
        if name not in self.whole:
            return None
        return self.damaged(name, damage) if damage else self.whole[name]


def sidecar_fields(corpus: Corpus) -> list[str]:
    """Its keys."""
    return list(corpus.sidecar)
