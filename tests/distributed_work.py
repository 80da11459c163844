"""A run of a tiny network for processes that torchrun starts: `distributed_work.py OUT`.

One crop of the third batch is not a number, so that one of the processes alone sees a loss that is not finite.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from training_runs import GENTLE, SHORT, make

from dinn360.data.crops import Batch
from dinn360.training.config import TrainConfig
from dinn360.training.processes import Processes, join
from dinn360.training.train import Trainer
from engines.support.arrays import Image8

CONFIG: TrainConfig = replace(SHORT, steps=8, batch=4, deform_from=0.5, backflow=0.5, lr=GENTLE, clip_norm=0.1)
BROKEN = 2  # the step whose last crop is broken


def image() -> Image8:
    return np.random.default_rng(0).integers(0, 256, (64, 128, 3), dtype=np.uint8)


def trainer(out: Path, processes: Processes) -> Trainer:
    made = make(out, image(), CONFIG, processes)
    crops = made.crops

    def broken(step: int) -> Batch:
        batch = crops(step)
        if step == BROKEN and crops.numbers[-1] == CONFIG.batch - 1:
            batch.x[-1] = float("nan")
        return batch

    broken.description = crops.description  # type: ignore[attr-defined]
    made.crops = broken  # type: ignore[assignment]
    return made


if __name__ == "__main__":
    with join("cpu") as processes:
        trainer(Path(sys.argv[1]), processes).run()
