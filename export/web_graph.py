"""The graph that browsers run: elementary operators, every input given, and a known tile to test a backend with.

ONNX Runtime Web refuses an initializer that is an optional input (`omitted`), and its WebGPU backend computes
DeformConv on the CPU: hence plain inputs, and the primitive lowering, whose samples are gathered.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from onnx import ModelProto

from engines.panorama.halo import choose_halo
from engines.runtimes.webgpu import TILE, soft_blobs
from engines.session import open_session
from engines.support.files import write_text

_OMITTED = (8, 24, 8, 16)  # a tile made of two pieces


def with_plain_inputs(model: ModelProto) -> ModelProto:
    """`model` without defaults: what was an optional input has to be given. Changes its argument."""
    given = {value.name for value in model.graph.input}
    plain = [tensor for tensor in model.graph.initializer if tensor.name not in given]
    del model.graph.initializer[:]
    model.graph.initializer.extend(plain)
    return model


def complete_sidecar(path: Path) -> None:
    """Adds to the sidecar of the web graph at `path` (up.onnx) what the page needs: the halo to use, and a known tile.

    self_test: height, width and `omitted` of a tile, its LR pixels and its HR pixels (base64 of uint8 RGB, rows first)
    as ONNX Runtime computes them here, on the CPU.
    """
    sidecar = path.with_suffix(".json")
    told: dict[str, Any] = json.loads(sidecar.read_text(encoding="utf-8"))
    with open_session(path, threads=1) as session:
        told["halo"] = choose_halo(session, exact=False)
    told["self_test"] = known_tile(path, told["scale"])
    write_text(sidecar, json.dumps(told, indent=2) + "\n")


def known_tile(path: Path, scale: int) -> dict[str, Any]:
    """The known tile of a web graph (see `complete_sidecar`): 12 KB of result at x4."""
    height, width = TILE
    lr = soft_blobs(height, width)
    omitted = np.array(_OMITTED, np.int64)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    native = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    x = (lr.astype(np.float32) / np.float32(255)).transpose(2, 0, 1)[None]
    names = {value.name for value in native.get_inputs()}
    optional = {"omitted": omitted, "coarseness": np.zeros(1, np.float32)}
    feeds = {"lr": x} | {name: value for name, value in optional.items() if name in names}
    hr = native.run(["hr"], feeds)[0][0].transpose(1, 2, 0)
    assert hr.shape == (scale * height, scale * width, 3)
    pixels = np.clip(np.rint(hr * np.float32(255)), 0, 255).astype(np.uint8)
    return {
        "height": height,
        "width": width,
        "omitted": omitted.tolist(),
        "lr": base64.b64encode(lr.tobytes()).decode("ascii"),
        "hr": base64.b64encode(pixels.tobytes()).decode("ascii"),
    }
