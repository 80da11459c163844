"""One comparison for every runtime: the same panorama through PyTorch fp32 and through a graph file."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from dinn360.checkpoint import load_checkpoint
from dinn360.metrics import luma, ws_psnr
from engines.errors import UserError
from engines.files import sha256_of
from engines.images import Image8, to_image, to_tensor
from engines.kinds import kinds_of
from engines.rescale import scale_of
from engines.session import Session
from export.graphs import GRAPHS

Array = NDArray[np.float32]
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Row:
    """One graph in one runtime.

    graph: "down" or "up". worst, mean: absolute difference from PyTorch fp32, values in [0,1]. psnr: of the same (dB).
    ws_psnr_y: of the 8-bit reconstruction against the original (dB, luma); the other direction runs in PyTorch.
    seconds: one run, after a first one.
    """

    graph: str
    runtime: str
    worst: float
    mean: float
    psnr: float
    ws_psnr_y: float
    seconds: float

    @property
    def reference(self) -> bool:
        return self.runtime.startswith("torch")


def compare(ckpt: Path, folder: Path, image: Image8) -> list[Row]:
    """Runs both graphs of `folder` on `image` in every runtime that is present, beside PyTorch fp32.

    That is ONNX Runtime with each of its providers, and the engines of the folder (`engines.kinds`).

    Raises UserError when a graph is missing, cannot run here, or was exported from another checkpoint.
    """
    network = load_checkpoint(ckpt).build()
    digest = sha256_of(ckpt)
    size = image.shape[0], image.shape[1]
    torch_name = f"torch {torch.__version__} CPU fp32"
    rows: list[Row] = []

    graphs = {name: kind(network).eval() for name, kind in GRAPHS.items()}

    def in_torch(name: str) -> Callable[[Array], Array]:
        def run(x: Array) -> Array:
            with torch.inference_mode():
                return graphs[name](torch.from_numpy(x)).numpy()

        return run

    def quality(hr: Array) -> float:
        return ws_psnr(luma(to_image(hr[..., : size[0], : size[1]])), luma(image))

    hr = to_tensor(image)
    lr, lr_seconds = _timed(in_torch("down"), hr)
    stored = to_tensor(to_image(lr))
    restored, restored_seconds = _timed(in_torch("up"), stored)
    rows.append(Row("down", torch_name, 0.0, 0.0, math.inf, quality(restored), lr_seconds))
    rows.append(Row("up", torch_name, 0.0, 0.0, math.inf, quality(restored), restored_seconds))

    kinds = [(name, graph, kind) for name, graph in graphs.items() for kind in kinds_of(folder, name)]
    for name, graph, kind in kinds:
        if kind.missing:
            continue
        with kind.open() as session:
            _check_origin(session, digest, network.config.scale, ckpt)
            given, expected = (hr, lr) if name == "down" else (stored, restored)
            found, seconds = _timed(_in_session(session, graph.source, graph.result), given)
            if name == "down":
                reconstruction = in_torch("up")(to_tensor(to_image(found)))
            else:
                reconstruction = found
            worst, mean, psnr = difference(found, expected)
            rows.append(Row(name, session.runtime, worst, mean, psnr, quality(reconstruction), seconds))
    return sorted(rows, key=lambda row: list(GRAPHS).index(row.graph))


def left_out(folder: Path) -> list[str]:
    """What `compare` leaves out on this machine: a line for each provider and engine of `folder`, and why."""
    return [kind.missing for name in GRAPHS for kind in kinds_of(folder, name) if kind.missing]


def difference(found: Array, expected: Array) -> tuple[float, float, float]:
    """(largest, mean) absolute difference and PSNR in dB of two arrays of one shape, values in [0,1].

    NaN anywhere counts as an infinite difference.
    """
    if found.shape != expected.shape:
        raise UserError(f"parity: expected an output of shape {expected.shape}, found {found.shape}")
    if not np.isfinite(found).all():
        return math.inf, math.inf, -math.inf
    apart = np.abs(found.astype(np.float64) - expected)
    square = float((apart**2).mean())
    return float(apart.max()), float(apart.mean()), -10 * math.log10(square) if square else math.inf


def within(rows: list[Row], tolerance: float = TOLERANCE) -> bool:
    """Whether every runtime agrees with PyTorch."""
    return all(row.worst <= tolerance for row in rows)


def table(rows: list[Row], tolerance: float) -> str:
    """The rows as aligned text, worst difference judged by `tolerance`."""
    return aligned(cells(rows, tolerance))


def cells(rows: list[Row], tolerance: float) -> list[list[str]]:
    """The table cell by cell, header first."""
    lines = [["graph", "runtime", "max error", "mean error", "PSNR to torch", "WS-PSNR Y", "seconds", ""]]
    for row in rows:
        verdict = "reference" if row.reference else ("ok" if row.worst <= tolerance else f"beyond {tolerance:g}")
        psnr = "-" if row.reference else f"{row.psnr:.1f} dB"
        lines.append(
            [
                row.graph,
                row.runtime,
                "-" if row.reference else f"{row.worst:.1e}",
                "-" if row.reference else f"{row.mean:.1e}",
                psnr,
                f"{row.ws_psnr_y:.3f} dB",
                f"{row.seconds:.2f}",
                verdict,
            ]
        )
    return lines


def aligned(lines: list[list[str]]) -> str:
    """Rows of cells as text columns; the first row is the header."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    texts = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    return "\n".join([texts[0], "-" * max(map(len, texts)), *texts[1:]])


def _in_session(session: Session, source: str, result: str) -> Callable[[Array], Array]:
    def run(x: Array) -> Array:
        return session.run(**{source: x})[result]

    return run


def _timed(run: Callable[[Array], Array], x: Array) -> tuple[Array, float]:
    run(x)
    started = time.perf_counter()
    result = run(x)
    return result, time.perf_counter() - started


def _check_origin(session: Session, digest: str, scale: int, ckpt: Path) -> None:
    if scale_of(session) != scale:
        raise UserError(f"{session.path}: expected a graph of scale {scale} ({ckpt}), found {scale_of(session)}")
    found = session.metadata.get("checkpoint_sha256", "none")
    if found != digest:
        raise UserError(
            f"{session.path}: expected a graph exported from {ckpt} (sha256 {digest[:12]}), found {found[:12]}"
        )
