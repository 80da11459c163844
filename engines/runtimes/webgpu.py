"""ONNX Runtime's WebGPU provider (package onnxruntime-webgpu): GPUs of AMD, Intel and Apple, among others.

It is young. In its own layout, NHWC, 3x3 convolutions whose input channels are a multiple of 3 but not of 4 are wrong
without a word (1.27, seen on a software adapter); NCHW is right. So NCHW is asked for, and a graph is used only where
it computes a known tile as the CPU does.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.support.arrays import Image8
from engines.support.errors import UserError

PROVIDER = "WebGpuExecutionProvider"
LAYOUT = ("ep.webgpuexecutionprovider.preferredLayout", "NCHW")
TILE = (24, 16)  # LR rows and columns: windows in both directions
_SHARE = 0.01  # of the values may differ, by one 8-bit level


def soft_blobs(height: int, width: int) -> Image8:
    """Pixels (height, width, 3) in which a wrong sum shows: no two neighbours are alike, and no channels."""
    rows, columns = np.mgrid[:height, :width]
    planes = [np.sin(rows * 0.9 + phase) * np.cos(columns * 0.7 - phase) for phase in (0.0, 1.0, 2.0)]
    return np.rint(127.5 + 90 * np.stack(planes, axis=-1)).astype(np.uint8)


def self_test(path: Path, native: Any, reference: Any) -> None:
    """Compares two native sessions of the graph at `path` on a known tile.

    Raises:
        UserError: the graph is none of ours, or its results are not those of `reference` to one 8-bit level on 1 %.
    """
    given = next((tensor for tensor in native.get_inputs() if tensor.name in ("hr", "lr")), None)
    if given is None:
        raise UserError(
            "expected a graph with the input hr or lr for WebGPU, which is tested before it is used", "provider"
        )
    unit = int(native.get_modelmeta().custom_metadata_map.get("scale", 1)) if given.name == "hr" else 1
    feeds = {given.name: _tile(given, unit)}
    try:
        found, expected = (_levels(session.run(None, feeds)[0]) for session in (native, reference))
    except Exception as error:  # ONNX Runtime's errors share no base class of their own
        reason = str(error).strip().splitlines()[0] if str(error).strip() else "no reason given"
        raise UserError(f"{path}: WebGPU cannot run this graph: {reason}", "provider") from error
    apart = np.abs(found - expected)
    if apart.max() > 1 or np.mean(apart > 0) > _SHARE:
        raise UserError(
            f"{path}: WebGPU computes a known tile wrongly here: {np.mean(apart > 0):.1%} of the values differ from "
            f"those of the CPU, by up to {apart.max()} levels",
            "provider",
        )


def _tile(tensor: Any, unit: int) -> NDArray[Any]:
    """The tile for an input, (1, 3, h, w) in [0, 1] or uint8 (1, h, w, 3), in its own size where that is fixed."""
    planar = tensor.type != "tensor(uint8)"
    sides = tensor.shape[2:4] if planar else tensor.shape[1:3]
    height, width = (side if isinstance(side, int) else unit * own for side, own in zip(sides, TILE, strict=True))
    pixels = soft_blobs(height, width)
    if not planar:
        return pixels[None]
    dtype = np.float16 if tensor.type == "tensor(float16)" else np.float32
    return np.ascontiguousarray((pixels / np.float32(255)).transpose(2, 0, 1)[None], dtype)


def _levels(values: NDArray[Any]) -> NDArray[np.int64]:
    """Results as 8-bit levels."""
    if values.dtype == np.uint8:
        return values.astype(np.int64)
    return np.rint(np.nan_to_num(values.astype(np.float32), nan=9.0).clip(0, 1) * 255).astype(np.int64)
