"""Operators whose result depends on an image's size: single nodes, so that a trace with a fixed size holds none."""

from __future__ import annotations

import torch
from torch import Tensor

from dinn360 import sphere
from dinn360.ops.registry import implementation, register_operator


def pad_to_multiple(x: Tensor, multiple: int, margin: int = 0) -> Tensor:
    """sphere.pad_to_multiple. x: (B,C,H,W)."""
    return implementation("pad_to_multiple", sphere.pad_to_multiple, x)(x, multiple, margin)


def crop(x: Tensor, like: Tensor, factor: int, divisor: int, left: int = 0) -> Tensor:
    """ceil(size of `like` * factor / divisor) rows and columns of x (B,C,H,W), from column `left` on."""
    return implementation("crop", _crop, x)(x, like, factor, divisor, left)


def spread(latitude: Tensor, like: Tensor) -> Tensor:
    """A distortion map (B or 1,1,h,1) on every column of `like` (B,C,h,w): (B,1,h,w)."""
    return implementation("spread", _spread, like)(latitude, like)


def zeros(like: Tensor, channels: int) -> Tensor:
    """Zeros (B,channels,H,W) for `like` (B,C,H,W)."""
    return implementation("zeros", _zeros, like)(like, channels)


def _crop(x: Tensor, like: Tensor, factor: int, divisor: int, left: int) -> Tensor:
    height, width = (-(-size * factor // divisor) for size in like.shape[2:])
    return x[..., :height, left : left + width]


def _padded(x: Tensor, multiple: int, margin: int) -> Tensor:
    height, width = (-(-size // multiple) * multiple for size in x.shape[2:])
    return x.new_empty(*x.shape[:2], height, width + 2 * margin)


def _spread(latitude: Tensor, like: Tensor) -> Tensor:
    return latitude.expand(like.shape[0], 1, *like.shape[2:])


def _zeros(like: Tensor, channels: int) -> Tensor:
    return like.new_zeros(like.shape[0], channels, *like.shape[2:])


register_operator(
    "pad_to_multiple",
    "(Tensor x, int multiple, int margin) -> Tensor",
    sphere.pad_to_multiple,
    _padded,
)
register_operator(
    "crop",
    "(Tensor x, Tensor like, int factor, int divisor, int left) -> Tensor",
    lambda *inputs: _crop(*inputs).clone(),
    lambda *inputs: _crop(*inputs).clone(),
)
register_operator(
    "spread",
    "(Tensor latitude, Tensor like) -> Tensor",
    lambda latitude, like: _spread(latitude, like).clone(),
    lambda latitude, like: latitude.new_empty(like.shape[0], 1, *like.shape[2:]),
)
register_operator("zeros", "(Tensor like, int channels) -> Tensor", _zeros, _zeros)
register_operator(
    "distortion_map",  # sphere.Frame.latitude calls it
    "(Tensor like, Tensor? omitted, int reduction) -> Tensor",
    sphere.distortion_map,
    lambda like, *_: like.new_empty(1, 1, like.shape[2], 1, dtype=torch.float32),
)
