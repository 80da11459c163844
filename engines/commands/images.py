"""downscale and upscale: one panorama, a folder or a glob pattern through a graph."""

from __future__ import annotations

import errno
import functools
import json
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
from tqdm import tqdm

from engines.commands import told
from engines.commands.types import PATH, SIZE, SOURCE, THREADS, TILE, NumberRange
from engines.kinds import open_model
from engines.panorama.coding import CHROMA
from engines.panorama.graph import Direction
from engines.panorama.layout import STEREO
from engines.panorama.rescale_file import Options, rescale_file
from engines.panorama.rescaler import Rescaler
from engines.panorama.selection import IMAGES, Job, Sort, select
from engines.runtimes.base import Session
from engines.support.errors import UserError
from engines.support.files import make_folder
from engines.support.progress import progress

_DISK_IS_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}


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


def shared_options(command: Callable[..., None]) -> Callable[..., None]:
    """The arguments and options that both directions have on every command line; given on as `Request`."""

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

    kinds = click.Choice(["png", "jpg", "webp", "avif", "tif"])
    tile = "LR rows and columns that are computed at a time; less takes less memory."
    options: list[Callable[[Any], Any]] = [
        click.option(
            "--quality", type=click.IntRange(1, 100), help="Of JPEG (default 95), AVIF (90), WebP (lossless)."
        ),
        click.option("--format", "kind", type=kinds, default="png", show_default=True, help="Of results in a folder."),
        click.option("--bits", type=click.Choice(["8", "16"]), help="Bits a channel; default: as the original."),
        click.option("--overwrite", is_flag=True, help="Replace results that are there already."),
        SPAN,
        STEREO_OPTION,
        EXACT,
        click.option("--tile", type=TILE, default="auto", show_default=True, help=tile),
        *_SUMMARY,
        OUT,
        PATHS,
    ]
    for option in options:
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


@dataclass
class Tally:
    """What a run has done so far. name: of what it works on."""

    name: str = "panorama"
    done: int = 0
    skipped: int = 0
    failed: list[str] = field(default_factory=list)
    megapixels: float = 0.0
    seconds: float = 0.0
    files: list[dict[str, Any]] = field(default_factory=list)

    def json(self) -> str:
        """The same and what became of each file, on one line."""
        numbers = {"megapixels": round(self.megapixels, 6), "seconds": round(self.seconds, 3)}
        told = {"done": self.done, "skipped": self.skipped, "failed": self.failed, **numbers, "files": self.files}
        return json.dumps(told, ensure_ascii=False)

    def text(self) -> str:
        """One line for the end of a run."""
        parts = [f"{self.done} {self.name}{'' if self.done == 1 else 's'}"]
        if self.done:
            rate = self.megapixels / max(self.seconds, 1e-9)
            parts.append(f"{self.megapixels:.1f} megapixels in {self.seconds:.1f} s: {rate:.2f} megapixels/s")
        if self.skipped:
            parts.append(f"{self.skipped} there already (--overwrite replaces them)")
        if self.failed:
            parts.append(f"{len(self.failed)} failed")
        return ", ".join(parts)

    @contextmanager
    def attempt(self, bar: tqdm, alone: bool) -> Iterator[None]:
        """A file that fails in the block is told and counted, and the others go on; a full disk ends them all."""
        try:
            yield
        except UserError as error:
            cause = error.__cause__
            if alone or (isinstance(cause, OSError) and cause.errno in _DISK_IS_FULL):
                raise
            message = told(click.get_current_context().command, error)
            self.failed.append(message)
            bar.clear()
            click.echo(f"error: {message}", err=True)


@click.command()
@shared_options
@LOSSY
@SUBSAMPLING
@runtime_options
def downscale(
    request: Request, model: Path, threads: int | None, provider: str | None, bits: str | None, **options: Any
) -> None:
    """Downscale each SOURCE (a panorama, a folder or a glob pattern) to TARGET (a file, or a folder for several)."""
    opening = functools.partial(open_model, model, "down", threads, provider)
    run(request, opening, "down", options_of(bits, **options))


@click.command()
@shared_options
@ORIGINAL
@FOREIGN
@runtime_options
def upscale(
    request: Request, model: Path, threads: int | None, provider: str | None, bits: str | None, **options: Any
) -> None:
    """Upscale each SOURCE (best: what downscale made; a file, a folder or a glob pattern) to TARGET."""
    opening = functools.partial(open_model, model, "up", threads, provider)
    run(request, opening, "up", options_of(bits, **options))


def options_of(
    bits: str | None, size: tuple[int, int] | None = None, chroma: str | None = None, **options: Any
) -> Options:
    """The options of a command line as `Options`."""
    ratio = CHROMA[chroma] if chroma else None
    return Options(bits=8 if bits == "8" else 16 if bits else None, size=size, chroma=ratio, **options)


def run(
    request: Request, opening: Callable[[], AbstractContextManager[Session]], direction: Direction, options: Options
) -> None:
    """Rescales what is asked for, with a progress bar and a summary; in a folder, a bad file does not stop the others.

    Raises:
        UserError: nothing could be started, a single file failed, or the disk is full.
        click.exceptions.Exit: 1 when some files of a folder failed.
    """
    jobs, folder = request.select()
    tally = Tally()
    waiting = [job for job in jobs if request.overwrite or not job.target.exists()]
    tally.skipped = len(jobs) - len(waiting)
    with opening() as session, _bar(len(waiting), request.quiet) as bar:
        rescaler = Rescaler(session, direction, options.exact)
        for job in waiting:
            if folder:
                make_folder(job.target.parent, "")
            _one(job, rescaler, options, bar, tally, alone=len(jobs) == 1)
    conclude(tally, request)


def conclude(tally: Tally, request: Request) -> None:
    """Prints the summary; exit status 1 where files failed."""
    report(tally.text(), tally.json(), request.quiet, request.as_json)
    if tally.failed:
        click.get_current_context().exit(1)


def report(text: str, as_json: str, quiet: bool, wants_json: bool) -> None:
    """Prints a summary as the command line asks for it."""
    if wants_json:
        click.echo(as_json)
    elif not quiet:
        click.echo(text)


def _bar(files: int, quiet: bool) -> tqdm:
    """A bar that moves tile by tile."""
    form = "{l_bar}{bar}| {elapsed} < {remaining}{postfix}"
    return progress(total=files, unit="panorama", quiet=quiet, form=form)


def _one(job: Job, rescaler: Rescaler, options: Options, bar: tqdm, tally: Tally, alone: bool) -> None:
    started, before = time.perf_counter(), bar.n

    def advance(done: int, of: int) -> None:
        bar.set_postfix_str(f"{job.source.name}, tile {done} of {of}", refresh=False)
        bar.update(before + done / of - bar.n)

    with tally.attempt(bar, alone):
        result = rescale_file(rescaler, job.source, job.target, options, advance)
        tally.done += 1
        tally.megapixels += result.megapixels
        tally.seconds += time.perf_counter() - started
        tally.files.append(
            {
                "source": str(job.source),
                "target": str(job.target),
                "width": result.width,
                "height": result.height,
                "tiles": result.tiles,
                "seconds": round(result.seconds, 3),
            }
        )
    bar.update(before + 1 - bar.n)
