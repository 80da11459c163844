"""Exported graphs for the tests: of random networks, once a session, and of the released checkpoints, once for all."""

from __future__ import annotations

import fcntl
import functools
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import torch
from networks import randomise

from dinn360.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from dinn360.networks.config import preset
from dinn360.networks.dinn360 import DINN360
from dinn360.networks.layers import DConv
from dinn360.tiling import tiling
from engines.files import sha256_of
from export.lowering import LOWERINGS
from export.onnx import Form, check, finish, label, metadata, trace, write_graph

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Case:
    """A network with seeded weights in all its layers, and its graphs: folder/<ops>/{down,up}.onnx."""

    network: DINN360
    ckpt: Path
    folder: Path

    @property
    def scale(self) -> int:
        return self.network.config.scale


def export_case(name: str, scale: int, folder: Path) -> Case:
    torch.manual_seed(scale)
    network = DINN360(preset(name, scale)).eval()
    randomise(network, seed=scale, std=0.02 if scale == 8 else 0.05)  # keeps outputs from being clipped
    with torch.no_grad():  # fresh DConvs are small beside their residual: make them count
        for module in network.modules():
            if isinstance(module, DConv):
                module.conv.weight.mul_(5)
                module.offset_head.weight.mul_(3)
    ckpt = folder / f"{name}_x{scale}.pth"
    checkpoint = Checkpoint(network.config, network.state_dict(), {"data": "random weights of a test"})
    save_checkpoint(ckpt, checkpoint)
    for direction in ("down", "up"):
        traced = trace(network, direction, 19)
        for ops in LOWERINGS:
            model = finish(traced, direction, Form(ops))
            label(model, metadata(checkpoint, sha256_of(ckpt), direction, Form(ops)))
            check(model)
            (folder / ops).mkdir(exist_ok=True)
            onnx.save(model, str(folder / ops / f"{direction}.onnx"))
    return Case(network, ckpt, folder)


@functools.cache
def released(name: str, **options: Any) -> Path:
    """The folder with down.onnx and up.onnx of checkpoints/<name>.pth, exported once for all tests and processes.

    options: of `Form`. The graphs stay in build/ until a source that makes them changes; one trace serves all forms.
    """
    digest = hashlib.sha256(f"{torch.__version__} {onnx.__version__} {sha256_of(checkpoint(name))}".encode())
    for source in sorted([*ROOT.glob("export/**/*.py"), *ROOT.glob("dinn360/**/*.py")]):
        digest.update(source.read_bytes())
    made = ROOT / "build" / "tests" / digest.hexdigest()[:16]
    made.mkdir(parents=True, exist_ok=True)
    folder = made / "-".join([name, *(f"{key}={value}" for key, value in sorted(options.items()))])
    with (made / f"{name}.lock").open("w") as lock:  # two test processes may come at once
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            form, new = Form(**options), folder.with_suffix(".tmp")
            new.mkdir(exist_ok=True)
            content = load_checkpoint(checkpoint(name))
            for direction in ("down", "up"):
                network = content.build()
                told = metadata(content, sha256_of(checkpoint(name)), direction, form)
                told |= tiling(network, direction).metadata()
                traced = _traced(network, direction, form.opset, made / f"{name}-{direction}-{form.opset}.traced")
                write_graph(traced, direction, form, told, new)
            new.rename(folder)
    return folder


def _traced(network: DINN360, direction: str, opset: int, kept: Path) -> onnx.ModelProto:
    if not kept.exists():
        onnx.save(trace(network, direction, opset), str(kept))
    return onnx.load(str(kept), format="protobuf")


def checkpoint(name: str) -> Path:
    """A released checkpoint's file."""
    return ROOT / "checkpoints" / f"{name}.pth"
