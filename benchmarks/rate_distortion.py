"""Quality at equal bytes: LR pictures through real codecs, beside the full picture through the same codecs.

python -m benchmarks.rate_distortion --graphs build/x2 --data DIR --codec jpeg,webp,avif
python -m benchmarks.rate_distortion --ckpt checkpoints/x2.pth --data DIR --images 3 --codec jpeg --quality 50,75,90,95
python -m benchmarks.rate_distortion --graphs build/x2 --data DIR --images 1 --codec hevc,h264-444 --clip 250

Systems: interpolation pairs (--baselines), checkpoints in PyTorch (--ckpt), exported graphs, which are faster
(--graphs: a folder with down.onnx and up.onnx), and decoders alone behind a bicubic reduction (--decoder CKPT). IRN and
HCFlow are checkpoints like ours. Bits are those of the file, or of the clip's stream, per pixel of the HR panorama.
With --clip N the panorama becomes N frames of a camera that turns and nods, and flicker is measured, too.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from benchmarks import codecs, record
from dinn360.checkpoint import load_checkpoint
from dinn360.commands.evaluate import parse_codecs, parse_qualities
from dinn360.evaluation.clips import curves_of, measure_clips, turning
from dinn360.evaluation.rate_distortion import DIRECT, LOSSLESS, QUALITIES, Curve, Gain, gains, measure
from dinn360.evaluation.systems import Decoder, Interpolation, Network, Rescaler, System
from engines.panorama.rescaler import Rescaler as Graph
from engines.session import open_session
from engines.support.errors import UserError

POINTS = {
    "system": "{}",
    "codec": "{}",
    "quality": "{}",
    "bits per HR pixel": "{:.3f}",
    "WS-PSNR Y": "{:.2f}",
    "WS-PSNR RGB": "{:.2f}",
    "WS-SSIM Y": "{:.4f}",
    "WS-SSIM RGB": "{:.4f}",
}
GAINS = {
    "system": "{}",
    "codec": "{}",
    "against": "{}",
    "BD-rate": "{:+.1f} %",
    "BD-PSNR Y": "{:+.2f} dB",
    "at its files": "{:+.2f} dB",
}


def points_table(title: str, curves: Sequence[Curve]) -> record.Table:
    """Every measured file."""
    rows: list[list[record.Cell]] = [
        [
            curve.system,
            curve.codec,
            None if curve.codec == LOSSLESS else p.quality,
            p.bits,
            p.psnr_y,
            p.psnr_rgb,
            p.ssim_y,
            p.ssim_rgb,
        ]
        for curve in curves
        for p in curve.points
    ]
    return record.Table(title, POINTS, rows)


def gains_table(found: Sequence[Gain]) -> record.Table:
    """Every system against the first interpolation pair and against the full picture."""
    rows: list[list[record.Cell]] = [[g.system, g.codec, g.anchor, g.rate, g.psnr, g.files] for g in found]
    return record.Table("Gains in WS-PSNR Y", GAINS, rows)


def systems_of(options: argparse.Namespace) -> tuple[list[System], int]:
    """What is to be measured, and its scale. UserError where that is not one."""
    learned: list[System] = []
    scales: set[int] = {options.scale} if options.scale else set()
    for path in options.ckpt:
        network = Network.load(path)
        scales.add(network.network.config.scale)
        learned.append(network)
    for path in options.decoder:
        checkpoint = load_checkpoint(path)
        scales.add(checkpoint.config.scale)
        learned.append(Decoder(checkpoint.build(), path.name))
    for folder in options.graphs:
        with open_session(folder / "down.onnx") as session:
            scale = Graph(session, "down").scale
        scales.add(scale)
        graphs = Rescaler(folder / "down.onnx", folder / "up.onnx", scale)
        graphs.name = folder.name
        learned.append(graphs)
    if len(scales) != 1:
        raise UserError(f"--scale: expected one scale for all systems, found {sorted(scales) or 'none'}")
    scale = scales.pop()
    return [*(Interpolation(name, scale) for name in options.baselines.split(",")), *learned], scale


def main() -> None:
    parser = codecs.parser_of(__doc__, QUALITIES)
    parser.add_argument("--ckpt", type=Path, action="append", default=[], help="a checkpoint; may be repeated")
    parser.add_argument("--graphs", type=Path, action="append", default=[], help="folder of an export; may be repeated")
    parser.add_argument("--decoder", type=Path, action="append", default=[], help="a checkpoint's decoder alone")
    parser.add_argument("--scale", type=int, choices=[2, 4, 8], help="default: that of the systems")
    parser.add_argument("--baselines", default="bicubic,lanczos", help="interpolation pairs, the first is the anchor")
    parser.add_argument(
        "--codec", default="jpeg,webp,avif", help="also jxl, hevc, h264, av1; -420, -444 for one chroma"
    )
    parser.add_argument("--clip", type=int, metavar="N", help="measure clips of N frames instead of pictures")
    parser.add_argument("--no-ssim", action="store_true", help="leave WS-SSIM out")
    codecs.main_of(parser, run)


def run(options: argparse.Namespace) -> None:
    """Measures, prints, and draws."""
    systems, scale = systems_of(options)
    coders, qualities = parse_codecs(options.codec), parse_qualities(options.quality)
    images = codecs.panoramas(options, scale)
    tables, notes = [], [f"Panoramas: {', '.join(images)}."]
    if options.clip:
        name, image = next(iter(images.items()))
        notes = [f"{options.clip} frames of {name} at 25 frames/s."]
        clips = measure_clips(systems, turning(image, options.clip), coders, qualities, not options.no_ssim)
        curves = curves_of(clips)
        rows: list[list[record.Cell]] = [
            [system, codec, clip.point.quality, clip.point.bits, clip.point.psnr_y, clip.flicker]
            for (system, codec), found in clips.items()
            for clip in found
        ]
        columns = {name: POINTS[name] for name in ("system", "codec", "quality", "bits per HR pixel", "WS-PSNR Y")}
        tables.append(record.Table("Clips", {**columns, "flicker": "{:.2f} levels"}, rows))
    else:
        curves = measure(systems, images, coders, qualities, not options.no_ssim)
        tables.append(points_table(f"Files, x{scale}, means of {len(images)} panoramas", curves))
    tables.append(gains_table(gains(curves, [systems[0].name, DIRECT])))
    codecs.finish(options, tables, notes, curves)


if __name__ == "__main__":
    main()
