"""Training crops of panoramas (and of ordinary photographs, warped as a panorama would show them).

Every crop is a pure function of (seed, step, its number in the batch): a resumed run sees what an uninterrupted one
would have seen, and several processes see what one would have seen.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dinn360.data.datasets import Selection, select
from dinn360.sphere import Frame
from engines.support.arrays import Image8
from engines.support.errors import UserError
from engines.support.images import read_panorama
from engines.support.progress import progress

PHOTOGRAPH_ROWS = 1024  # rows of the panorama that a photograph's crop is declared to be part of


@dataclass(frozen=True)
class Batch:
    """x: HR crops (B,3,S,S) float32 in [0,1]; frame: where each crop lies on its panorama."""

    x: Tensor
    frame: Frame

    def to(self, device: torch.device) -> Batch:
        """This batch on `device`, channels last in memory."""
        x = self.x.to(device, memory_format=torch.channels_last)
        return Batch(x, self.frame)  # the frame's few numbers follow where they are used


def read_folder(folder: Path | str, smallest: int, title: str, selection: Selection | None = None) -> dict[str, Image8]:
    """All readable images of a data set by name, (H,W,3) uint8. Unreadable or too small ones are named in a warning."""
    folder, images = Path(folder), {}
    for path in progress(select(folder, selection), desc=title, unit="image"):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                image = read_panorama(path)
        except UserError as error:
            warnings.warn(f"skipped: {error}", stacklevel=2)
            continue
        if min(image.shape[:2]) < smallest:
            warnings.warn(f"skipped: {path}: expected at least {smallest} pixels a side", stacklevel=2)
            continue
        images[str(path.relative_to(folder))] = image
    if not images:
        raise UserError(f"{folder}: no image could be used")
    return images


class Crops:
    """Random square crops.

    panoramas: ERP images; crops are taken uniformly on the sphere (row density ~ cos latitude, as WS-PSNR weighs)
        after a random longitude shift, with random horizontal and vertical flips. Never a rotation by 90 degrees:
        it would break latitude.
    photographs: plain images; a crop is stretched horizontally by 1/cos(latitude) at a random latitude, so that it
        looks like the ERP patch it is declared to be. `photograph_share` of all crops come from them (our choice).
    """

    def __init__(
        self,
        panoramas: Sequence[Image8],
        photographs: Sequence[Image8],
        size: int,
        batch: int,
        seed: int,
        photograph_share: float,
        description: str = "",
    ) -> None:
        self.panoramas, self.photographs = panoramas, photographs
        self.size, self.batch, self.seed = size, batch, seed
        self.photograph_share = photograph_share if photographs else 0.0
        self.description = description
        self.numbers = range(batch)  # of the crops of a batch that are made here

    def part(self, rank: int, world: int) -> Crops:
        """The same batches, of which process `rank` of `world` makes its share. UserError when shares are not equal."""
        if self.batch % world:
            raise UserError(f"expected a multiple of the {world} processes, found {self.batch}", "batch")
        part, share = copy.copy(self), self.batch // world
        part.numbers = range(rank * share, (rank + 1) * share)
        return part

    def with_seed(self, seed: int) -> Crops:
        """Other crops of the same images."""
        other = copy.copy(self)
        other.seed = seed
        return other

    def __call__(self, step: int) -> Batch:
        crops, tops, heights = [], [], []
        for number in self.numbers:
            rng = np.random.default_rng([self.seed, step, number])
            make = self._photograph if rng.random() < self.photograph_share else self._panorama
            crop, top, height = make(rng)
            crops.append(crop)
            tops.append(top)
            heights.append(height)
        return Batch(torch.stack(crops), Frame(False, torch.tensor(tops), torch.tensor(heights)))

    def _flipped(self, crop: Tensor, top: int, height: int, rng: np.random.Generator) -> tuple[Tensor, int, int]:
        if rng.random() < 0.5:
            crop = crop.flip(2)
        if rng.random() < 0.5:
            crop, top = crop.flip(1), height - top - self.size
        return crop, top, height

    def _row(self, height: int, rng: np.random.Generator) -> int:
        """Top row of a crop whose centre is uniform on the sphere."""
        latitude = math.asin(rng.uniform(-1, 1))
        centre = (latitude / math.pi + 0.5) * height
        return int(np.clip(round(centre - self.size / 2), 0, height - self.size))

    def _panorama(self, rng: np.random.Generator) -> tuple[Tensor, int, int]:
        image = self.panoramas[int(rng.integers(len(self.panoramas)))]
        height, width = image.shape[:2]
        top, left = self._row(height, rng), int(rng.integers(width))
        columns = np.arange(left, left + self.size) % width
        crop = torch.from_numpy(image[top : top + self.size].take(columns, axis=1)).permute(2, 0, 1).float() / 255
        return self._flipped(crop, top, height, rng)

    def _photograph(self, rng: np.random.Generator) -> tuple[Tensor, int, int]:
        image = self.photographs[int(rng.integers(len(self.photographs)))]
        height = max(PHOTOGRAPH_ROWS, self.size)
        top = self._row(height, rng)
        latitude = ((top + self.size / 2) / height - 0.5) * math.pi
        narrow = max(8, round(self.size * math.cos(latitude)))
        row = int(rng.integers(image.shape[0] - self.size + 1))
        column = int(rng.integers(image.shape[1] - narrow + 1))
        pixels = image[row : row + self.size, column : column + narrow]
        crop = torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1).float() / 255
        if narrow != self.size:
            crop = F.interpolate(crop[None], (self.size, self.size), mode="bicubic", align_corners=False)[0]
            crop = (crop.clamp(0, 1) * 255).round() / 255
        return self._flipped(crop, top, height, rng)
