"""python -m dinn360 evaluate"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click
import numpy as np

from dinn360.codec.coders import CODECS, Coder, parse_coder
from dinn360.commands.selection import selection_options
from dinn360.commands.types import CHECKPOINT
from dinn360.data.crops import read_folder
from dinn360.data.datasets import Selection
from dinn360.evaluation import equal_bytes, rate_distortion
from dinn360.evaluation import evaluate as evaluation
from dinn360.evaluation.published import SETS
from dinn360.evaluation.rate_distortion import QUALITIES
from dinn360.evaluation.systems import BASELINES, Interpolation, Network, Rescaler, System, Upscaler
from engines.commands.types import PATH
from engines.support.arrays import Image8
from engines.support.errors import UserError
from engines.support.files import make_folder, probe_outputs, write_text

FILES = ("results.md", "results.json", "latitude.png", "closeups.png")
CODEC_FILES = ("rate_distortion.md", "rate_distortion.json", "rate_distortion.png")


@click.command()
@click.option("--ckpt", "ckpts", type=CHECKPOINT, multiple=True, help="A checkpoint of ours; may be repeated.")
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
@click.option("--codec", help=f"Through codecs, some of {','.join(CODECS)}, with -420 or -444 for one chroma only.")
@click.option("--quality", default=",".join(map(str, QUALITIES)), show_default=True, help="Of --codec, 1 to 100.")
@click.option("--no-ssim", is_flag=True, help="Leave WS-SSIM out of --codec, which takes as long as all the rest.")
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
    codec: str | None,
    quality: str,
    no_ssim: bool,
    as_json: bool,
    selection: Selection,
) -> None:
    """Rescale every panorama of a folder through an 8-bit LR image by several systems, and compare them.

    With --codec the LR image goes through real codecs, and so does the full picture: quality at equal bytes, also at
    those of the lossless LR file.
    """
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
    if codec is not None:
        coders, qualities = parse_codecs(codec), parse_qualities(quality)
        rate_distortion.check_packages()
    if per_panorama and "bicubic" not in (system.name for system in systems):
        raise UserError("--per-panorama: expected bicubic among --baselines, found it missing")
    if out is not None:
        probe_outputs(out, FILES if codec is None else CODEC_FILES)
    images = read_folder(data, 8 * factor, "panoramas", selection)
    if codec is not None:
        _through_codecs(systems, images, coders, qualities, not no_ssim, out, as_json)
        return
    results = evaluation.evaluate(systems, images, factor)
    text = evaluation.markdown(results, factor, published)
    if per_panorama:
        bicubic = next(r for r in results if r.name == "bicubic")
        mine = results[len(results) - len(networks) :]
        text += "".join(f"\n\n{r.name}\n\n{evaluation.per_panorama(r, bicubic)}" for r in mine)
    values = json.dumps({"scale": factor, "systems": {r.name: r.to_dict() for r in results}}, indent=2)
    click.echo(values if as_json else text)
    if out is not None:
        from dinn360.evaluation.figures import closeups, latitude_plot

        make_folder(out)
        write_text(out / "results.md", text + "\n")
        write_text(out / "results.json", values + "\n")
        detail = sum(evaluation.high_frequency(image, factor) for image in images.values()) / len(images)
        latitude_plot(results, np.asarray(detail), out / "latitude.png")
        closeups(systems, images, out / "closeups.png")
        click.echo(f"{out}: {', '.join(FILES)}", err=as_json)


def parse_codecs(text: str) -> list[Coder]:
    """Coders of a list as "jpeg,avif-444"; a bare name stands for every chroma that the codec has."""
    return [coder for part in text.split(",") for coder in parse_coder(part)]


def parse_qualities(text: str) -> list[int]:
    """Whole numbers 1 to 100 of a list as "50,75". UserError for another one."""
    numbers = [int(part) if part.strip().isdecimal() else 0 for part in text.split(",")]
    if not all(1 <= number <= 100 for number in numbers):
        raise UserError(f"--quality: expected whole numbers 1 to 100, as 50,75,95, found {text}")
    return sorted(set(numbers))


def _through_codecs(
    systems: list[System],
    images: dict[str, Image8],
    coders: list[Coder],
    qualities: list[int],
    ssim: bool,
    out: Path | None,
    as_json: bool,
) -> None:
    """The evaluation at equal bytes, printed; into `out` as rate_distortion.md, .json and .png."""
    curves = rate_distortion.measure(systems, images, coders, qualities, ssim)
    pairs = [system.name for system in systems if isinstance(system, Interpolation)]
    found = rate_distortion.gains(curves, [*pairs[:1], rate_distortion.DIRECT])
    pixels = sum(image.shape[0] * image.shape[1] for image in images.values()) / len(images)
    compared = equal_bytes.compare(curves)
    text = f"{rate_distortion.markdown(curves, found)}\n\n{equal_bytes.markdown(compared, pixels)}"
    told = rate_distortion.to_dict(curves, found, list(images))
    values = json.dumps({**told, "at_lossless_bytes": [asdict(one) for one in compared]}, indent=2)
    click.echo(values if as_json else text)
    if out is not None:
        from dinn360.evaluation.figures import rate_distortion_plot

        make_folder(out)
        write_text(out / "rate_distortion.md", text + "\n")
        write_text(out / "rate_distortion.json", values + "\n")
        rate_distortion_plot(curves, out / "rate_distortion.png")
        click.echo(f"{out}: {', '.join(CODEC_FILES)}", err=as_json)
