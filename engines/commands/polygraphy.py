"""python -m engines polygraphy: a recipe that compares TensorRT with ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import click

from engines.commands.types import PATH, SIZE
from engines.support.errors import UserError

ASSETS = Path(__file__).resolve().parents[2] / "assets"


@click.command()
@click.option("--model", type=PATH, required=True, help="A graph of ours: down.onnx or up.onnx.")
@click.option("--out", type=PATH, required=True, help="Folder of the recipe; made if it is not there.")
@click.option("--panorama", "panoramas", type=PATH, multiple=True, help="An image; may be repeated. Default: assets/.")
@click.option("--size", type=SIZE, default="512x256", show_default=True, help="Size to compare at, in HR pixels.")
@click.option("--plugins", type=PATH, help="libdinn360_trt.so of --ops plugin; default: beside the graph.")
@click.option("--library", type=PATH, help="libdinn360_ort.so, for those; default: where a session finds it.")
def polygraphy(
    model: Path,
    out: Path,
    panoramas: tuple[Path, ...],
    size: tuple[int, int],
    plugins: Path | None,
    library: Path | None,
) -> None:
    """Write a folder that compares the graph in TensorRT with ONNX Runtime by Polygraphy: sh FOLDER/run.sh."""
    from engines.polygraphy.recipe import Libraries, write_recipe

    panoramas = panoramas or tuple(sorted(ASSETS.glob("*.png")))
    if not panoramas:
        raise UserError(f"--panorama: expected at least one image, found none in {ASSETS}")
    for path in write_recipe(model, out, panoramas, size, Libraries(plugins, library)):
        click.echo(path)
