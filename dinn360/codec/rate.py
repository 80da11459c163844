"""How many bits a JPEG of these coefficients takes, as a function that training can differentiate.

Baseline JPEG spends a code on every coefficient that is not zero (its zero run and its size), the bits of its value,
the same for the difference of every block's mean from the block before, and an end mark on every block. Counting
those four, with weights fitted once to real files, follows libjpeg's standard Huffman tables within 7 % from quality
10 to 95 for bicubic and for learned LR pictures, 4:2:0 and 4:4:4 (`test_codec_rate.py` holds it to 10 %). Counting
the coefficients that are not zero is the rho-domain model of He and Mitra (2001).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from dinn360.codec.jpeg import Coded, dct, straight, to_ycbcr

HEADER_BYTES = 623  # of a JPEG of three planes with libjpeg's standard tables


class _Weights(NamedTuple):
    """Bits for each nonzero coefficient, each log2(1 + |value|), each log2(1 + |difference of means|), each block."""

    nonzero: float
    value: float
    mean: float
    block: float


# Fitted by least relative squares to 108 files: six panoramas at half size, bicubic and by a learned network.
_LUMA = _Weights(2.88, 1.34, 2.48, 6.64)
_CHROMA = _Weights(4.18, 0.98, 0.67, 3.74)


def jpeg_bits(coded: Coded) -> Tensor:
    """Bits of the coded data of each image of the batch, (B,), without the file's header.

    The value is that of the rounded coefficients, the gradient that of a smooth function of the exact ones.
    """
    return _bits(coded.luma, coded.luma_exact, _LUMA) + _bits(coded.chroma, coded.chroma_exact, _CHROMA)


def flat_bits(image: Tensor, step: Tensor) -> Tensor:
    """Bits of RGB (B,3,h,w) in [0,1] when all coefficients have the step (B,) in 8-bit levels: (B,).

    Stands in for codecs other than JPEG, at the step whose error is as large as theirs: its gradient counts, not its
    value.
    """
    waves = dct(to_ycbcr(image))[0] / step[:, None, None, None, None, None]
    units = straight(waves, waves.detach().round())
    return _bits(units[:, :1], waves[:, :1], _LUMA) + _bits(units[:, 1:], waves[:, 1:], _CHROMA)


def _bits(units: Tensor, exact: Tensor, weights: _Weights) -> Tensor:
    """units, exact: (B,C,rows,columns,8,8)."""
    units = units.detach().round()
    means, waves = _parts(exact)
    whole_means, whole_waves = _parts(units)
    sums = [
        weights.nonzero * straight(waves.square() / (waves.square() + 0.25), (whole_waves != 0).to(waves)),
        weights.value * straight(torch.log2(1 + waves.abs()), torch.log2(1 + whole_waves.abs())),
        weights.mean * straight(torch.log2(1 + means.abs()), torch.log2(1 + whole_means.abs())),
    ]
    blocks = units[0, ..., 0, 0].numel()
    return torch.stack([part.flatten(1).sum(1) for part in sums]).sum(0) + weights.block * blocks


def _parts(coefficients: Tensor) -> tuple[Tensor, Tensor]:
    """Differences of the blocks' means along each row of blocks, and all other coefficients (B,C,rows,columns,63)."""
    means = coefficients[..., 0, 0]
    return torch.diff(means, dim=3, prepend=torch.zeros_like(means[..., :1])), coefficients.flatten(4)[..., 1:]
