"""Command line of the network: python -m dinn360 train | ablate | evaluate | data | info | downscale | upscale."""

from __future__ import annotations

import click

from engines.commands import LazyGroup

MODULES = {
    "train": "dinn360.commands.train",
    "ablate": "dinn360.commands.ablate",
    "evaluate": "dinn360.commands.evaluate",
    "data": "dinn360.commands.data",
    "info": "dinn360.commands.info",
    "downscale": "dinn360.commands.rescale",
    "upscale": "dinn360.commands.rescale",
}


@click.group(cls=LazyGroup, modules=MODULES, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """DINN360: the network, its training and its evaluation."""
