"""What the command lines that rescale have in common: their arguments and options, and the `Request` these make."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from engines.commands.types import PATH, SIZE, SOURCE, THREADS, NumberRange
from engines.panorama.coding import CHROMA
from engines.panorama.layout import STEREO
from engines.panorama.selection import IMAGES, Job, Sort, select
from engines.support.errors import UserError

EXACT = click.option("--exact", is_flag=True, help="Tiles with the full halo: no 8-bit value differs, at some cost.")
STEREO_OPTION = click.option(
    "--stereo", type=click.Choice(list(STEREO)), help="Where the two eyes lie; default: what the file says."
)
SPAN = click.option(
    "--span",
    type=NumberRange(0, 360, min_open=True),
    help="Degrees across of an eye, 180 for VR180; default: what the file says, else 360, around the circle.",
)
OUT = click.option("-o", "--out", type=PATH, help="TARGET, in place of the last argument: a file or a folder.")
PATHS = click.argument("paths", type=SOURCE, nargs=-1, required=True, metavar="SOURCE... TARGET")
_SUMMARY = (
    click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON."),
    click.option("-q", "--quiet", is_flag=True, help="No progress and no summary; errors and warnings stay."),
)


def summary_options(command: Callable[..., None]) -> Callable[..., None]:
    """--json and --quiet, given on as `as_json` and `quiet`."""
    for option in _SUMMARY:
        command = option(command)
    return command


def taking_request(command: Callable[..., None]) -> Callable[..., None]:
    """The arguments SOURCE... TARGET, --out, --overwrite and the summary options, given on as `Request`.

    The command has an option of its own that is called `kind`: the suffix, without its point, of results in a folder.
    """

    @functools.wraps(command)
    def run(
        paths: tuple[str, ...],
        out: Path | None,
        overwrite: bool,
        kind: str,
        quiet: bool,
        as_json: bool,
        **rest: Any,
    ) -> None:
        command(request=Request.of(paths, out, overwrite, f".{kind}", quiet, as_json), **rest)

    again = click.option("--overwrite", is_flag=True, help="Replace results that are there already.")
    for option in (again, SPAN, STEREO_OPTION, EXACT, *_SUMMARY, OUT, PATHS):
        run = option(run)
    return run


def runtime_options(command: Callable[..., None]) -> Callable[..., None]:
    """--model, --threads and --provider."""
    for option in (
        click.option("--provider", help="Of ONNX Runtime: CPU (default), CUDA, TensorRT or WebGPU."),
        click.option("--threads", type=THREADS, help="CPU threads; default: all cores."),
        click.option("--model", type=PATH, required=True, help="The graph or engine, or a folder that holds it."),
    ):
        command = option(command)
    return command


LOSSY = click.option("--lossy", is_flag=True, help="Insist on a quality that loses what upscaling would restore.")
SUBSAMPLING = click.option(
    "--subsampling",
    "chroma",
    type=click.Choice(list(CHROMA)),
    help="Chroma of JPEG and AVIF; default: what suits the model.",
)
FOREIGN = click.option("--foreign", is_flag=True, help="Upscale images that downscale did not make, without a word.")
ORIGINAL = click.option("--size", type=SIZE, help="Size of the original; default: what the image says.")


@dataclass(frozen=True)
class Request:
    """What a command line asks for. suffix: of results in a folder."""

    sources: tuple[str, ...]
    target: Path
    overwrite: bool
    suffix: str
    quiet: bool = False
    as_json: bool = False

    @classmethod
    def of(cls, paths: tuple[str, ...], out: Path | None, *rest: Any) -> Request:
        """The sources and the target from the arguments of a command line and its --out; UserError for one name."""
        if out is None and len(paths) < 2:
            raise UserError("expected SOURCE and TARGET, or --out TARGET, found one name only")
        return cls(paths, out, *rest) if out is not None else cls(paths[:-1], Path(paths[-1]), *rest)

    def select(self, sort: Sort = IMAGES) -> tuple[list[Job], bool]:
        """The jobs, and whether the target is a folder. UserError also where a file is there and is to stay."""
        jobs, folder = select(self.sources, self.target, self.suffix, sort)
        if not folder and jobs[0].target.exists() and not self.overwrite:
            raise UserError(f"{self.target}: is there already; give --overwrite to replace it")
        return jobs, folder
