"""Which roles stay in fp32 in an fp16 graph, and why.

The reasons that name a measurement are those of `python -m export sensitivity` on the released checkpoints; its tables
are in SENSITIVITY.md beside this file. A role became an island when it alone, in fp16, moved more than a tenth of the
LR pixels that the parity criterion allows, or cost a tenth of the decibels.
"""

from __future__ import annotations

from dataclasses import dataclass

from export.lowering import Lowering


@dataclass(frozen=True)
class Island:
    """A role (`roles.ROLES`) that is computed in fp32, and the reason."""

    role: str
    reason: str


_LATITUDE = Island("latitude map", "counts rows: fp16 has no odd integers beyond 2048")
_DOWN = (
    Island("haar", "begins the sums that end in the LR image: in fp16 it alone moves 2 to 3 % of the LR values"),
    Island("low path", "is the LR image in the making: in fp16 it alone moves 3 to 4 % of the LR values"),
    Island("high path", "in fp16 it alone moves 0.2 to 0.3 % of the LR values; elementwise on fp32 data, so cheap"),
    Island("log scale", "in fp16 it alone moves 0.2 to 0.3 % of the LR values; fused with the high path"),
    Island("residual sums", "hold the biases of the deformable convolutions, whose rounding shifts whole images"),
    Island("rho eta input", "amplifies the rounding of the low path; three channels in, 2 % of the multiplications"),
)
_STANDARD = Island(
    "deformable convolutions",
    "ONNX DeformConv has one type for data and coordinates, and an fp16 coordinate moves by whole pixels from column "
    "1024 on",
)


def islands_of(direction: str, lowering: Lowering) -> tuple[Island, ...]:
    """The islands of a graph ("down" or "up") in one lowering.

    Sampling coordinates and the softmax of the primitive and plugin operators are fp32 whatever their data type is;
    that is part of the operators' definition and no island. So is the fp32 arithmetic inside LayerNormalization
    (ONNX: stash_type 1).
    """
    found = [_LATITUDE] if direction == "up" else list(_DOWN)
    return (*found, _STANDARD) if lowering == "standard" else tuple(found)
