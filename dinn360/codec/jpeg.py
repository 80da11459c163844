"""JPEG as a differentiable function: ITU-T T.81 with the tables, the sampling and the rounding of libjpeg.

What a file would hold is computed exactly (colour planes of 8 bits, halved chroma, quantised DCT coefficients, the
triangle filter that brings chroma back). Gradients pass straight through every rounding, so the gradient is that of
the linear chain around it: it knows that 4:2:0 averages chroma, and that clipping ends what a pixel can say.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

# T.81, tables K.1 (luma) and K.2 (chroma), in rows of vertical frequency
_LUMA_TABLE = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
_CHROMA_TABLE = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *((99,) * 8 for _ in range(4)),
)
# JFIF: rows Y, Cb, Cr of R, G, B, chroma around 128; in 65536ths, as libjpeg multiplies
_TO_YCBCR = ((19595, 38470, 7471), (-11058, -21710, 32768), (32768, -27439, -5329))
_TO_RGB = ((1.0, 0.0, 1.402), (1.0, -0.344136286, -0.714136286), (1.0, 1.772, 0.0))

# Rows of libjpeg's accurate integer DCT (Loeffler, Ligtenberg, Moschytz, with constants of 13 bits), times 8192:
# sqrt(8) times DCT-II but for the rounded constants. Only the left half: even rows are symmetric, odd antisymmetric.
_INTEGER_DCT = (
    (8192, 8192, 8192, 8192),
    (11363, 9633, 6437, 2260),
    (10703, 4433, -4433, -10703),
    (9633, -2259, -11362, -6436),
    (8192, -8192, -8192, 8192),
    (6437, -11362, 2261, 9633),
    (4433, -10704, 10704, -4433),
    (2260, -6436, 9633, -11363),
)


@dataclass(frozen=True)
class Coded:
    """What a JPEG file holds, and what its reader sees.

    image: (B,3,h,w) RGB in [0,1] on the 8-bit grid. luma, chroma: DCT coefficients in quantisation steps, rounded
    (straight through): (B,1,rows,columns,8,8) and (B,2,rows,columns,8,8), in rows of vertical frequency.
    luma_exact, chroma_exact: the same before rounding.
    """

    image: Tensor
    luma: Tensor
    chroma: Tensor
    luma_exact: Tensor
    chroma_exact: Tensor


def jpeg(image: Tensor, quality: Tensor, halved: Tensor) -> Coded:
    """`image` (B,3,h,w) RGB in [0,1] through JPEG.

    quality: (B,) whole numbers 1 to 100, as libjpeg has them. halved: bool (B,), whether chroma is 4:2:0 (else 4:4:4);
    one kind per call is cheaper than both.
    """
    if halved.all() or not halved.any():
        return _jpeg(image, quality, bool(halved.all()))
    parts = [_jpeg(image, quality, half) for half in (False, True)]
    chosen = halved[:, None, None, None]
    # coefficients of 4:2:0 have another shape: they stay where each sample's own kind is, the rest is zeros
    full, half = parts
    return Coded(
        torch.where(chosen, half.image, full.image),
        full.luma,  # luma does not depend on it
        _mix(full.chroma, half.chroma, halved),
        full.luma_exact,
        _mix(full.chroma_exact, half.chroma_exact, halved),
    )


def _mix(full: Tensor, half: Tensor, halved: Tensor) -> Tensor:
    """Chroma coefficients of either kind by sample, the smaller ones among zeros."""
    grown = F.pad(half, (0, 0, 0, 0, 0, full.shape[3] - half.shape[3], 0, full.shape[2] - half.shape[2]))
    return torch.where(halved[:, None, None, None, None, None], grown, full)


def _jpeg(image: Tensor, quality: Tensor, halved: bool) -> Coded:
    height, width = image.shape[-2:]
    planes = to_ycbcr(image)
    luma, chroma = planes[:, :1], planes[:, 1:]
    if halved:
        chroma = halve(chroma)
    luma_steps = tables(quality, "luma").to(image)[:, None, None, None]
    chroma_steps = tables(quality, "chroma").to(image)[:, None, None, None]
    (luma_waves, luma_eighths), (chroma_waves, chroma_eighths) = dct(luma), dct(chroma)
    luma_exact, chroma_exact = luma_waves / luma_steps, chroma_waves / chroma_steps
    luma_units = quantised(luma_exact, luma_eighths, luma_steps)
    chroma_units = quantised(chroma_exact, chroma_eighths, chroma_steps)
    luma = inverse_dct(luma_units * luma_steps, (luma.shape[2], luma.shape[3]))
    chroma = inverse_dct(chroma_units * chroma_steps, (chroma.shape[2], chroma.shape[3]))
    if halved:
        chroma = double(chroma, (height, width))
    result = to_rgb(torch.cat([luma, chroma], dim=1))
    return Coded(result, luma_units, chroma_units, luma_exact, chroma_exact)


def straight(x: Tensor, value: Tensor) -> Tensor:
    """`value`, with the gradient of x."""
    return x + (value - x.detach())


def rounded(x: Tensor) -> Tensor:
    """x rounded, halves up; the gradient is that of x."""
    return straight(x, floored(x + 0.5))


def floored(x: Tensor) -> Tensor:
    """The floor, without gradient. Whole numbers that fp32 has just missed count as reached."""
    return (x.detach() + 1e-4).floor()


def quantised(exact: Tensor, grid: Tensor, steps: Tensor) -> Tensor:
    """Coefficients in whole steps, halves away from zero. exact: in steps. grid: in eighths, as libjpeg's DCT ends."""
    return straight(exact, floored(grid.abs() / (8 * steps) + 0.5) * grid.sign())


def tables(quality: Tensor, plane: str) -> Tensor:
    """Quantisation tables (B,8,8) of libjpeg for the qualities (B,), "luma" or "chroma"."""
    base = torch.tensor(_LUMA_TABLE if plane == "luma" else _CHROMA_TABLE, dtype=torch.int64, device=quality.device)
    q = quality.to(torch.int64).clamp(1, 100)
    percent = torch.where(q < 50, 5000 // q, 200 - 2 * q)[:, None, None]
    return ((base * percent + 50) // 100).clamp(1, 255)


def to_ycbcr(image: Tensor) -> Tensor:
    """RGB (B,3,h,w) in [0,1] to Y, Cb, Cr in 0..255, rounded: luma halves up, chroma halves down (libjpeg)."""
    matrix = image.new_tensor(_TO_YCBCR, dtype=torch.float64)[:, :, None, None]
    shift = image.new_tensor([0, 128, 128], dtype=torch.float64)[:, None, None]
    half = image.new_tensor([32768, 32767, 32767], dtype=torch.float64)[:, None, None]
    with torch.no_grad():
        values = ((F.conv2d((image * 255).round().double(), matrix) + half) / 65536).floor() + shift
    exact = F.conv2d(image * 255, (matrix / 65536).to(image)) + shift.to(image)
    return straight(exact, values.to(image)).clamp(0, 255)


def to_rgb(planes: Tensor) -> Tensor:
    """Y, Cb, Cr in 0..255 to RGB in [0,1], on the 8-bit grid."""
    shift = planes.new_tensor([0.0, 128.0, 128.0])[:, None, None]
    rgb = F.conv2d(planes - shift, planes.new_tensor(_TO_RGB)[:, :, None, None])
    return rounded(rgb).clamp(0, 255) / 255


def halve(chroma: Tensor) -> Tensor:
    """Means of 2x2 pixels, rounded as libjpeg does, down and up by turns of columns; odd sides repeat their last."""
    height, width = chroma.shape[-2:]
    chroma = F.pad(chroma, (0, width % 2, 0, height % 2), mode="replicate")
    means = F.avg_pool2d(chroma, 2)
    bias = (torch.arange(means.shape[-1], device=chroma.device) % 2 + 1).to(chroma) / 4
    return straight(means, floored(means + bias))


def double(chroma: Tensor, size: tuple[int, int]) -> Tensor:
    """libjpeg's triangle filter ("fancy upsampling") to `size` (height, width): 9/16, 3/16, 3/16, 1/16, rounded."""
    for axis in (2, 3):
        first, last = chroma.narrow(axis, 0, 1), chroma.narrow(axis, chroma.shape[axis] - 1, 1)
        before = torch.cat([first, chroma.narrow(axis, 0, chroma.shape[axis] - 1)], axis)
        after = torch.cat([chroma.narrow(axis, 1, chroma.shape[axis] - 1), last], axis)
        pair = torch.stack([3 * chroma + before, 3 * chroma + after], axis + 1)
        chroma = pair.flatten(axis, axis + 1)
    chroma = chroma / 16
    bias = (8 - torch.arange(chroma.shape[-1], device=chroma.device) % 2).to(chroma) / 16
    chroma = straight(chroma, floored(chroma + bias))
    return chroma[..., : size[0], : size[1]]


def dct(plane: Tensor) -> tuple[Tensor, Tensor]:
    """8x8 DCT-II of a plane (B,C,h,w) in 0..255, less 128: (B,C,rows,columns,8,8). Blocks at the edge repeat it.

    Twice: exact, and times 8 as libjpeg's integer DCT gives it, rounded after rows and after columns, without
    gradient. Flat blocks are frequent, and what is lost in between decides which way their halves go.
    """
    blocks, basis = _blocks(plane), _basis(plane)
    with torch.no_grad():
        integer = _integer_basis(plane.device)
        rows = floored(blocks.double().round() @ integer.T * 4 + 0.5)
        eighths = floored(integer @ rows / 4 + 0.5)
    return basis @ blocks @ basis.T, eighths.to(plane.dtype)


def inverse_dct(coefficients: Tensor, size: tuple[int, int]) -> Tensor:
    """The plane (B,C,*size) in 0..255 of `dct`'s coefficients, rounded as libjpeg's integer DCT rounds."""
    basis = _basis(coefficients)
    with torch.no_grad():
        integer = _integer_basis(coefficients.device)
        columns = floored(integer.T @ coefficients.double().round() * 4 + 0.5)
        values = floored(columns @ integer / 32 + 0.5).to(coefficients.dtype)
    blocks = straight(basis.T @ coefficients @ basis, values)
    plane = blocks.transpose(3, 4).flatten(4, 5).flatten(2, 3)
    return (plane[..., : size[0], : size[1]] + 128).clamp(0, 255)


def _integer_basis(device: torch.device) -> Tensor:
    """(frequency, position), sqrt(8) times `_basis` but for rounding."""
    left = torch.tensor(_INTEGER_DCT, device=device, dtype=torch.float64) / 8192
    mirrored = left.flip(1) * torch.tensor([1.0, -1.0] * 4, device=device, dtype=torch.float64)[:, None]
    return torch.cat([left, mirrored], dim=1)


def _blocks(plane: Tensor) -> Tensor:
    height, width = plane.shape[-2:]
    plane = F.pad(plane, (0, -width % 8, 0, -height % 8), mode="replicate") - 128
    return plane.unflatten(3, (-1, 8)).unflatten(2, (-1, 8)).transpose(3, 4)


def _basis(like: Tensor) -> Tensor:
    """Orthonormal DCT-II, (frequency, position)."""
    n = torch.arange(8, device=like.device, dtype=torch.float64)
    basis = torch.cos((2 * n[None] + 1) * n[:, None] * torch.pi / 16) / 2
    basis[0] /= 2**0.5
    return basis.to(like.dtype)
