"""A checkpoint of `edge` x4 with seeded weights: the preset with every operator of ours, of which nothing is released.

python -m tests.device.edge FILE
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from dinn360.checkpoint import Checkpoint, save_checkpoint
from dinn360.networks import build_network, preset
from tests.networks import randomise


def main(path: Path) -> None:
    """Writes it. Offsets are half a pixel, and no layer is an identity."""
    torch.manual_seed(4)
    network = randomise(build_network(preset("edge", 4)), seed=4, std=0.02)
    save_checkpoint(path, Checkpoint(network.config, network.state_dict(), {}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
