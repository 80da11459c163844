"""What the card of a model for a codec says, by one command: each goal with what was found, and crops of LR images.

python -m benchmarks.codec_release --ckpt runs/x2-codec/best.pth --lossless checkpoints/x2.pth --data VAL \
    [--decoder runs/x2-decoder/best.pth] [--rival runs/x2-codec-irn/last.pth] [--sheet lr.png] [--plot curves.png] \
    [--save x2-codec]

WS-PSNR of Y, means over the panoramas. Gains are at equal bytes: at the bytes of each of our files, the anchor's
quality interpolated in log(bytes). --lossless: what the LR image untouched is compared with, and what it is worth
through the codecs. --decoder: a decoder of the same kind, trained behind bicubic through the same codec. --rival: any
other network trained through it; it is in tables and curves, and no goal is about it.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks import codecs, record
from benchmarks.rate_distortion import gains_table, points_table
from dinn360.checkpoint import Checkpoint, load_checkpoint
from dinn360.codec.coders import Coder
from dinn360.commands.evaluate import parse_qualities
from dinn360.evaluation.figures import lr_sheet
from dinn360.evaluation.metrics import psnr
from dinn360.evaluation.rate_distortion import DIRECT, LOSSLESS, Curve, check_packages, gains, measure
from dinn360.evaluation.systems import Decoder, File, Interpolation, Network, System, reference_lr
from dinn360.evaluation.validate_codec import dots
from engines.support.arrays import Image8
from engines.support.errors import UserError

QUALITIES = (50, 75, 90, 95)
BICUBIC = "bicubic"
JPEG, WEBP = Coder("jpeg"), Coder("webp")
FULL_CHROMA = (Coder("avif", halved=False), Coder("hevc", halved=False))
HALVED = (Coder("avif"), Coder("hevc"))
HALF, WHOLE = f"{JPEG.title} of quality 75", "a lossless file"
# What LR images are looked at: an encoder that knows its file makes them differ
LOOKED_AT: dict[str, File] = {HALF: (JPEG, 75), "JPEG 4:4:4 of quality 90": (Coder("jpeg", False), 90), WHOLE: None}
_PLACES = 200  # file sizes at which two curves are compared
GOALS = {"goal": "{}", "wanted": "{}", "found": "{}", "reached": "{}"}


@dataclass(frozen=True)
class Goal:
    """least: of what is found. found: None where it could not be measured. unit: "dB" or with a sign, "+dB"."""

    title: str
    least: float | None
    found: float | None
    signed: bool = True
    where: str = ""

    def row(self) -> list[record.Cell]:
        form = "{:+.2f} dB" if self.signed else "{:.2f} dB"
        found = "not measured" if self.found is None else form.format(self.found) + self.where
        if self.least is None or self.found is None:
            return [self.title, "–" if self.least is None else f"at least {form.format(self.least)}", found, "–"]
        return [self.title, f"at least {form.format(self.least)}", found, "yes" if self.found >= self.least else "no"]


def of(curves: Sequence[Curve], system: str, codec: str) -> Curve | None:
    return next((curve for curve in curves if (curve.system, curve.codec) == (system, codec)), None)


def mean_gain(curves: Sequence[Curve], system: str, anchor: str, coder: Coder) -> float | None:
    """At the bytes of each of the system's files, the mean. Beyond its largest file the anchor keeps its quality."""
    ours, other = of(curves, system, coder.title), of(curves, anchor, coder.title)
    if ours is None or other is None:
        return None
    bits, quality = other.rising()
    found = [p.psnr_y - np.interp(np.log(p.bits), np.log(bits), quality) for p in ours.points if p.bits >= bits[0]]
    return float(np.mean(found)) if found else None


def least_gain(ours: Curve | None, other: Curve | None, most: float) -> tuple[float | None, str]:
    """The smallest lead over the bytes that both cover, up to `most` bits per HR pixel, and which bytes these are."""
    if ours is None or other is None:
        return None, ""
    bits = np.geomspace(0.005, most, _PLACES)
    lead = ours.at(bits) - other.at(bits)
    there = np.isfinite(lead)
    if not there.any():
        return None, ""
    return float(lead[there].min()), f" from {bits[there][0]:.2f} to {bits[there][-1]:.2f} bits"


def curves_of(
    ours: System,
    rivals: Sequence[System],
    lossless: System | None,
    images: Mapping[str, Image8],
    qualities: Sequence[int],
    scale: int,
) -> list[Curve]:
    """Everything that the goals need, and nothing twice: JPEG for all, the other codecs where a goal names them.

    rivals: trained through a codec, the decoder alone among them; each is measured in one codec of each chroma beside.
    """
    finer = sorted({20, 35, 65, 85, 98, *qualities})  # of the pair, so that it has files of any size near ours
    found = measure([ours, *rivals], images, [JPEG], qualities, ssim=False)
    found += measure([Interpolation(BICUBIC, scale)], images, [JPEG, *HALVED], finer, ssim=False, direct=False)
    found += measure([Interpolation("lanczos", scale)], images, [JPEG, *HALVED], qualities, ssim=False, direct=False)
    plain: dict[str, bool] = {"ssim": False, "direct": False, "lossless": False}
    found += measure([ours], images, [*HALVED, *FULL_CHROMA], qualities, **plain)
    found += measure(rivals, images, [HALVED[0], FULL_CHROMA[0]], qualities, **plain)
    if lossless is not None:
        found += measure([lossless], images, [JPEG, *FULL_CHROMA], qualities, ssim=False, direct=False)
    return found + measure([], images, [WEBP], [5, 20, 30, *qualities], ssim=False)


def goals_of(
    curves: Sequence[Curve], name: str, decoder: str | None, scale: int, lossless: Curve | None, likeness: float
) -> list[Goal]:
    """The goals of a release at x2 and x4; of x8 there is none, and what is found stands alone."""
    at = {2: 0, 4: 1}.get(scale, 2)
    over_pair, over_decoder, elsewhere = ((1.5, None, 1.0), (0.8, 0.4, None), (None, None, None))[at]
    through_full, whole = (0.0, 0.0) if scale == 2 else (None, None)
    goals = [Goal(f"{JPEG.title} over the bicubic pair", over_pair, mean_gain(curves, name, BICUBIC, JPEG))]
    lead, where = least_gain(of(curves, name, JPEG.title), of(curves, DIRECT, JPEG.title), 0.3)
    goals.append(
        Goal(f"{JPEG.title} over {JPEG.title} of the full picture, least up to 0.3 bits", whole, lead, where=where)
    )
    if decoder is not None or over_decoder is not None:
        gain = None if decoder is None else mean_gain(curves, name, decoder, JPEG)
        goals.append(Goal(f"{JPEG.title} over the decoder alone behind bicubic", over_decoder, gain))
    for coder in FULL_CHROMA:
        lead, where = least_gain(of(curves, name, coder.title), of(curves, DIRECT, WEBP.title), 0.6)
        goals.append(
            Goal(f"{coder.title} over WebP of the full picture, least up to 0.6 bits", through_full, lead, where=where)
        )
    for coder in HALVED:
        gain = mean_gain(curves, name, BICUBIC, coder)
        goals.append(Goal(f"{coder.title}, never trained on, over the bicubic pair", elsewhere, gain))
    clean = of(curves, name, LOSSLESS)
    assert clean is not None
    missing = None if lossless is None else clean.points[0].psnr_y - lossless.points[0].psnr_y
    goals.append(Goal(f"LR untouched ({clean.points[0].psnr_y:.2f} dB) over the lossless model", -2.0, missing))
    return [*goals, Goal("LR image against bicubic, the least of three files", 28.0, likeness, signed=False)]


def to_draw(curves: Sequence[Curve]) -> list[Curve]:
    """The curves as the goals compare them: WebP of the full picture in the panels of 4:4:4."""
    webp = next(curve for curve in curves if curve.codec == WEBP.title)
    beside = [Curve(f"{DIRECT} as {WEBP.title}", coder.title, webp.points) for coder in FULL_CHROMA]
    return [*(curve for curve in curves if curve is not webp), *beside]


def main() -> None:
    parser = codecs.parser_of(__doc__, QUALITIES)
    parser.add_argument("--ckpt", type=Path, required=True, help="the checkpoint for a codec")
    parser.add_argument("--lossless", type=Path, help="the model that it came from")
    parser.add_argument("--decoder", type=Path, help="a decoder trained behind bicubic through the same codec")
    parser.add_argument(
        "--rival", type=Path, action="append", default=[], help="another network trained through it; may be repeated"
    )
    parser.add_argument(
        "--sheet",
        type=Path,
        help="draw crops of LR images into this PNG, and of those for lossless files where they differ into another",
    )
    codecs.main_of(parser, run)


def run(options: argparse.Namespace) -> None:
    """Measures, prints, and draws."""
    check_packages()
    qualities = parse_qualities(options.quality)
    checkpoint = load_checkpoint(options.ckpt)
    if not checkpoint.codec:
        raise UserError(f"--ckpt {options.ckpt}: expected a checkpoint trained through a codec, found a lossless one")
    scale = checkpoint.config.scale
    ours = Network(checkpoint.build(), options.ckpt.stem)

    def read(option: str, path: Path) -> Checkpoint:
        if (other := load_checkpoint(path)).config.scale != scale:
            raise UserError(f"{option} {path}: expected a checkpoint of scale {scale}, found {other.config.scale}")
        return other

    decoder = plain = None
    if options.decoder is not None:
        decoder = Decoder(read("--decoder", options.decoder).build(), options.decoder.name)
    if options.lossless is not None:
        plain = Network(read("--lossless", options.lossless).build(), options.lossless.name)
    rivals: list[System] = [decoder] if decoder else []
    for path in options.rival:
        rival = read("--rival", path)
        rivals.append(Network(rival.build(), f"{rival.config.name} ({path.parent.name})"))
    images = codecs.panoramas(options, scale)
    curves = curves_of(ours, rivals, plain, images, qualities, scale)
    lossless = None if plain is None else of(curves, plain.name, LOSSLESS)
    made = {title: {n: ours.shrink(image, file) for n, image in images.items()} for title, file in LOOKED_AT.items()}
    near = {
        title: float(np.mean([psnr(lr, reference_lr(images[name], scale)) for name, lr in lrs.items()]))
        for title, lrs in made.items()
    }
    likeness = min(near.values())
    alone = decoder.name if decoder else None
    rows = [goal.row() for goal in goals_of(curves, ours.name, alone, scale, lossless, likeness)]
    tables = [
        record.Table(f"{options.ckpt.stem}, x{scale}: goals", GOALS, rows),
        points_table(f"Files, means of {len(images)} panoramas", curves),
        gains_table(gains(curves, [BICUBIC, DIRECT])),
    ]
    notes = [f"Panoramas: {', '.join(images)}."]
    for title, lrs in made.items():
        most = max(dots(lr, images[name]) for name, lr in lrs.items())
        notes.append(
            f"LR image for {title}: {near[title]:.2f} dB from bicubic, dots of {most:.2f} levels at most "
            "(`CodecFigures.dots`)."
        )
    codecs.finish(options, tables, notes, curves, to_draw(curves))
    if options.sheet:
        lr_sheet(made[HALF], images, scale, JPEG, options.sheet)
        if ours.knows_file:
            lr_sheet(made[WHOLE], images, scale, JPEG, options.sheet.with_stem(f"{options.sheet.stem}-lossless"))


if __name__ == "__main__":
    main()
