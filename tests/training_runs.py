"""Short runs of a tiny network, for the tests of training."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from networks import tiny
from torch import Tensor

from dinn360.data.crops import Batch, Crops
from dinn360.training.config import TrainConfig
from dinn360.training.processes import Processes
from dinn360.training.run_file import DataConfig, RunConfig, RunFile
from dinn360.training.train import Trainer
from engines.support.arrays import Image8
from engines.support.images import write_png

SHORT = TrainConfig(steps=6, batch=2, crop=16, lr=2e-3, warmup=2, latent_interval=2, save_every=3, validate_every=100)

# A rate at which training does not amplify rounding: at SHORT's, a run that differs in the last bit of its weights has
# other losses in the third digit after 20 steps.
GENTLE = 1e-4


def make(
    out: Path, image: Image8, config: TrainConfig = SHORT, processes: Processes | None = None, **changes: Any
) -> Trainer:
    crops = Crops([image], [], config.crop, config.batch, config.seed, 0.0, "forest")
    return Trainer(tiny(2, **changes), config, crops, None, out, processes)


def take(trainer: Trainer) -> dict[str, float]:
    """The next step of a run, without its loop."""
    return trainer.take_step(trainer.batch(trainer.step))


def tensors(trainer: Trainer) -> dict[str, Tensor]:
    """All that a run consists of, by name."""
    found = {f"network.{name}": tensor for name, tensor in trainer.network.state_dict().items()}
    found |= {f"average.{name}": tensor for name, tensor in trainer.average.items()}
    for part, held in trainer.optimiser.state_dict().items():
        for index, state in held["state"].items():
            found |= {f"optimiser.{part}.{index}.{name}": tensor for name, tensor in state.items()}
    return found


class BrokenOffError(Exception):
    pass


def stop_at(trainer: Trainer, step: int, how: Exception | int) -> None:
    """Makes the run break off with an error, or receive a signal, in `step` (counted from 0)."""
    take_step = trainer.take_step

    def stopping(batch: Batch) -> dict[str, float]:
        if trainer.step == step and isinstance(how, Exception):
            raise how
        if trainer.step == step:
            os.kill(os.getpid(), how)
        return take_step(batch)

    trainer.take_step = stopping  # type: ignore[method-assign]


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[bytes], seconds: float = 300) -> None:
    """Until the condition holds; fails when the process ends before."""
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None and time.monotonic() < end, "the process ended too early, or nothing happened"
        time.sleep(0.05)


def panorama_folder(folder: Path, image: Image8) -> Path:
    """A folder with one panorama of 128 x 64 pixels."""
    folder.mkdir()
    write_png(folder / "a.png", np.ascontiguousarray(image[200:264, :128]))
    return folder


def config_file(path: Path, data: Path, config: TrainConfig = SHORT, val: Path | None = None) -> Path:
    """A config file of a tiny x2 network."""
    RunFile(tiny(2), DataConfig(train=data, val=val), config, RunConfig(device="cpu", threads=1)).save(path)
    return path
