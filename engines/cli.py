"""Command line of the device: python -m engines COMMAND. One module of engines/commands for each group of commands."""

import click

from engines.commands import LazyGroup, version_option

MODULES = {
    "downscale": ("engines.commands.images", "Downscale an image, a folder or a glob pattern."),
    "upscale": ("engines.commands.images", "Upscale what downscale made, or any panorama."),
    "view": ("engines.commands.view", "Decode what a camera in a panorama sees."),
    "downscale-video": ("engines.commands.video", "Downscale the frames of a video."),
    "upscale-video": ("engines.commands.video", "Upscale the frames of a video."),
    "batch": ("engines.commands.batch", "Rescale a folder with many workers."),
    "triton": ("engines.commands.triton", "Write a Triton Inference Server repository."),
    "polygraphy": ("engines.commands.polygraphy", "Write a recipe that compares TensorRT with ONNX Runtime."),
    "build": ("engines.commands.build", "Build an engine and its sidecar."),
    "inspect": ("engines.commands.inspect", "Say what a graph or an engine is."),
}


@version_option
@click.group(cls=LazyGroup, modules=MODULES, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Panoramas, folders and video through exported graphs, and the engines that run them."""
