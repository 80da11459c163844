"""One comparison for every runtime: the same panorama through PyTorch fp32 and through a graph file.

fp32 graphs are judged by their largest difference. fp16 graphs, and graphs with 8-bit edges, are judged by what a user
sees: the decibels that the reconstruction loses, and the LR pixels that come out another level.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from dinn360.checkpoint import load_checkpoint
from dinn360.evaluation.metrics import luma, ws_psnr
from engines.kinds import kinds_of
from engines.onnx_file import read_onnx
from engines.panorama.graph import has_8_bit_pixels, scale_of
from engines.runtimes.base import Session
from engines.session import open_session
from engines.support.arrays import Image8, to_image, to_tensor
from engines.support.errors import UserError
from engines.support.files import sha256_of
from engines.support.text import aligned
from export.folding import fold, folded_in
from export.graphs import GRAPHS
from export.precision.rounding import with_rounding

Array = NDArray[np.float32]
TOLERANCE = 1e-4  # fp32: largest absolute difference
LOSS = 0.05  # fp16: decibels of WS-PSNR that the reconstruction may lose
LEVELS = 1  # fp16: largest difference of an LR pixel
MOVED = 0.01  # fp16: share of the LR image's 8-bit values that may differ


@dataclass(frozen=True)
class Row:
    """One graph in one runtime.

    graph: "down" or "up". worst, mean: absolute difference from PyTorch fp32, values in [0,1]. psnr: of the same (dB).
    levels, moved: largest difference of the 8-bit values, and the share of values that differ. ws_psnr_y: of the 8-bit
    reconstruction against the original (dB, luma); the other direction runs in PyTorch. loss: how much less that is
    than PyTorch's (dB). seconds: one run, after a first one. by_pixels: judged by loss and levels, not by `worst`.
    """

    graph: str
    runtime: str
    worst: float
    mean: float
    psnr: float
    levels: int
    moved: float
    ws_psnr_y: float
    loss: float
    seconds: float
    by_pixels: bool = False

    @property
    def reference(self) -> bool:
        return self.runtime.startswith("torch")

    def fault(self, tolerance: float = TOLERANCE) -> str | None:
        """What is beyond its limit, or None."""
        if not self.by_pixels:
            return None if self.worst <= tolerance else f"beyond {tolerance:g}"
        if not self.loss <= LOSS:
            return f"loses more than {LOSS} dB"
        if self.graph == "down" and self.levels > LEVELS:
            return f"beyond {LEVELS} level"
        if self.graph == "down" and self.moved > MOVED:
            return f"moves more than {MOVED:.0%} of the values"
        return None


def compare(ckpt: Path, folder: Path, image: Image8) -> list[Row]:
    """Runs both graphs of `folder` on `image` in every runtime that is present, beside PyTorch fp32.

    That is ONNX Runtime with each of its providers, and the engines of the folder (`engines.kinds`). An fp16
    graph in ONNX Runtime's CPU provider gives two rows: as that provider runs it, mostly in fp32, and with every fp16
    tensor rounded (`precision.rounding`).

    Raises UserError when a graph is missing, cannot run here, or was exported from another checkpoint.
    """
    files = [read_onnx(folder / f"{name}.onnx") for name in GRAPHS]  # a missing one is told before PyTorch computes
    network = load_checkpoint(ckpt).build()
    fold(network, folded_in(files[0].metadata))
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
    best = quality(restored)
    for name, seconds in (("down", lr_seconds), ("up", restored_seconds)):
        rows.append(Row(name, torch_name, 0.0, 0.0, math.inf, 0, 0.0, best, 0.0, seconds))

    def judge(name: str, session: Session, runtime: str) -> Row:
        graph = graphs[name]
        given, expected = (hr, lr) if name == "down" else (stored, restored)
        found, seconds = _timed(_in_session(session, graph.source, graph.result), given)
        by_pixels = has_8_bit_pixels(session) or session.metadata.get("precision") == "fp16"
        if has_8_bit_pixels(session):
            expected = to_tensor(to_image(expected))
        worst, mean, psnr = difference(found, expected)
        if math.isinf(worst):
            return Row(name, runtime, worst, mean, psnr, 255, 1.0, -math.inf, math.inf, seconds, by_pixels)
        levels, moved = pixel_difference(to_image(found), to_image(expected))
        reached = quality(in_torch("up")(to_tensor(to_image(found))) if name == "down" else found)
        return Row(name, runtime, worst, mean, psnr, levels, moved, reached, best - reached, seconds, by_pixels)

    kinds = [(name, kind) for name in graphs for kind in kinds_of(folder, name)]
    for name, kind in kinds:
        if kind.missing:
            continue
        with kind.open() as session:
            _check_origin(session, digest, network.config.scale, ckpt)
            rows.append(judge(name, session, session.runtime))
            rounded_too = kind.provider == "CPU" and session.metadata.get("precision") == "fp16"
        if rounded_too:
            with rounded_session(kind.path) as session:
                rows.append(judge(name, session, f"{session.runtime}, fp16 rounded"))
    return sorted(rows, key=lambda row: list(GRAPHS).index(row.graph))


def left_out(folder: Path) -> list[str]:
    """What `compare` leaves out on this machine: a line for each provider and engine of `folder`, and why."""
    return [kind.missing for name in GRAPHS for kind in kinds_of(folder, name) if kind.missing]


@contextmanager
def rounded_session(path: Path, threads: int | None = None) -> Iterator[Session]:
    """A session of the fp16 graph at `path` in which every fp16 tensor is rounded, as hardware with fp16 stores it."""
    with tempfile.TemporaryDirectory() as folder:
        rounded = Path(folder) / path.name
        onnx.save(with_rounding(onnx.load(path)), rounded)
        with open_session(rounded, threads) as session:
            yield session


def pixel_difference(found: Image8, expected: Image8) -> tuple[int, float]:
    """(largest difference in levels, share of the values that differ) of two 8-bit images."""
    apart = np.abs(found.astype(np.int16) - expected)
    return int(apart.max()), float((apart > 0).mean())


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
    return all(row.fault(tolerance) is None for row in rows)


def table(rows: list[Row], tolerance: float) -> str:
    """The rows as aligned text, each with its verdict; `tolerance` is for those judged by their worst error."""
    return aligned(cells(rows, tolerance))


def cells(rows: list[Row], tolerance: float) -> list[list[str]]:
    """The table cell by cell, header first."""
    by_pixels = any(row.by_pixels for row in rows)
    pixels = ["8-bit values that differ", "loss"] if by_pixels else []
    lines = [["graph", "runtime", "max error", "mean error", "PSNR to torch", *pixels, "WS-PSNR Y", "seconds", ""]]
    for row in rows:
        measured = [f"{row.worst:.1e}", f"{row.mean:.1e}", f"{row.psnr:.1f} dB"]
        if by_pixels:
            measured += [f"{row.moved:.3%}, by {row.levels} at most", f"{row.loss:.4f} dB"]
        lines.append(
            [
                row.graph,
                row.runtime,
                *(["-"] * len(measured) if row.reference else measured),
                f"{row.ws_psnr_y:.3f} dB",
                f"{row.seconds:.2f}",
                "reference" if row.reference else row.fault(tolerance) or "ok",
            ]
        )
    return lines


def _in_session(session: Session, source: str, result: str) -> Callable[[Array], Array]:
    def run(x: Array) -> Array:
        if has_8_bit_pixels(session):
            return to_tensor(session.run(**{source: to_image(x)[None]})[result][0])
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
