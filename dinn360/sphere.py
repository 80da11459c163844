"""Geometry of equirectangular (ERP) panoramas: what lies beside a pixel, and on which latitude it lies.

Longitude is cyclic, so columns wrap. Rows end at the poles: convolutions see zeros there (our choice; it keeps
every convolution a single operator whose rows are padded inside).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Frame:
    """Where on the sphere an image lies.

    wrap: the image spans the full circle of longitude, so its columns are cyclic. A crop has wrap=False.
    top, height: for a crop, its first row and the rows of the whole panorama, both in HR pixels, int64 (B,).
        None: the image is the whole panorama and its own row count gives the latitude.
    omitted: for a tile, what it leaves out of the panorama, in its place; see `of_tile`.
    coarseness: how coarsely the LR picture was quantised, or is going to be (networks/coarseness.py), float32 (1,) or
        (B,); None: not at all.
    halved: for an encoder, whether the LR picture's file will halve its colours (4:2:0), 1 or 0, float32 (1,) or (B,);
        None: it will not.
    """

    wrap: bool = True
    top: Tensor | None = None
    height: Tensor | None = None
    omitted: Tensor | None = None
    coarseness: Tensor | None = None
    halved: Tensor | None = None

    @classmethod
    def of_tile(cls, omitted: Tensor, scale: int, coarseness: Tensor | None = None) -> Frame:
        """The frame of a tile with as many columns as its reader likes to wrap.

        omitted: int64 (4,) = above, below, between, at: the LR rows of the panorama that are missing above the tile,
            below it, and in front of its row `at` (a tile made of both polar caps). Zeros: the whole panorama.
        """
        return cls(True, omitted=omitted * scale, coarseness=coarseness)

    def latitude(self, like: Tensor, reduction: int) -> Tensor:
        """Distortion map c_lat of `like` (B,C,h,w), an image `reduction` times smaller than HR: (B or 1,1,h,1).

        cos((j + 0.5 - N/2) * pi / N) for global row j of N (slides: "distortion map"; formula as in WS-PSNR and
        OSRT, our choice): 1 on the equator, 0 at the poles.
        """
        if torch.compiler.is_exporting():
            return torch.ops.dinn360.distortion_map(like, self.omitted, reduction).to(like.dtype)
        if self.top is None or self.height is None:
            return distortion_map(like, self.omitted, reduction).to(like.dtype)
        top, height = (self._rows(count, like, reduction) for count in (self.top, self.height))
        return _cosine((_row_centres(like) + top) / height).to(like.dtype)

    @staticmethod
    def _rows(count: Tensor, like: Tensor, reduction: int) -> Tensor:
        """A number of HR rows (B,) as rows of an image `reduction` times smaller, float32 (B,1)."""
        return count.to(device=like.device, dtype=torch.float32)[:, None] / reduction


PANORAMA = Frame()


def distortion_map(like: Tensor, omitted: Tensor | None, reduction: int) -> Tensor:
    """`Frame.latitude` of a panorama or a tile, float32 (1,1,h,1).

    omitted: int64 (4,) as in `Frame.of_tile`, but in HR rows.
    """
    rows = _row_centres(like)
    if omitted is None:
        return _cosine(rows / like.shape[2])
    above, below, between, at = (omitted.to(device=like.device, dtype=torch.float32) / reduction).unbind()
    height = like.shape[2] + (above + below + between)
    return _cosine((rows + (rows > at).to(rows.dtype) * between + above) / height)


def stretch(latitude: Tensor, most: float) -> Tensor:
    """How much longer than on the equator a way along a row is in pixels: 1/cos - 1 of the distortion map, at most
    `most`, in its shape."""
    cosine = latitude.clamp(min=1 / (1 + most))
    return (1 - cosine) / cosine


def _row_centres(like: Tensor) -> Tensor:
    return torch.arange(like.shape[2], device=like.device, dtype=torch.float32)[None] + 0.5


def _cosine(fraction: Tensor) -> Tensor:
    """The map of rows (B,h), given as fractions of the way from pole to pole: (B,1,h,1)."""
    return torch.cos((fraction - 0.5) * math.pi)[:, None, :, None]


def cyclic(index: Tensor, size: int) -> Tensor:
    """index modulo size, int64. The divisor is a tensor: ONNX export has no remainder by a symbolic number."""
    return index.remainder(torch.full((), size, dtype=index.dtype, device=index.device))


def wrap_columns(x: Tensor, margin: int) -> Tensor:
    """Pads `margin` columns of x (..., W) on both sides from the other end of the circle. 1 <= margin <= W."""
    return torch.cat([x[..., -margin:], x, x[..., :margin]], dim=-1)


def conv2d(x: Tensor, weight: Tensor, bias: Tensor | None, wrap: bool) -> Tensor:
    """A stride-1, same-size convolution on the sphere. x: (B,C,H,W); odd square kernels.

    Columns wrap when `wrap`, else they see zeros as a crop's edge does; rows see zeros beyond the poles.
    """
    radius = weight.shape[-1] // 2
    if radius == 0 or not wrap:
        return F.conv2d(x, weight, bias, padding=radius)
    return F.conv2d(wrap_columns(x, radius), weight, bias, padding=(radius, 0))


def pad_to_multiple(x: Tensor, multiple: int, margin: int = 0) -> Tensor:
    """Extends x (B,C,H,W) to multiples of `multiple`: rows repeat the last one, columns continue around the circle.

    margin: columns that are added on both sides beyond that, from around the circle.
    """
    height, width = x.shape[-2:]
    padded_height = (height + multiple - 1) // multiple * multiple
    padded_width = (width + multiple - 1) // multiple * multiple
    rows = torch.arange(padded_height, device=x.device).clamp(max=height - 1)
    columns = cyclic(torch.arange(-margin, padded_width + margin, device=x.device), width)
    return x.index_select(2, rows).index_select(3, columns)
