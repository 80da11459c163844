"""Command line of the export: python -m export onnx | check | estimate | sensitivity | demo | report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from dinn360.commands.types import CHECKPOINT
from engines.commands import Group, version_option
from engines.commands.types import PATH, SIZE, NumberRange

if TYPE_CHECKING:
    from export.config import IoFormat, Lowering, Precision

# As in export.config and release.KINDS, whose imports would make --help slow.
LOWERINGS = ("standard", "primitive", "plugin", "cpu")
PRECISIONS = ("fp32", "fp16")
KINDS = ("standard", "standard-fp16", "primitive", "primitive-fp16")
RELEASED = ("x2", "x4", "x8", "x2-codec", "x4-codec")
IO_FORMATS = ("float-nchw", "uint8-nhwc")
SERVE = "python -m http.server --directory {} 8000  # then open http://localhost:8000"


@version_option
@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """From a checkpoint to the graphs that go onto devices."""


@main.command("onnx")
@click.option("--ckpt", type=CHECKPOINT, required=True, help="Released checkpoint (x2, x4, x8) or a file.")
@click.option("--out", type=PATH, help="Folder of the graphs; default: build/ and the checkpoint's name.")
@click.option("--ops", type=click.Choice((*LOWERINGS, "web")), default="standard", show_default=True)
@click.option("--opset", type=int, default=19, show_default=True)
@click.option("--precision", type=click.Choice(PRECISIONS), default="fp32", show_default=True)
@click.option("--io", "io_format", type=click.Choice(IO_FORMATS), default="float-nchw", show_default=True)
@click.option(
    "--fold-deformation",
    "folding",
    type=click.Choice(("auto", "never")),
    default="never",
    show_default=True,
    help="auto: plain convolutions where the --calibration panoramas lose less than 0.01 dB.",
)
@click.option("--calibration", type=PATH, multiple=True, help="A panorama for --fold-deformation auto; repeatable.")
def to_onnx(
    ckpt: Path,
    out: Path | None,
    ops: Lowering,
    opset: int,
    precision: Precision,
    io_format: IoFormat,
    folding: str,
    calibration: tuple[Path, ...],
) -> None:
    """Write down.onnx (hr -> lr) and up.onnx (lr -> hr), and a JSON file about each.

    standard uses ONNX DeformConv; primitive only elementary operators; plugin our custom nodes; cpu those and more of
    them, for ONNX Runtime on CPU cores; web is for browsers. fp16 has fp16 data and weights and keeps in fp32 what
    measurement asks for. uint8-nhwc takes and gives 8-bit pixels (B,H,W,3) instead of floats (B,3,H,W).
    """
    from engines.support.errors import UserError
    from engines.support.images import read_panorama
    from export.config import ExportConfig
    from export.onnx import export_checkpoint
    from export.precision.fp32_ops import fp32_ops

    if (folding == "auto") != bool(calibration):
        found = f"--fold-deformation {folding} with {len(calibration)}"
        raise UserError(f"--calibration: expected panoramas with --fold-deformation auto and only there, found {found}")
    config = ExportConfig(ops, opset, precision, io_format)
    panoramas = [read_panorama(path) for path in calibration]
    exported = export_checkpoint(ckpt, out or Path("build") / ckpt.stem, config, panoramas)
    for direction, path in (("down", exported.down), ("up", exported.up)):
        size = path.stat().st_size / 1e6
        kind = f"{precision}, {io_format}, ops {ops}, opset {opset}"
        click.echo(f"{path}  {exported.nodes[direction]} nodes, {size:.1f} MB, {kind}")
        full = [op.role for op in fp32_ops(direction, config)]
        if full:
            click.echo(f"  in fp32: {', '.join(full)}")
    if calibration:
        click.echo(f"  deformable convolutions exported as plain ones: {', '.join(exported.folded) or 'none'}")


@main.command()
@click.option("--out", type=PATH, required=True, help="Folder of the archives.")
@click.option("--ckpt", "ckpts", type=CHECKPOINT, multiple=True, default=RELEASED, show_default=True)
@click.option("--kind", "kinds", type=click.Choice(KINDS), multiple=True, default=KINDS, show_default=True)
def release(out: Path, ckpts: tuple[Path, ...], kinds: tuple[str, ...]) -> None:
    """Write ready graphs as archives with checksums: what runs them needs neither torch nor a compiler."""
    from export.release import release as write

    for path in write(ckpts, kinds, out):
        click.echo(f"{path}  {path.stat().st_size / 1e6:.1f} MB")


@main.command()
@click.option("--ckpt", type=CHECKPOINT, required=True)
@click.option("--onnx", "folder", type=PATH, required=True, help="Folder with down.onnx and up.onnx.")
@click.option("--image", type=PATH, required=True, help="A panorama.")
@click.option("--tolerance", type=NumberRange(0, 1), default=1e-4, show_default=True, help="Largest difference.")
@click.pass_context
def check(ctx: click.Context, ckpt: Path, folder: Path, image: Path, tolerance: float) -> None:
    """Compare every runtime that is present with PyTorch fp32 on one panorama; exit 1 beyond the tolerance."""
    from engines.support.images import read_panorama
    from export.parity import compare, left_out, table, within

    rows = compare(ckpt, folder, read_panorama(image))
    click.echo(table(rows, tolerance))
    for line in left_out(folder):
        click.echo(f"left out: {line}")
    ctx.exit(0 if within(rows, tolerance) else 1)


@main.command()
@click.option("--onnx", "path", type=PATH, required=True, help="A graph of ours, best one with plugin operators.")
@click.option("--target", required=True, help="Device, a name in engines/targets.toml.")
@click.option("--size", type=SIZE, default="3840x1920", show_default=True, help="HR panorama, WIDTHxHEIGHT.")
@click.option("--bandwidth-share", type=NumberRange(0.01, 1), default=0.8, show_default=True, help="Of the peak.")
@click.option("--product-share", type=NumberRange(0.01, 1), default=0.45, show_default=True, help="Of the peak.")
@click.option("--plan", is_flag=True, help="Build it with TensorRT-RTX and set its kernels and bytes beside.")
@click.option("--plot", type=PATH, help="PNG of the roofline (needs matplotlib).")
def estimate(
    path: Path,
    target: str,
    size: tuple[int, int],
    bandwidth_share: float,
    product_share: float,
    plan: bool,
    plot: Path | None,
) -> None:
    """Multiply-accumulates, traffic, roofline time and peak memory on a device, with and without the plugins.

    An estimate: nothing runs on the device.
    """
    from engines.support.files import prepare_output
    from engines.targets import find_target
    from export.estimate.plan import beside, built_plan
    from export.estimate.roofline import Shares
    from export.estimate.roofline import estimate as work_out
    from export.estimate.table import text

    if plot is not None:
        prepare_output(plot)
    shares = Shares(bandwidth_share, product_share)
    estimates = work_out(path, find_target(target), size, shares)
    if plot is not None:
        from export.estimate.chart import draw

        draw(estimates, plot)
    click.echo(text(estimates))
    if plan:
        click.echo("\n" + beside(estimates[0], built_plan(path, size)))


@main.command()
@click.option("--ckpt", type=CHECKPOINT, required=True)
@click.option("--image", "images", type=PATH, multiple=True, required=True, help="A panorama; give several.")
@click.option("--ops", type=click.Choice(LOWERINGS[:2]), default="primitive", show_default=True)
@click.option("--part", "parts", multiple=True, help="Only this part; give several. Default: all.")
@click.option("--out", type=PATH, help="Also write the table to this file.")
def sensitivity(ckpt: Path, images: tuple[Path, ...], ops: Lowering, parts: tuple[str, ...], out: Path | None) -> None:
    """Measure what fp16 costs in each part of the network, one part at a time.

    The parts in fp32 of `onnx --precision fp16` were chosen by these tables.
    """
    from engines.support.files import prepare_output, write_text
    from engines.support.images import read_panorama
    from engines.support.progress import progress
    from export.precision.sensitivity import sensitivity as measure
    from export.precision.sensitivity import table

    if out is not None:
        prepare_output(out)
    panoramas = [read_panorama(path) for path in images]
    text = table(list(progress(measure(ckpt, panoramas, ops, parts), unit="part")), ops)
    click.echo(text)
    if out is not None:
        write_text(out, text + "\n")


@main.command()
@click.option("--ckpt", type=CHECKPOINT, default="x4", show_default=True)
@click.option("--image", type=PATH, default=Path("assets/courtyard.png"), show_default=True)
@click.option("--out", type=PATH, default=Path("out/demo"), show_default=True)
@click.option("--ops", type=click.Choice(LOWERINGS), help="Default: cpu where a C++ compiler is, else standard.")
@click.pass_context
def demo(ctx: click.Context, ckpt: Path, image: Path, out: Path, ops: Lowering | None) -> None:
    """Export, downscale and upscale one panorama through ONNX Runtime, and compare."""
    from engines.support.errors import UserError
    from export.demo import best_lowering, run, site
    from export.parity import TOLERANCE, table, within

    if ops is None:
        ops, lacking = best_lowering()
        if lacking is not None:
            click.echo(lacking)
    result = run(ckpt, image, out, ops)
    click.echo(f"Quality on {image}")
    click.echo(result.quality + "\n")
    click.echo("Parity with PyTorch")
    click.echo(table(result.parity, TOLERANCE) + "\n")
    click.echo("Files")
    for name, path in result.files.items():
        click.echo(f"  {name:<16} {path}")
    click.echo()
    try:
        site(ckpt, image, out / "site")
    except UserError as error:
        click.echo(f"without the site for browsers ({error})")
    else:
        click.echo(SERVE.format(out / "site"))
    ctx.exit(0 if within(result.parity) else 1)


@main.command()
@click.option("--ckpt", type=CHECKPOINT, required=True)
@click.option("--image", type=PATH, required=True, help="A panorama.")
@click.option("--out", type=PATH, help="The page; default: out/report and the names of checkpoint and image.")
@click.option("--onnx", "folders", type=PATH, multiple=True, help="Folder of graphs to compare; repeatable.")
@click.option("--runtime", type=PATH, help="Folder with the viewer's npm tarballs; default: a cache that npm fills.")
def report(ckpt: Path, image: Path, out: Path | None, folders: tuple[Path, ...], runtime: Path | None) -> None:
    """One HTML page: original, LR image and reconstruction side by side in 360 degrees, errors, parity, model card.

    Without --onnx the graphs are exported for the occasion.
    """
    from engines.support.files import prepare_output
    from export.report.contents import gather
    from export.report.page import write

    path = out or Path("out/report") / f"{ckpt.stem}_{image.stem}.html"
    prepare_output(path)
    write(gather(ckpt, image, folders), path, runtime)
    click.echo(f"{path}  {path.stat().st_size / 1e6:.1f} MB")


@main.command()
@click.option("--ckpt", type=PATH, required=True, help="Checkpoint whose model made the pictures.")
@click.option("--out", type=PATH, required=True, help="Folder of the site; an older site there is replaced.")
@click.option("--runtime", type=PATH, help="Folder with the npm packages' tarballs; default: a cache that npm fills.")
@click.argument("pictures", type=PATH, nargs=-1, required=True)
def web(ckpt: Path, out: Path, runtime: Path | None, pictures: tuple[Path, ...]) -> None:
    """A static site of LR PICTURES that grow back in the visitor's browser where they look."""
    from export.web.site import write_site

    pages = write_site(ckpt, list(pictures), out, runtime)
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    click.echo(f"{pages[0]}  {len(pages)} panorama{'' if len(pages) == 1 else 's'}, {size / 1e6:.0f} MB")
    click.echo(SERVE.format(out))
