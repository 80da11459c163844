"""python -m engines triton: a model repository for a server."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from engines.commands.types import PATH

if TYPE_CHECKING:
    from engines.triton import Device


COUNT, DELAY = click.IntRange(1, 1024), click.IntRange(0, 10**9)


@click.command()
@click.argument("files", type=PATH, nargs=-1, required=True)
@click.option("--out", type=PATH, required=True, help="Folder of the repository; made if it is not there.")
@click.option("--max-batch", type=COUNT, default=4, show_default=True, help="Requests of one size a run.")
@click.option("--delay", type=DELAY, default=2000, show_default=True, help="Microseconds to wait for them.")
@click.option("--instances", type=COUNT, default=1, show_default=True, help="Copies that run at once.")
@click.option("--device", type=click.Choice(["auto", "cpu", "gpu"]), default="auto", show_default=True)
@click.option("--library", type=PATH, help="libdinn360_ort.so, for graphs with plugin operators.")
@click.option("--overwrite", is_flag=True, help="Replace models that are there.")
def triton(
    files: tuple[Path, ...],
    out: Path,
    max_batch: int,
    delay: int,
    instances: int,
    device: Device,
    library: Path | None,
    overwrite: bool,
) -> None:
    """Write a Triton Inference Server repository that serves FILES (.onnx, .engine, .plan)."""
    from engines.triton import Serving, write_repository

    serving = Serving(max_batch, delay, instances, device, library)
    for folder in write_repository(out, files, serving, overwrite):
        click.echo(f"{folder}/config.pbtxt")
