"""The codec between the encoder and the decoder in training: what the decoder gets of an LR picture, and its bits.

JPEG is computed (jpeg.py). Any other codec is the real one, in worker processes, and the gradient passes beside it: as
through the chroma that it halves, and as if it changed nothing else, which is what straight-through rounding makes of
JPEG's quantisation, too. Sandwiched compression (Guleryuz et al., 2022 and after) found that networks trained through
such a stand-in carry over to codecs that were not in the loop.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from dinn360.codec.coders import ONLY_HALVED, Coder, round_trip
from dinn360.codec.jpeg import double, halve, jpeg, rounded, straight, to_rgb, to_ycbcr
from dinn360.codec.rate import flat_bits, jpeg_bits
from engines.support.arrays import Image8
from engines.support.errors import UserError

Codec = Literal["none", "jpeg", "webp", "avif", "hevc", "mixed"]
Subsampling = Literal["420", "444", "mixed"]
_MIXED = ("jpeg", "jpeg", "webp", "avif", "hevc")
_HALVED_SHARE = 0.75  # of samples where both kinds of chroma are trained for


@dataclass(frozen=True)
class Plan:
    """Which files a network is trained for.

    codec: one, or "mixed": two fifths JPEG and a fifth each of WebP, AVIF and HEVC. lowest, highest: qualities, drawn
    evenly. subsampling: "mixed" is 4:2:0 in three of four. clean: share of samples that no codec touches, so that
    lossless files keep their quality.
    """

    codec: Codec
    lowest: int
    highest: int
    subsampling: Subsampling
    clean: float = 0.0

    def draw(self, rng: np.random.Generator) -> tuple[Coder, int]:
        """The file of one sample."""
        name = str(rng.choice(_MIXED)) if self.codec == "mixed" else self.codec
        halved = self.subsampling == "420" or (self.subsampling == "mixed" and rng.random() < _HALVED_SHARE)
        return Coder(name, halved or name in ONLY_HALVED), int(rng.integers(self.lowest, self.highest + 1))

    def draw_batch(self, samples: int, rng: np.random.Generator) -> list[tuple[Coder, int] | None]:
        """The files of a batch, None for clean samples: as many as their share, rounded by chance."""
        drawn: list[tuple[Coder, int] | None] = [self.draw(rng) for _ in range(samples)]
        for n in rng.permutation(samples)[: int(self.clean * samples + rng.random())]:
            drawn[n] = None
        return drawn

    def coder(self) -> Coder:
        """The codec that stands for all in a validation: JPEG for several, 4:2:0 where that is trained for."""
        name = "jpeg" if self.codec == "mixed" else self.codec
        return Coder(name, self.subsampling != "444" or name in ONLY_HALVED)

    def metadata(self) -> dict[str, str]:
        """What a graph says of it (`engines.panorama.coding.Survives`)."""
        both = {"420": "4:2:0", "444": "4:4:4", "mixed": "4:2:0,4:4:4"}
        chroma = "4:2:0" if self.codec in ONLY_HALVED else both[self.subsampling]
        return {"codec": self.codec, "codec_quality": f"{self.lowest}:{self.highest}", "codec_chroma": chroma}


@dataclass(frozen=True)
class Files:
    """What becomes of each sample of a batch: its codec and quality, None for a clean one."""

    drawn: list[tuple[Coder, int] | None]

    def coarseness(self) -> list[float]:
        """How coarsely each is quantised (`Coder.coarseness`), 0 where no codec is."""
        return [0.0 if file is None else file[0].coarseness(file[1]) for file in self.drawn]

    def lossy(self) -> list[float]:
        """1 for each that goes through a codec, else 0."""
        return [float(file is not None) for file in self.drawn]

    def halved(self) -> list[float]:
        """1 for each whose colours the codec halves, else 0."""
        return [float(file is not None and file[0].halved) for file in self.drawn]


@dataclass(frozen=True)
class Received:
    """y: what the decoder gets, (B,3,h,w) on the 8-bit grid.

    bits: of the file, without its header, of each sample that went through a codec, (0 to B,) in their order.
    """

    y: Tensor
    bits: Tensor


class Channel:
    """Codecs as a layer. workers: processes for real codecs; they start with the first sample that needs them."""

    def __init__(self, plan: Plan, workers: int | None = None) -> None:
        self.plan = plan
        self.workers = workers or max(1, min(4, (os.cpu_count() or 1) - 1))
        self._pool: ProcessPoolExecutor | None = None

    def draw(self, samples: int, seed: Sequence[int]) -> Files:
        """What becomes of a batch: a function of `seed` alone."""
        return Files(self.plan.draw_batch(samples, np.random.default_rng(list(seed))))

    def __call__(self, y: Tensor, files: Files) -> Received:
        """y: (B,3,h,w) RGB in [0,1] on the 8-bit grid.

        Raises:
            UserError: a codec is missing here, or its processes died.
        """
        with torch.autocast(y.device.type, enabled=False):  # 8-bit levels need fp32
            return self._received(y.float(), files)

    def _received(self, y: Tensor, files: Files) -> Received:
        drawn = {n: file for n, file in enumerate(files.drawn) if file is not None}
        computed = [n for n, (coder, _) in drawn.items() if coder.name == "jpeg"]
        real = [n for n in drawn if n not in computed]
        images, bits = list(y), {n: y.new_zeros(()) for n in drawn}
        waiting = [self._start(y[n], *drawn[n]) for n in real]
        for halved in (False, True):
            chosen = [n for n in computed if drawn[n][0].halved == halved]
            if chosen:
                qualities = torch.tensor([drawn[n][1] for n in chosen], device=y.device)
                coded = jpeg(y[chosen], qualities, torch.full((len(chosen),), halved, device=y.device))
                for n, image, count in zip(chosen, coded.image, jpeg_bits(coded), strict=True):
                    images[n], bits[n] = image, count
        for n, future in zip(real, waiting, strict=True):
            images[n], bits[n] = _beside(y[n : n + 1], drawn[n][0], *_result(future))
        return Received(torch.stack(images), torch.stack(list(bits.values())) if bits else y.new_zeros(0))

    def _start(self, y: Tensor, coder: Coder, quality: int) -> Future[tuple[Image8, int]]:
        if self._pool is None:
            self._pool = ProcessPoolExecutor(self.workers, get_context("spawn"))
        image = np.ascontiguousarray((y.detach().float() * 255).round().byte().permute(1, 2, 0).cpu().numpy())
        return self._pool.submit(round_trip, coder.name, coder.halved, quality, image)

    def close(self) -> None:
        """Ends the worker processes."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None


def _result(future: Future[tuple[Image8, int]]) -> tuple[Image8, int]:
    try:
        return future.result()
    except BrokenProcessPool:
        raise UserError("the processes of the real codec died", "codec") from None


def _beside(y: Tensor, coder: Coder, image: Image8, size: int) -> tuple[Tensor, Tensor]:
    """One sample (1,3,h,w) that the real codec made `image` of, in `size` bytes; gradients pass beside the codec."""
    seen = torch.from_numpy(image).to(y.device).permute(2, 0, 1)[None].to(y.dtype) / 255
    way = y
    if coder.halved:
        planes = to_ycbcr(y)
        chroma = double(halve(planes[:, 1:]), (y.shape[2], y.shape[3]))
        way = to_rgb(torch.cat([planes[:, :1], rounded(chroma)], dim=1))
    error = (to_ycbcr(seen)[:, :1] - to_ycbcr(y.detach())[:, :1]).square().mean()
    step = (12 * error).sqrt().clamp(1, 128)  # of a flat quantiser that errs as much
    spent = flat_bits(y, step[None])
    real = torch.full_like(spent, max(0, size - overhead(coder.name, coder.halved)) * 8)
    return straight(way, seen)[0], straight(spent, real)[0]


@functools.cache
def overhead(name: str, halved: bool) -> int:
    """Bytes of a codec's file with nothing in it: 16 x 16 pixels of grey."""
    return round_trip(name, halved, 50, np.full((16, 16, 3), 128, np.uint8))[1]
