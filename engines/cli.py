"""Command line of the device: python -m engines COMMAND. One module of engines/commands for each group of commands."""

import click

from engines.commands import LazyGroup

MODULES = {
    "downscale": "engines.commands.images",
    "upscale": "engines.commands.images",
    "downscale-video": "engines.commands.video",
    "upscale-video": "engines.commands.video",
    "batch": "engines.commands.batch",
    "triton": "engines.commands.triton",
    "build": "engines.commands.build",
    "inspect": "engines.commands.inspect",
    "estimate": "engines.commands.estimate",
}


@click.group(cls=LazyGroup, modules=MODULES, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Panoramas, folders and video through exported graphs, and the engines that run them."""
