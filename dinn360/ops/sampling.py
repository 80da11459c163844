"""Bilinear sampling on the sphere: of whole images at once, and of one pixel for the references."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def bilinear_samples(image: Tensor, rows: Tensor, columns: Tensor, wrap: bool, padding_mode: str) -> Tensor:
    """Bilinear samples of image (N,C,H,W) at pixel positions rows, columns (N,h,w): (N,C,h,w)."""
    height, width = image.shape[-2:]
    if wrap:
        columns = columns.remainder(width)
        image = torch.cat([image, image[..., :1]], dim=-1)
        width = width + 1
    grid = torch.stack([(2 * columns + 1) / width - 1, (2 * rows + 1) / height - 1], dim=-1)
    return F.grid_sample(image.to(grid.dtype), grid, mode="bilinear", padding_mode=padding_mode, align_corners=False)


def coordinate_dtype(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def pixel(image_CHW: Tensor, row: int, column: int, wrap: bool) -> Tensor:
    """Channels (C,) of one pixel: columns are cyclic with `wrap`; what lies outside is zero."""
    _, height, width = image_CHW.shape
    if wrap:
        column %= width
    if not (0 <= row < height and 0 <= column < width):
        return torch.zeros_like(image_CHW[:, 0, 0])
    return image_CHW[:, row, column]


def bilinear_sample(image_CHW: Tensor, row: float, column: float, wrap: bool) -> Tensor:
    """Bilinear sample (C,) at a position in pixels; pixel centres lie on whole numbers."""
    top, left = math.floor(row), math.floor(column)
    down, right = row - top, column - left
    return (
        (1 - down) * (1 - right) * pixel(image_CHW, top, left, wrap)
        + (1 - down) * right * pixel(image_CHW, top, left + 1, wrap)
        + down * (1 - right) * pixel(image_CHW, top + 1, left, wrap)
        + down * right * pixel(image_CHW, top + 1, left + 1, wrap)
    )
