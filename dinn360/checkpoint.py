"""Checkpoints: what a trained network is, in one file that executes nothing when it is read.

    {"format": "dinn360-checkpoint", "version": 1, "config": NetworkConfig.to_dict(), "weights": {name: tensor},
     "digest": SHA-256 of config and weights, "provenance": {data, steps, revision, figures, ...: plain values}}

Files ending in .safetensors hold the same, with everything but the weights as JSON in the header. The digest and, in a
.pth, the checksums of its archive are checked on reading; files from before there was a digest have none.
"""

from __future__ import annotations

import hashlib
import io
import json
import warnings
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from dinn360.configs import config_from_dict
from dinn360.networks import NetworkConfig, RescalingNetwork, build_network
from dinn360.networks.errors import ConfigError
from engines.support.errors import UserError
from engines.support.files import atomic_path, os_reason
from engines.support.reading import short

FORMAT = "dinn360-checkpoint"
VERSION = 1


@dataclass
class Checkpoint:
    """A network's config and weights, and where they come from (plain JSON values)."""

    config: NetworkConfig
    weights: dict[str, Tensor]
    provenance: dict[str, Any] = field(default_factory=dict)

    @property
    def codec(self) -> dict[str, str]:
        """What its LR image was trained to go through, as a graph's metadata says it; empty: it must stay lossless."""
        said = self.provenance.get("codec", {})
        told = {str(name): str(value) for name, value in said.items()} if isinstance(said, dict) else {}
        return told | ({"codec_known": "1"} if told and self.config.knows_file else {})

    @property
    def decoder_only(self) -> bool:
        """Whether it was trained behind a bicubic reduction, so that its encoder never learnt anything."""
        training = self.provenance.get("training", {})
        return isinstance(training, dict) and training.get("downscaler") == "bicubic"

    def build(self) -> RescalingNetwork:
        """The network in eval mode, fp32. Raises UserError when weights and config do not fit."""
        try:
            network = build_network(self.config, sum(tensor.numel() for tensor in self.weights.values()))
        except ConfigError as error:
            raise UserError(f"checkpoint: weights do not fit its config: {error}") from None
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
        _check_archive(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the pickle protocol of files that are no checkpoints
            return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"{path}: no such checkpoint") from None
    except UserError:
        raise
    except OSError as error:
        raise UserError(f"{path}: cannot read: {os_reason(error)}") from None
    except Exception as error:  # the unpickler raises IndexError, AttributeError and more on damaged bytes
        detail = str(error).split("\n")[0][:120] or type(error).__name__
        raise UserError(
            f"{path}: not a readable checkpoint (truncated, corrupt or of another kind): {detail}"
        ) from None


def _check_archive(path: Path) -> None:
    """Compares the contents of a .pth with the checksums in it, which torch.load does not look at."""
    if not zipfile.is_zipfile(path):
        return  # the format from before PyTorch 1.6, or no checkpoint
    with zipfile.ZipFile(path) as archive:
        if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
            raise UserError(f"{path}: expected a checkpoint, which is not compressed, found another archive")
        damaged = archive.testzip()
    if damaged is not None:
        damaged = damaged.partition("/")[2]
        raise UserError(f"{path}: is damaged: {damaged} has another checksum than when it was written")


def digest_of(config: dict[str, Any], weights: dict[str, Tensor]) -> str:
    """SHA-256, 64 hexadecimal digits, of a config (plain values) and of names, types, shapes and bytes of weights."""
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
    for name, tensor in sorted(weights.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def to_bytes(content: dict[str, Any]) -> bytes:
    """What torch.save writes. It reports a full disk by errors of its own inside; files take bytes or an OSError."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def save_checkpoint(path: Path | str, checkpoint: Checkpoint) -> None:
    """Writes .pth (torch) or .safetensors, whole or not at all. Raises UserError when it cannot."""
    path = Path(path)
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in checkpoint.weights.items()}
    config = checkpoint.config.to_dict()
    header = {
        "format": FORMAT,
        "version": VERSION,
        "config": config,
        "digest": digest_of(config, weights),
        "provenance": checkpoint.provenance,
    }
    if path.suffix == ".safetensors":
        content = save(weights, metadata={"dinn360": json.dumps(header)})
    else:
        content = to_bytes({**header, "weights": weights})
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def load_checkpoint(path: Path | str) -> Checkpoint:
    """Reads what `save_checkpoint` wrote. Raises UserError for a missing, corrupt or foreign file."""
    path = Path(path)
    content = _load_safetensors(path) if path.suffix == ".safetensors" else load_tensors(path)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        found = content.get("format") if isinstance(content, dict) else type(content).__name__
        found = "no format field" if found is None else short(found)
        raise UserError(f"{path}: expected a {FORMAT} file, found {found}")
    if content.get("version") != VERSION:
        raise UserError(f"{path}: expected checkpoint version {VERSION}, found {short(content.get('version'))}")
    config, weights, provenance = (content.get(name) for name in ("config", "weights", "provenance"))
    if not (isinstance(config, dict) and isinstance(weights, dict) and isinstance(provenance, dict)):
        fields = sorted(map(str, content))
        raise UserError(f"{path}: expected the fields config, weights and provenance, found {short(fields, 200)}")
    if not all(isinstance(n, str) and isinstance(t, Tensor) and _is_whole(t) for n, t in weights.items()):
        raise UserError(f"{path}: expected weights to hold tensors by name, found something else")
    try:
        network = config_from_dict(config)
        json.dumps(provenance)
        if content.get("digest") not in (None, digest_of(config, weights)):
            raise UserError("is damaged: config or weights are not those that were written (digest)")
    except (TypeError, ValueError, RecursionError):
        raise UserError(f"{path}: expected config and provenance of plain values, found something else") from None
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    return Checkpoint(network, weights, provenance)


def _is_whole(tensor: Tensor) -> bool:
    """Whether it is plain numbers that the file held one by one: not sparse, not one number stretched to many."""
    plain = (
        not tensor.is_complex()
        and tensor.layout == torch.strided
        and tensor.device.type == "cpu"
        and not tensor.is_quantized
    )
    return plain and tensor.untyped_storage().nbytes() >= tensor.numel() * tensor.element_size()


def _load_safetensors(path: Path) -> dict[str, Any]:
    try:
        with safe_open(str(path), framework="pt") as file:
            header = json.loads((file.metadata() or {}).get("dinn360", "{}"))
            if not isinstance(header, dict):
                raise UserError(f"{path}: expected a {FORMAT} file, found no format field")
            return {**header, "weights": {name: file.get_tensor(name) for name in file.keys()}}
    except FileNotFoundError:
        raise UserError(f"{path}: no such checkpoint") from None
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: not a readable safetensors checkpoint: {str(error)[:120]}") from None
