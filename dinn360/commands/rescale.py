"""python -m dinn360 downscale | upscale"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from dinn360.commands.types import CHECKPOINT
from dinn360.session import TorchSession
from engines.commands import images
from engines.commands.options import FOREIGN, LOSSY, ORIGINAL, SUBSAMPLING, Request

CKPT = click.option("--ckpt", type=CHECKPOINT, required=True, help="Released checkpoint (x2, x4, x8) or a file.")


@click.command()
@images.shared_options
@LOSSY
@SUBSAMPLING
@CKPT
def downscale(request: Request, ckpt: Path, bits: str | None, **options: Any) -> None:
    """Downscale each SOURCE (a panorama, a folder or a glob pattern) to TARGET, in PyTorch."""
    images.run(request, lambda: TorchSession.load(ckpt, "down"), "down", images.options_of(bits, **options))


@click.command()
@images.shared_options
@ORIGINAL
@FOREIGN
@CKPT
def upscale(request: Request, ckpt: Path, bits: str | None, **options: Any) -> None:
    """Upscale each SOURCE (best: what downscale made; a file, a folder or a glob pattern) to TARGET, in PyTorch."""
    images.run(request, lambda: TorchSession.load(ckpt, "up"), "up", images.options_of(bits, **options))
