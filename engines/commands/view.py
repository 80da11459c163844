"""view: what a camera in the middle of a panorama sees, decoded where it looks."""

from __future__ import annotations

import json
import time
from pathlib import Path

import click

from engines.commands.options import EXACT, FOREIGN, SPAN, STEREO_OPTION, runtime_options, summary_options
from engines.commands.tally import report
from engines.commands.types import PATH, SIZE, NumberRange
from engines.kinds import open_model
from engines.panorama.camera import WIDEST, View
from engines.panorama.layout import Stereo
from engines.panorama.rescaler import Rescaler
from engines.panorama.viewport import SIDE, Viewports
from engines.support.errors import UserError
from engines.support.files import probe_output
from engines.support.images import write_png

EYES = ["left", "right"]  # also of a pair whose first half is the right eye: the first is "left"
ANGLE = NumberRange(0, WIDEST, min_open=True)
TURN = NumberRange(-36_000, 36_000)  # a hundred times around


@click.command()
@click.argument("source", type=PATH)
@click.argument("target", type=PATH)
@click.option("--yaw", type=TURN, default=0.0, show_default=True, help="Degrees to the right of the middle column.")
@click.option("--pitch", type=NumberRange(-90, 90), default=0.0, show_default=True, help="Degrees upwards.")
@click.option("--roll", type=TURN, default=0.0, show_default=True, help="Degrees that the camera turns clockwise.")
@click.option("--fov", type=ANGLE, default=90.0, show_default=True, help="Horizontal field of view in degrees.")
@click.option("--size", type=SIZE, default="1920x1080", show_default=True, help="Of the picture.")
@click.option("--tile", type=click.IntRange(1, 4096), default=SIDE, show_default=True, help="LR pixels of a tile.")
@click.option("--overwrite", is_flag=True, help="Replace a picture that is there already.")
@click.option("--eye", type=click.Choice(EYES), default="left", show_default=True, help="Of a stereo pair.")
@STEREO_OPTION
@SPAN
@EXACT
@FOREIGN
@runtime_options
@summary_options
def view(
    source: Path,
    target: Path,
    yaw: float,
    pitch: float,
    roll: float,
    fov: float,
    size: tuple[int, int],
    tile: int,
    overwrite: bool,
    eye: str,
    stereo: Stereo | None,
    span: float | None,
    exact: bool,
    foreign: bool,
    model: Path,
    threads: int | None,
    provider: str | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Write the rectilinear picture TARGET (.png) of the LR panorama SOURCE; only what it shows is decoded."""
    camera = View(yaw, pitch, roll, fov, width=size[1], height=size[0])
    if target.suffix.lower() != ".png":
        raise UserError(f"{target}: expected a name that ends in .png, found {target.suffix!r}")
    if target.exists() and not overwrite:
        raise UserError(f"{target}: is there already; give --overwrite to replace it")
    probe_output(target)
    with open_model(model, "up", threads, provider) as session:
        rescaler, which = Rescaler(session, "up", exact), EYES.index(eye)
        with Viewports.open(rescaler, source, foreign, side=tile, eye=which, stereo=stereo, span=span) as panorama:
            started = time.perf_counter()
            picture = panorama.render(camera)
            seconds = time.perf_counter() - started
            share = panorama.decoded / panorama.lr_pixels
    write_png(target, picture[..., :3])
    told = {"width": size[1], "height": size[0], "seconds": round(seconds, 3), "decoded": round(share, 4)}
    text = f"{size[1]}x{size[0]} in {seconds:.1f} s, {100 * share:.0f} % of the panorama decoded"
    report(text, json.dumps(told), quiet, as_json)
