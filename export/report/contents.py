"""What the report says: pictures, quality, error by latitude, parity and the model card."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dinn360.checkpoint import Checkpoint, load_checkpoint
from dinn360.codec.coders import Coder
from dinn360.evaluation.evaluate import by_latitude, high_frequency
from dinn360.evaluation.interpolation import bicubic_round_trip, resize
from dinn360.evaluation.metrics import luma
from dinn360.evaluation.rate_distortion import LOSSLESS, measure
from dinn360.evaluation.systems import Interpolation, Network, reference_lr
from dinn360.evaluation.validate import downscaled, upscaled
from dinn360.info import describe
from engines.panorama.coding import Survives
from engines.session import open_session
from engines.support.arrays import Image8
from engines.support.files import sha256_of
from engines.support.images import read_panorama
from engines.support.progress import progress
from export.demo import quality_table
from export.onnx import export_checkpoint
from export.parity import TOLERANCE, cells, compare
from export.pictures import heat

BANDS = 18  # of 10 degrees of latitude
Table = list[list[str]]  # header first
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Contents:
    """Everything on the page. Pictures are uint8 (H,W,3), `lr` (ceil(H/s),ceil(W/s),3).

    title: of the architecture. pictures: original, lr, reconstruction, bicubic and the two heat maps, by the names that
    page.js knows.
    stored: how the LR image shown is stored, in words. files: bytes beside quality, for several files.
    error: root mean squared luma error by latitude band, north first, of each reconstruction; detail: the root of what
    the reduction removes, in the same units. parity: one table a lowering.
    """

    image: str
    title: str
    scale: int
    pictures: dict[str, Image8]
    stored: str
    quality: Table
    files: Table
    error: dict[str, Floats]
    detail: Floats
    parity: dict[str, Table]
    card: dict[str, str]


def gather(ckpt: Path, image_path: Path, folders: Sequence[Path]) -> Contents:
    """Runs the checkpoint in PyTorch, and the graphs of each folder in every runtime that is present.

    folders: with down.onnx and up.onnx of this checkpoint; none: graphs with standard operators are exported first.
    Raises UserError for a checkpoint, an image or a graph that cannot be used.
    """
    image = read_panorama(image_path)
    checkpoint = load_checkpoint(ckpt)
    scale = checkpoint.config.scale
    network = checkpoint.build()
    network.freeze_inverses()
    with TemporaryDirectory() as made, progress(total=1 + max(1, len(folders)), unit="step") as bar:
        bar.set_description("rescale")
        survives = Survives.of(checkpoint.codec, ckpt)
        size, lr, stored = (image.shape[0], image.shape[1]), downscaled(network, image), "as an ordinary 8-bit image"
        if survives is None:
            hr, bicubic = upscaled(network, lr, size), bicubic_round_trip(image, scale)
        else:  # everything through the file that `downscale` writes
            coder, quality = coder_of(survives), min(survives.highest, 90)
            if network.config.knows_file:
                lr = downscaled(network, image, coder.coarseness(quality), coder.halved)
            lr = coder.round_trip(lr, quality)[0]
            hr = upscaled(network, lr, size, coder.coarseness(quality))
            bicubic = resize(coder.round_trip(reference_lr(image, scale), quality)[0], size)
            stored = f"as {coder.title} of quality {quality},"
        files = files_table(checkpoint, image, survives)
        bar.update()
        if not folders:
            bar.set_description("export")
            export_checkpoint(ckpt, Path(made))
        parity = {}
        for folder in folders or [Path(made)]:
            bar.set_description(f"compare {folder}")
            rows = cells(compare(ckpt, folder, image), TOLERANCE)
            with open_session(folder / "up.onnx") as session:
                kind = f"{session.metadata.get('ops')} operators, {session.metadata.get('precision')}"
            parity[kind if folder == Path(made) else f"{folder}: {kind}"] = rows
            bar.update()
    pictures = {
        "original": image,
        "lr": lr,
        "reconstruction": hr,
        "bicubic": bicubic,
        "error": heat(hr, image),
        "bicubic-error": heat(bicubic, image),
    }
    return Contents(
        image=image_path.name,
        title=checkpoint.config.title,
        scale=scale,
        pictures=pictures,
        stored=stored,
        files=files,
        quality=quality_table(image, lr, hr, bicubic, checkpoint.config),
        error={name: _error_by_latitude(x, image) for name, x in ((checkpoint.config.title, hr), ("bicubic", bicubic))},
        detail=np.sqrt(high_frequency(image, scale, _bands(image))),
        parity=parity,
        card=model_card(ckpt, checkpoint),
    )


def coder_of(survives: Survives) -> Coder:
    """The codec that a model was trained for; JPEG where that was several."""
    name = "jpeg" if survives.codec == "mixed" else survives.codec
    return Coder(name, survives.chroma[0] == "4:2:0")


def files_table(checkpoint: Checkpoint, image: Image8, survives: Survives | None) -> Table:
    """What files weigh and what they restore: the network's lossless LR image, and through a codec the network, bicubic
    and the full picture. The codec is the one that the network was trained for, else JPEG 4:4:4, which it bears."""
    coder, qualities = Coder("jpeg", halved=False), [95]
    if survives is not None:
        coder = coder_of(survives)
        within = [quality for quality in (50, 75, 90, 95) if survives.lowest <= quality <= survives.highest]
        qualities = within or [survives.lowest, survives.highest]
    title, network = checkpoint.config.title, checkpoint.build()
    systems = [Interpolation("bicubic", checkpoint.config.scale), Network(network, title)]
    curves = measure(systems, {"": image}, [coder], qualities, ssim=False)
    table = [["picture", "file", "size", "bits per HR pixel", "WS-PSNR Y"]]
    for curve in sorted(curves, key=lambda c: c.codec != LOSSLESS):
        for point in curve.points:
            kind = curve.codec if curve.codec == LOSSLESS else f"{curve.codec}, quality {point.quality}"
            size = f"{point.bits * image.shape[0] * image.shape[1] / 8000:.1f} kB"
            table.append([curve.system, kind, size, f"{point.bits:.3f}", f"{point.psnr_y:.2f} dB"])
    return table


def _bands(image: Image8) -> int:
    return min(BANDS, image.shape[0] // 8)


def _error_by_latitude(restored: Image8, image: Image8) -> Floats:
    return np.sqrt(by_latitude((luma(restored) - luma(image)) ** 2, _bands(image)))


def model_card(ckpt: Path, checkpoint: Checkpoint) -> dict[str, str]:
    """What the checkpoint is, what it costs and, from the file itself, where it comes from."""
    info = describe(checkpoint.config)
    down, up = info.macs["downscale"] / 1000, info.macs["upscale"] / 1000
    return {
        "file": f"{ckpt.name}, sha256 {sha256_of(ckpt)}",
        "network": f"{info.preset} x{info.scale}, {info.total / 1e6:.3f} million parameters",
        "cost": f"{down:.1f} kMAC per HR pixel to downscale, {up:.1f} to upscale",
        **{name.replace("_", " "): _words(value) for name, value in checkpoint.provenance.items()},
    }


def _words(value: Any) -> str:
    if isinstance(value, dict):
        return "; ".join(f"{name} {_words(part)}" for name, part in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_words, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
