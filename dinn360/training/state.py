"""The state of a run on disk: what a run is resumed from, and the one before it in case of damage."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from dinn360.checkpoint import load_tensors
from engines.errors import UserError
from engines.files import atomic_path

FORMAT = "dinn360-training"
LATEST, PREVIOUS = "state.pth", "state.previous.pth"


def save_state(folder: Path, state: dict[str, Any]) -> None:
    """Writes `state` (tensors and plain values) as the latest; the one that was becomes the previous.

    Killed at any moment, it leaves one whole state at least. Raises UserError when the folder cannot be written.
    """
    with atomic_path(folder / LATEST) as temporary:
        torch.save({"format": FORMAT, **state}, temporary)
        if (folder / LATEST).exists():
            os.replace(folder / LATEST, folder / PREVIOUS)


def load_state(folder: Path) -> dict[str, Any]:
    """The latest state, on the CPU, or the previous one where that is missing or damaged.

    Raises:
        UserError: neither can be read; the message is about the latest.
    """
    failures = []
    for path in (folder / LATEST, folder / PREVIOUS):
        try:
            state = load_tensors(path)
            if isinstance(state, dict) and state.get("format") == FORMAT:
                return state
            failures.append(f"{path}: expected a {FORMAT} file")
        except UserError as error:
            failures.append(str(error))
    raise UserError(f"--resume: {failures[0]}")


def has_state(folder: Path) -> bool:
    """Whether a run was saved in the folder."""
    return (folder / LATEST).exists() or (folder / PREVIOUS).exists()
