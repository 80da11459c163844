"""What fp16 costs in each part of the network: the measurement behind `fp32_ops`.

One role at a time works in fp16 while all others stay in fp32, every fp16 tensor rounded (`rounding`). Downscaling is
judged by the LR values that come out another level, upscaling by the decibels that the reconstruction loses. Errors of
independent roundings add as squares, so the roles do not sum up to the last rows: all roles in fp16, all but the parts
in fp32 that are in use and, for each of those, what it would cost to have it in fp16 as well.
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto

from dinn360.checkpoint import load_checkpoint
from dinn360.evaluation.metrics import luma, ws_psnr
from engines.session import open_session
from engines.support.arrays import Image8, to_image, to_tensor
from engines.support.errors import UserError
from engines.support.text import aligned
from export.config import Lowering
from export.graphs import GRAPHS
from export.lowering import lower
from export.precision.casts import to_half
from export.precision.fp32_ops import fp32_ops_of
from export.precision.roles import FIXED, ROLES, roles_of_model
from export.precision.rounding import with_rounding
from export.trace import quiet, trace

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Effect:
    """What some roles in fp16 do to one graph, over all images.

    graph: "down" or "up". half: a role, or what the row stands for. nodes: how many are in fp16. error: mean absolute
    difference of the output, in levels of 1/255. moved: share of the output's 8-bit values that differ from fp32's.
    loss: WS-PSNR (luma) that the reconstruction loses, in dB; None for the downscaling graph.
    """

    graph: str
    half: str
    nodes: int
    error: float
    moved: float
    loss: float | None


def sensitivity(
    ckpt: Path, images: Sequence[Image8], lowering: Lowering = "primitive", parts: Collection[str] = ()
) -> Iterator[Effect]:
    """Effects of every role of `parts`, of all roles together, and of all but what stays in fp32, on both graphs.

    Of the parts that stay in fp32 there is a row more each: all the others in fp32 but this one.

    Without `parts` all are measured. Raises UserError for a bad checkpoint and for a part that there is not.
    """
    parts = parts or [role for role in ROLES if role not in FIXED]
    if unknown := sorted({*parts} - ({*ROLES} - FIXED)):
        raise UserError(f"expected some of {', '.join(sorted({*ROLES} - FIXED))}, found {unknown[0]!r}", "part")
    network = load_checkpoint(ckpt).build()
    given: Sequence[Array] = [to_tensor(image) for image in images]
    for direction in GRAPHS:
        traced = trace(network, direction, 19)
        exact = _run(_lowered(traced, lowering), direction, given)
        roles = roles_of_model(traced)
        kept = {op.role for op in fp32_ops_of(direction, lowering)}
        measured = [role for role in parts if role in roles and role not in FIXED]
        alone = [(role, set(ROLES) - {role}) for role in measured]
        together = [("everything", set[str]()), ("everything but the fp32 ops", kept)]
        also = [(f"the same, and {role}", kept - {role}) for role in measured if role in kept]
        for half, full in (*alone, *together, *also):
            found = _run(with_rounding(_lowered(to_half(traced, full), lowering)), direction, given)
            nodes = sum(role not in {*full, *FIXED} for role in roles)
            yield _effect(direction, half, nodes, found, exact, images)
        given = [to_tensor(to_image(y)) for y in exact]


def _lowered(model: ModelProto, lowering: Lowering) -> ModelProto:
    with quiet():
        return lower(model, lowering)


def _run(model: ModelProto, direction: str, images: Sequence[Array]) -> list[Array]:
    graph = GRAPHS[direction]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "graph.onnx"
        onnx.save(model, path)
        with open_session(path) as session:
            return [session.run(**{graph.source: x})[graph.result] for x in images]


def _effect(
    direction: str, half: str, nodes: int, found: list[Array], exact: list[Array], images: Sequence[Image8]
) -> Effect:
    apart = np.concatenate([np.abs(a - b).reshape(-1) for a, b in zip(found, exact, strict=True)])
    pairs = [(to_image(a), to_image(b)) for a, b in zip(found, exact, strict=True)]
    moved = np.concatenate([(a != b).reshape(-1) for a, b in pairs])
    loss = None
    if direction == "up":
        drops = [_quality(b, image) - _quality(a, image) for (a, b), image in zip(pairs, images, strict=True)]
        loss = float(np.mean(drops))
    return Effect(direction, half, nodes, 255 * float(apart.mean()), float(moved.mean()), loss)


def _quality(restored: Image8, image: Image8) -> float:
    return ws_psnr(luma(restored[: image.shape[0], : image.shape[1]]), luma(image))


def table(effects: Collection[Effect], lowering: Lowering = "primitive") -> str:
    """The effects as aligned text; roles that the export keeps in fp32 are marked."""
    lines = [["graph", "in fp16", "nodes", "mean error, levels", "8-bit values that differ", "loss", ""]]
    for effect in effects:
        kept = effect.half in {op.role for op in fp32_ops_of(effect.graph, lowering)}
        lines.append(
            [
                effect.graph,
                effect.half,
                str(effect.nodes),
                f"{effect.error:.4f}",
                f"{effect.moved:.3%}",
                "-" if effect.loss is None else f"{effect.loss:.4f} dB",
                "fp32" if kept else "",
            ]
        )
    return aligned(lines)
