"""The network in PyTorch behind the interface of a graph's session, so that the panorama code of engines/ runs it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dinn360 import released
from dinn360.checkpoint import Checkpoint, load_checkpoint
from dinn360.networks import RescalingNetwork
from dinn360.sphere import Frame
from dinn360.tiling import tiling
from engines.model import Model
from engines.panorama.graph import Direction
from engines.panorama.rescaler import Tile
from engines.runtimes.base import Session, TensorSpec
from engines.support.arrays import Array
from engines.support.errors import UserError
from engines.support.files import sha256_of

__all__ = ["TorchSession", "load"]

IMAGE = ("batch", 3, "height", "width")


class TorchSession(Session):
    """One direction ("down" or "up") of a network, with the inputs, outputs and metadata of its exported graph.

    Its tiles carry the whole receptive field: slower than a graph's, and exact without a measurement.
    """

    def __init__(
        self,
        network: RescalingNetwork,
        direction: str,
        path: Path,
        model: str = "",
        codec: Mapping[str, str] | None = None,
    ) -> None:
        """network: in eval mode. path: its checkpoint, for messages; model, codec: that file's SHA-256 and codec."""
        network.freeze_inverses()
        dtype: np.dtype[Any] = np.dtype(str(next(network.parameters()).dtype).removeprefix("torch."))
        hr, lr = (TensorSpec(name, IMAGE, dtype) for name in ("hr", "lr"))
        self.network, self.direction, self.path = network, direction, path
        self.inputs, self.outputs = ((hr,), (lr,)) if direction == "down" else ((lr,), (hr,))
        if direction == "up" or network.config.encoder_reads_latitude:
            self.optional = (TensorSpec("omitted", (4,), np.dtype("int64")),)
        told = network.config.told_of_file(direction)
        self.optional += tuple(TensorSpec(name, (1,), np.dtype("float32")) for name in told)
        self.metadata = {
            "direction": direction,
            "scale": str(network.config.scale),
            "checkpoint_sha256": model,
            **tiling(network, direction, measure=False).metadata(),
            **(codec or {}),
        }
        self._device = next(network.parameters()).device
        self.runtime = f"torch {torch.__version__} {self._device.type.upper()}"

    @classmethod
    def load(cls, path: Path, direction: str) -> TorchSession:
        """A checkpoint file. Raises UserError as `load_checkpoint` does."""
        checkpoint = load_checkpoint(path)
        _check_direction(checkpoint, direction, path)
        return cls(checkpoint.build(), direction, path, sha256_of(path), checkpoint.codec)

    @torch.inference_mode()
    def _run(self, arrays: dict[str, Array]) -> dict[str, Array]:
        image, omitted = torch.from_numpy(arrays[self.inputs[0].name]).to(self._device), arrays.get("omitted")
        place = torch.from_numpy(np.zeros(4, np.int64) if omitted is None else omitted)
        coarseness, halved = (
            torch.from_numpy(arrays[name]).to(self._device) if name in arrays else None
            for name in ("coarseness", "halved")
        )
        frame = replace(Frame.of_tile(place, self.network.config.scale, coarseness), halved=halved)
        if self.direction == "down":
            return {"lr": self.network.downscale(image, frame).cpu().numpy()}
        return {"hr": self.network.upscale(image, frame=frame).clamp(0, 1).cpu().numpy()}

    def close(self) -> None:
        """Nothing to free: the network belongs to the caller."""


def load(checkpoint: Path | str, device: str | None = None, tile: Tile = "auto") -> Model:
    """A model in PyTorch.

    Args:
        checkpoint: a released one by name ("x2", "x4", "x8", "x2-codec", "x4-codec"), or a file (.pth, .safetensors).
        device: as torch names it, such as "cpu" or "cuda:0"; None: the first GPU, else the CPU.
        tile: LR rows and columns that are computed at a time, "auto" or "none".

    Raises:
        UserError: there is no such checkpoint, it is damaged or of another kind, or the device is not there.
    """
    path = released.find(checkpoint)
    if not path.exists() and not path.suffix:
        known = ", ".join(released.names())
        raise UserError(f"expected a checkpoint file or one of {known}, found {str(checkpoint)!r}")
    loaded, digest = load_checkpoint(path), sha256_of(path)
    network = loaded.build()
    wanted = device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        network = network.to(wanted)
    except (RuntimeError, AssertionError) as error:  # torch without CUDA asserts
        reason = str(error).splitlines()[0]
        raise UserError(f"device: expected one that torch has here, found {wanted!r}: {reason}") from None

    def opener(direction: Direction) -> Callable[[], Session]:
        def opened() -> Session:
            _check_direction(loaded, direction, path)
            return TorchSession(network, direction, path, digest, loaded.codec)

        return opened

    return Model(str(checkpoint), {"down": opener("down"), "up": opener("up")}, tile)


def _check_direction(checkpoint: Checkpoint, direction: str, path: Path) -> None:
    if direction == "down" and checkpoint.decoder_only:
        raise UserError(f"{path}: expected a network that downscales, found a decoder trained behind bicubic")
