"""Command line of the network: python -m dinn360 train | evaluate | data check | info | downscale | upscale."""

from __future__ import annotations

import dataclasses
import functools
import json
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch

from dinn360.checkpoint import load_checkpoint
from dinn360.config import PRESETS, preset
from dinn360.data import Crops, read_folder
from dinn360.datasets import LAYOUTS, SPLITS, Selection, select
from dinn360.info import describe
from dinn360.memory import keep_freed_memory
from dinn360.published import SETS
from dinn360.session import TorchSession
from dinn360.systems import BASELINES, Interpolation, Network, Rescaler, System, Upscaler
from dinn360.train import TrainConfig, Trainer
from dinn360.validate import Validation
from engines.commands import Group, images
from engines.commands.types import PATH, SIZE
from engines.errors import UserError
from engines.files import make_folder, write_text


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """DINN360: the network, its training and its evaluation."""


def selection_options(command: Any) -> Any:
    """Which images of --data to take: --layout, --split, --exclude, --names, given to the command as one Selection."""

    @functools.wraps(command)
    def run(layout: str, split: str | None, exclude: Path | None, names: Path | None, **rest: Any) -> Any:
        return command(selection=Selection(layout, split, exclude, names), **rest)

    for option in (
        click.option("--names", type=PATH, help="Text file: the only images to take, a name a line."),
        click.option("--exclude", type=PATH, help="Images to leave out: a text file, or OSRT's list of bad images."),
        click.option("--split", type=click.Choice(list(SPLITS)), help="Of layouts that have splits; default: all."),
        click.option("--layout", type=click.Choice(list(LAYOUTS)), default="folder", show_default=True),
    ):
        run = option(run)
    return run


def train_options(command: Any) -> Any:
    """One option for each field of TrainConfig, with its default."""
    for field in reversed(dataclasses.fields(TrainConfig)):
        name = "--" + field.name.replace("_", "-")
        default: Any = field.default
        kind: Any
        if isinstance(default, bool):
            name, kind = f"{name}/--no-{name[2:]}", None
        elif isinstance(default, str):
            kind = click.Choice(["fp32", "bf16"])
        else:
            kind = type(default)
        command = click.option(name, default=default, type=kind, show_default=True)(command)
    return command


@main.command()
@click.option("--preset", "preset_name", type=click.Choice(PRESETS), default="edge", show_default=True)
@click.option("--scale", type=int, default=4, show_default=True, help="2, 4 or 8.")
@click.option("--data", type=PATH, required=True, help="Folder of ERP panoramas.")
@click.option("--photographs", type=PATH, help="Folder of ordinary photographs to mix in.")
@click.option("--val", type=PATH, help="Folder of panoramas to validate on.")
@click.option("--out", type=PATH, required=True, help="Folder of the run.")
@click.option("--resume", is_flag=True, help="Continue the run in --out.")
@click.option("--init", type=PATH, help="Start from this checkpoint's weights (fine-tuning).")
@click.option("--threads", type=click.IntRange(min=1), default=None, help="CPU threads (default: all cores).")
@selection_options
@train_options
def train(
    preset_name: str,
    scale: int,
    data: Path,
    photographs: Path | None,
    val: Path | None,
    out: Path,
    resume: bool,
    init: Path | None,
    threads: int | None,
    selection: Selection,
    **settings: Any,
) -> None:
    """Train a network with Algorithm 1 of the slides."""
    keep_freed_memory()
    config = TrainConfig(**settings)
    model = preset(preset_name, scale)
    if config.crop % scale:
        raise UserError(f"--crop: expected a multiple of the scale {scale}, found {config.crop}")
    if threads:
        torch.set_num_threads(threads)
    make_folder(out)
    if not resume and (out / "state.pth").exists():
        raise UserError(f"--out {out}: holds a run already; continue it with --resume or name another folder")
    panoramas = read_folder(data, config.crop, "panoramas", selection)
    photos = read_folder(photographs, config.crop, "photographs") if photographs else {}
    description = f"{len(panoramas)} panoramas ({', '.join(list(panoramas)[:40])})" + (
        f" and {len(photos)} photographs" if photos else ""
    )
    crops = Crops(
        list(panoramas.values()),
        list(photos.values()),
        config.crop,
        config.batch,
        config.seed,
        config.photograph_share,
        description,
    )
    trainer = Trainer(model, config, crops, Validation(val, scale) if val else None, out)
    if resume:
        trainer.resume()
    elif init:
        trainer.start_from(load_checkpoint(init))
    trainer.run()


@main.group()
def data() -> None:
    """Data sets on disk."""


@data.command()
@click.argument("folder", type=PATH)
@selection_options
@click.pass_context
def check(ctx: click.Context, folder: Path, selection: Selection) -> None:
    """Report sizes, projections, duplicates and unreadable files of FOLDER; exit 1 when something deserves a look."""
    from dinn360.survey import survey

    found = survey(select(folder, selection), folder)
    click.echo(found.text())
    ctx.exit(0 if found.clean() else 1)


@main.command()
@click.option("--preset", "preset_name", type=click.Choice(PRESETS), default="edge", show_default=True)
@click.option("--scale", type=int, default=4, show_default=True, help="2, 4 or 8.")
@click.option("--ckpt", type=PATH, help="Describe this checkpoint instead of a preset.")
@click.option("--size", type=SIZE, default="3840x1920", show_default=True, help="HR image to estimate memory for.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def info(preset_name: str, scale: int, ckpt: Path | None, size: tuple[int, int], as_json: bool) -> None:
    """Print parameters, MAC per pixel, receptive field and memory."""
    checkpoint = load_checkpoint(ckpt) if ckpt else None
    figures = describe(checkpoint.config if checkpoint else preset(preset_name, scale), (size[1], size[0]))
    provenance = checkpoint.provenance if checkpoint else None
    if as_json:
        click.echo(json.dumps({**figures.to_dict(), "provenance": provenance}, indent=2))
        return
    click.echo(figures.text())
    for name, value in (provenance or {}).items():
        click.echo(f"{name:<16} {value}")


@main.command()
@click.option("--ckpt", "ckpts", type=PATH, multiple=True, help="A checkpoint of ours; may be repeated.")
@click.option("--data", type=PATH, required=True, help="Folder of ERP panoramas.")
@click.option("--scale", type=click.Choice(["2", "4", "8"]), help="Default: that of the first checkpoint.")
@click.option("--baselines", default="bicubic", show_default=True, help=f"Some of {','.join(BASELINES)}, or all, none.")
@click.option("--rescaler", type=PATH, nargs=2, multiple=True, metavar="DOWN UP", help="A pair of ONNX graphs.")
@click.option("--upscaler", type=PATH, multiple=True, help="An ONNX super-resolution network (1,3,h,w) -> (1,3,sh,sw).")
@click.option("--down", default="bicubic", show_default=True, help="How images are shrunk for --upscaler.")
@click.option("--value-range", type=click.Choice(["1", "255"]), default="1", show_default=True, help="Of --upscaler.")
@click.option("--published", type=click.Choice(SETS), help="Print the slides' rows of this test set below ours.")
@click.option("--out", type=PATH, help="Folder for results.md, results.json, latitude.png and closeups.png.")
@click.option("--per-panorama", is_flag=True, help="Also print one row a panorama for each checkpoint.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@selection_options
def evaluate(
    ckpts: tuple[Path, ...],
    data: Path,
    scale: str | None,
    baselines: str,
    rescaler: tuple[tuple[Path, Path], ...],
    upscaler: tuple[Path, ...],
    down: str,
    value_range: str,
    published: str | None,
    out: Path | None,
    per_panorama: bool,
    as_json: bool,
    selection: Selection,
) -> None:
    """Rescale every panorama of a folder through an 8-bit LR image by several systems, and compare them."""
    from dinn360 import evaluate as evaluation

    networks = [Network.load(path) for path in ckpts]
    scales = {network.network.config.scale for network in networks} | ({int(scale)} if scale else set())
    if len(scales) != 1:
        found = f"scales {', '.join(map(str, sorted(scales)))}" if scales else "neither"
        raise UserError(f"--scale: expected one scale, from --scale or the checkpoints, found {found}")
    factor = scales.pop()
    names = {"all": list(BASELINES), "none": []}.get(baselines, baselines.split(","))
    systems: list[System] = [Interpolation(name.strip(), factor) for name in names]
    systems += [Upscaler(path, down, factor, 255 if value_range == "255" else 1) for path in upscaler]
    systems += [Rescaler(*pair, factor) for pair in rescaler]
    systems += networks
    if not systems:
        raise UserError("--ckpt, --baselines, --rescaler, --upscaler: expected at least one system, found none")
    if out is not None:
        make_folder(out)
    images = read_folder(data, 8 * factor, "panoramas", selection)
    results = evaluation.evaluate(systems, images, factor)
    text = evaluation.markdown(results, factor, published)
    if per_panorama:
        bicubic = next((r for r in results if r.name == "bicubic"), None)
        if bicubic is None:
            raise UserError("--per-panorama: expected bicubic among --baselines, found it missing")
        mine = results[len(results) - len(networks) :]
        text += "".join(f"\n\n{r.name}\n\n{evaluation.per_panorama(r, bicubic)}" for r in mine)
    values = json.dumps({"scale": factor, "systems": {r.name: r.to_dict() for r in results}}, indent=2)
    click.echo(values if as_json else text)
    if out is not None:
        from dinn360.figures import closeups, latitude_plot

        write_text(out / "results.md", text + "\n")
        write_text(out / "results.json", values + "\n")
        detail = sum(evaluation.high_frequency(image, factor) for image in images.values()) / len(images)
        latitude_plot(results, np.asarray(detail), out / "latitude.png")
        closeups(systems, images, out / "closeups.png")
        click.echo(f"{out}: results.md, results.json, latitude.png, closeups.png", err=as_json)


CKPT = click.option("--ckpt", type=PATH, required=True, help="Checkpoint file.")


@main.command()
@images.shared_options
@images.LOSSY
@CKPT
def downscale(request: images.Request, ckpt: Path, bits: str | None, **options: Any) -> None:
    """Downscale SOURCE (a panorama, a folder or a glob pattern) to TARGET, in PyTorch."""
    images.run(request, lambda: TorchSession.load(ckpt, "down"), "down", images.options_of(bits, **options))


@main.command()
@images.shared_options
@images.ORIGINAL
@images.FOREIGN
@CKPT
def upscale(request: images.Request, ckpt: Path, bits: str | None, **options: Any) -> None:
    """Upscale SOURCE (best: what downscale made; a file, a folder or a glob pattern) to TARGET, in PyTorch."""
    images.run(request, lambda: TorchSession.load(ckpt, "up"), "up", images.options_of(bits, **options))
