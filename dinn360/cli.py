"""Command line of the network: python -m dinn360 train | ablate | evaluate | data | info | downscale | upscale."""

from __future__ import annotations

import click

from engines.commands import LazyGroup, version_option

MODULES = {
    "train": ("dinn360.commands.train", "Train a network with Algorithm 1 of the slides."),
    "ablate": ("dinn360.commands.ablate", "Train and evaluate the slides' five ablations."),
    "evaluate": ("dinn360.commands.evaluate", "Compare rescaling systems on a folder of panoramas."),
    "data": ("dinn360.commands.data", "Data sets on disk."),
    "info": ("dinn360.commands.info", "Parameters, MAC per pixel, receptive field, memory."),
    "downscale": ("dinn360.commands.rescale", "Downscale panoramas, in PyTorch."),
    "upscale": ("dinn360.commands.rescale", "Upscale what downscale made, in PyTorch."),
}


@version_option
@click.group(cls=LazyGroup, modules=MODULES, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """DINN360: the network, its training and its evaluation."""
