"""Which roles stay in fp32 in an fp16 graph, and why.

Figures are of `python -m export sensitivity` (a table stands in SENSITIVITY.md beside this file). The limit is one per
cent of the LR values, by one level. Convolutions that do the work stay in fp16 and use most of that; the path that ends
in the LR image, where it alone would break the limit, and elementwise work beside it, which fuses with it, are fp32. In
the upscaling graph they show only where the reconstruction is nearly exact, as in smooth polar bands of a wide
panorama (`benchmarks/precision.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

from export.config import ExportConfig, Lowering


@dataclass(frozen=True)
class Fp32Op:
    """A role (`roles.ROLES`) that is computed in fp32, and the reason."""

    role: str
    reason: str


_LATITUDE = Fp32Op("latitude map", "counts rows, and fp16 has no odd integers beyond 2048")
_DOWN = (
    Fp32Op("haar", "begins the sums that end in the LR image; alone in fp16 it moves over 2 % of the LR values"),
    Fp32Op("low path", "is the LR image in the making; alone in fp16 it moves over 3 % of the LR values"),
    Fp32Op("high path", "alone in fp16 it moves 0.2 to 0.3 % of the LR values; elementwise between fp32 neighbours"),
    Fp32Op("log scale", "alone in fp16 it moves 0.2 to 0.3 % of the LR values; fuses with the high path"),
    Fp32Op("rho eta input", "amplifies the rounding of the low path; at x4 three channels in, 2 % of the arithmetic"),
)
_UP = (
    _LATITUDE,
    Fp32Op("haar", "ends in the 8-bit reconstruction: its last sums would be rounded to steps of 1/2048"),
    Fp32Op("low path", "is the reconstruction's low band in the making"),
    Fp32Op("log scale", "elementwise: fp32 costs no memory traffic where it is fused"),
)
_STANDARD = Fp32Op(
    "deformable convolutions",
    "ONNX DeformConv has one type for data and coordinates, and an fp16 coordinate moves by whole pixels from column "
    "1024 on",
)


def fp32_ops(direction: str, config: ExportConfig) -> tuple[Fp32Op, ...]:
    """Those of a graph of a direction; none in fp32."""
    return fp32_ops_of(direction, config.lowering) if config.precision == "fp16" else ()


def fp32_ops_of(direction: str, lowering: Lowering) -> tuple[Fp32Op, ...]:
    """Those of an fp16 graph ("down" or "up") in one lowering.

    Sampling coordinates and the softmax of the primitive and plugin operators are fp32 whatever their data type is;
    that is part of the operators' definition. So is the fp32 arithmetic inside LayerNormalization
    (ONNX: stash_type 1).
    """
    found = _UP if direction == "up" else _DOWN
    return (*found, _STANDARD) if lowering == "standard" else found
