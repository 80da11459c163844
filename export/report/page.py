"""Writes the contents as one HTML file with every picture, style and script inside."""

from __future__ import annotations

import base64
import io
import json
import warnings
from importlib.resources import files
from pathlib import Path

import matplotlib
import numpy as np
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure
from PIL import Image

from dinn360 import __version__
from dinn360.evaluation.interpolation import resize
from engines.support.arrays import Image8
from engines.support.errors import UserError
from engines.support.files import write_text
from export.report.contents import Contents
from export.report.viewer import Viewer, load_viewer

matplotlib.use("Agg")  # no display is needed

WIDEST = 4096  # columns of a picture on the page: what every device's WebGL takes


def write(contents: Contents, path: Path, runtime: Path | None = None) -> None:
    """Writes the page, whole or not at all; `warnings.warn` tells when it has no viewer.

    runtime: as `load_viewer`. Raises UserError when `path` cannot be written, or a given `runtime` is not whole.
    """
    try:
        viewer = load_viewer(runtime)
    except UserError as error:
        if runtime is not None:
            raise
        warnings.warn(f"{error}: the report shows its panoramas flat, without the 360-degree viewer", stacklevel=2)
        viewer = None
    write_text(path, html(contents, viewer))


def html(contents: Contents, viewer: Viewer | None) -> str:
    """The page's text. What comes from files (names, provenance) is escaped. viewer: None shows panoramas flat."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    height, width = contents.pictures["original"].shape[:2]
    shown = min(width, WIDEST)
    scene = {
        "viewer": viewer is not None,
        "scale": contents.scale,
        "width": shown,
        "height": round(height * shown / width),
        "pictures": {name: data_url(_reduced(picture, width)) for name, picture in contents.pictures.items()},
    }
    return environment.from_string(_asset("page.html")).render(
        contents=contents,
        version=__version__,
        size=(width, height),
        small=(contents.pictures["lr"].shape[1], contents.pictures["lr"].shape[0]),
        reduced=shown < width,
        widest=WIDEST,
        plot=Markup(latitude_plot(contents)),
        scene=Markup(json.dumps(scene)),  # base64, names of ours and numbers: nothing that could end the script
        style=Markup((viewer.style if viewer else "") + _asset("page.css")),
        imports=Markup(viewer.imports) if viewer else "",
        licences=viewer.licences if viewer else "",
        script=Markup(_asset("page.js")),
    )


def _asset(name: str) -> str:
    return files("export.report").joinpath(name).read_text(encoding="utf-8")


def _reduced(picture: Image8, width: int) -> Image8:
    """The picture in the proportion in which an image of `width` columns is shown."""
    if width <= WIDEST:
        return picture
    rows, columns = (max(1, round(n * WIDEST / width)) for n in picture.shape[:2])
    return resize(picture, (rows, columns))


def data_url(picture: Image8) -> str:
    """A uint8 (H,W,3) image as the address of a lossless PNG inside the page."""
    memory = io.BytesIO()
    Image.fromarray(picture).save(memory, format="PNG")
    return "data:image/png;base64," + base64.b64encode(memory.getvalue()).decode("ascii")


def latitude_plot(contents: Contents) -> str:
    """Root mean squared luma error by latitude as an SVG element whose text takes the page's colour."""
    edges = np.linspace(90, -90, len(contents.detail) + 1)
    latitude = (edges[:-1] + edges[1:]) / 2
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "dinn360", "font.family": "sans-serif"}):
        figure = Figure(figsize=(8, 3.4), layout="constrained")
        axes = figure.subplots()
        axes.fill_between(latitude, contents.detail, color="0.5", alpha=0.2, lw=0, label="detail that is taken away")
        for (name, error), colour in zip(contents.error.items(), ("#2f7ed8", "#d9822b"), strict=True):
            axes.plot(latitude, error, color=colour, marker="o", markersize=3.5, label=name)
        axes.set(
            xlabel="latitude (degrees)", ylabel="luma error (levels, RMS)", xlim=(-90, 90), xticks=range(-90, 91, 30)
        )
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.25)
        axes.legend(frameon=False, fontsize=9, labelcolor="#808081")
        for part in (axes.xaxis, axes.yaxis):
            part.label.set_color("#808081")
        axes.tick_params(colors="#808081")
        for spine in axes.spines.values():
            spine.set_color("#808081")
        memory = io.StringIO()
        figure.savefig(memory, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = memory.getvalue()
    return svg[svg.index("<svg") :].replace("#808081", "currentColor")
