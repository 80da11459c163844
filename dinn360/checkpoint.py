"""Checkpoints: what a trained network is, in one file that executes nothing when it is read.

    {"format": "dinn360-checkpoint", "version": 1, "config": NetworkConfig.to_dict(), "weights": {name: tensor},
     "provenance": {data, steps, revision, figures, ...: plain values}}

Files ending in .safetensors hold the same, with config and provenance as JSON in the header.
"""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from dinn360.networks import NetworkConfig, RescalingNetwork, build_network, config_from_dict
from engines.support.errors import UserError
from engines.support.files import atomic_path, os_reason

FORMAT = "dinn360-checkpoint"
VERSION = 1


@dataclass
class Checkpoint:
    """A network's config and weights, and where they come from (plain JSON values)."""

    config: NetworkConfig
    weights: dict[str, Tensor]
    provenance: dict[str, Any] = field(default_factory=dict)

    def build(self) -> RescalingNetwork:
        """The network in eval mode, fp32. Raises UserError when weights and config do not fit."""
        network = build_network(self.config)
        try:
            network.load_state_dict(self.weights)
        except RuntimeError as error:
            first = " ".join(str(error).split())[:200]
            raise UserError(f"checkpoint: weights do not fit its config: {first}") from None
        return network.eval()


def load_tensors(path: Path) -> Any:
    """torch.load with weights_only; every way in which a file can be wrong becomes a one-line UserError."""
    if path.is_dir():
        raise UserError(f"{path}: expected a checkpoint file, found a folder")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the pickle protocol of files that are no checkpoints
            return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"{path}: no such checkpoint") from None
    except OSError as error:
        raise UserError(f"{path}: cannot read: {os_reason(error)}") from None
    except Exception as error:  # the unpickler raises IndexError, AttributeError and more on damaged bytes
        detail = str(error).split("\n")[0][:120] or type(error).__name__
        raise UserError(
            f"{path}: not a readable checkpoint (truncated, corrupt or of another kind): {detail}"
        ) from None


def save_checkpoint(path: Path | str, checkpoint: Checkpoint) -> None:
    """Writes .pth (torch) or .safetensors, whole or not at all. Raises UserError when it cannot."""
    path = Path(path)
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in checkpoint.weights.items()}
    header = {
        "format": FORMAT,
        "version": VERSION,
        "config": checkpoint.config.to_dict(),
        "provenance": checkpoint.provenance,
    }
    with atomic_path(path) as temporary:
        if path.suffix == ".safetensors":
            save_file(weights, str(temporary), metadata={"dinn360": json.dumps(header)})
        else:
            torch.save({**header, "weights": weights}, temporary)


def load_checkpoint(path: Path | str) -> Checkpoint:
    """Reads what `save_checkpoint` wrote. Raises UserError for a missing, corrupt or foreign file."""
    path = Path(path)
    content = _load_safetensors(path) if path.suffix == ".safetensors" else load_tensors(path)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        found = content.get("format") if isinstance(content, dict) else type(content).__name__
        found = "no format field" if found is None else repr(found)
        raise UserError(f"{path}: expected a {FORMAT} file, found {found}")
    if content.get("version") != VERSION:
        raise UserError(f"{path}: expected checkpoint version {VERSION}, found {content.get('version')!r}")
    config, weights, provenance = (content.get(name) for name in ("config", "weights", "provenance"))
    if not (isinstance(config, dict) and isinstance(weights, dict) and isinstance(provenance, dict)):
        fields = sorted(map(str, content))
        raise UserError(f"{path}: expected the fields config, weights and provenance, found {fields}")
    if not all(isinstance(n, str) and isinstance(t, Tensor) for n, t in weights.items()):
        raise UserError(f"{path}: expected weights to hold tensors by name, found something else")
    try:
        return Checkpoint(config_from_dict(config), weights, provenance)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def _load_safetensors(path: Path) -> dict[str, Any]:
    try:
        with safe_open(str(path), framework="pt") as file:
            header = json.loads((file.metadata() or {}).get("dinn360", "{}"))
            if not isinstance(header, dict):
                raise UserError(f"{path}: expected a {FORMAT} file, found no format field")
            return {**header, "weights": {name: file.get_tensor(name) for name in file.keys()}}
    except FileNotFoundError:
        raise UserError(f"{path}: no such checkpoint") from None
    except (SafetensorError, OSError, json.JSONDecodeError) as error:
        raise UserError(f"{path}: not a readable safetensors checkpoint: {str(error)[:120]}") from None
