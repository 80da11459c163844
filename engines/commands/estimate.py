"""python -m engines estimate: a graph's cost on a device, on paper."""

from __future__ import annotations

from pathlib import Path

import click

from engines.commands.types import PATH, SIZE


@click.command()
@click.option("--onnx", "path", type=PATH, required=True, help="A graph of ours, best one with plugin operators.")
@click.option("--target", required=True, help="Device, a name in engines/targets.toml.")
@click.option("--size", type=SIZE, default="3840x1920", show_default=True, help="HR panorama, WIDTHxHEIGHT.")
@click.option("--plot", type=PATH, help="PNG of the roofline (needs matplotlib).")
def estimate(path: Path, target: str, size: tuple[int, int], plot: Path | None) -> None:
    """Multiply-accumulates, traffic, roofline time and peak memory, with and without the plugins.

    An estimate: nothing runs on the device.
    """
    from engines.estimate.roofline import estimate as work_out
    from engines.estimate.table import text
    from engines.targets import find_target

    estimates = work_out(path, find_target(target), size)
    if plot is not None:
        from engines.estimate.chart import draw

        draw(estimates, plot)
    click.echo(text(estimates))
