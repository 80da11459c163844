"""Exported graphs for the tests, of random networks and of the released checkpoints: each traced once for all."""

from __future__ import annotations

import fcntl
import functools
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import onnx
import onnx_ir
import torch
from networks import randomise
from onnx import ModelProto

from dinn360.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from dinn360.networks import DINN360, RescalingNetwork, build_network, preset
from dinn360.networks.layers import DConv
from dinn360.tiling import tiling
from engines.support.files import sha256_of
from export.config import LOWERINGS, ExportConfig
from export.onnx import check, finish, label, metadata, trace, write_graph

ROOT = Path(__file__).parents[1]
EDGE = "edge-x8"  # the preset with every operator of ours, of which nothing may be released


@functools.cache
def _kept() -> Path:
    """A folder in build/ for what the sources as they are make of networks."""
    digest = hashlib.sha256(repr([package.__version__ for package in (torch, onnx, onnx_ir)]).encode())
    for source in sorted([*ROOT.glob("export/**/*.py"), *ROOT.glob("dinn360/**/*.py")]):
        digest.update(source.read_bytes())
    made = ROOT / "build" / "tests" / digest.hexdigest()[:16]
    made.mkdir(parents=True, exist_ok=True)
    return made


@contextmanager
def _alone(path: Path) -> Iterator[bool]:
    """Holds off the other test processes from making `path`; gives whether it has still to be made."""
    with path.with_name(f"{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield not path.exists()


def kept_trace(network: RescalingNetwork, direction: str, opset: int) -> ModelProto:
    """`export.onnx.trace`, which takes seconds a block, once for all tests and processes until a source changes.

    Stands in for it where the test is about what comes after.
    """
    digest = hashlib.sha256(f"{network.config} {direction} {opset}".encode())
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(name.encode() + tensor.numpy().tobytes())
    path = _kept() / f"{digest.hexdigest()[:16]}.traced"
    with _alone(path) as missing:
        if missing:
            new = path.with_suffix(".tmp")
            new.write_bytes(trace(network, direction, opset).SerializeToString())
            new.rename(path)
    return onnx.load(str(path), format="protobuf")


@dataclass(frozen=True)
class Case:
    """A network and its graphs: folder/<ops>/{down,up}.onnx."""

    network: RescalingNetwork
    folder: Path

    @property
    def scale(self) -> int:
        return self.network.config.scale


def export_case(network: RescalingNetwork, folder: Path) -> Case:
    """The graphs of a network by every lowering."""
    checkpoint = Checkpoint(network.config, network.state_dict(), {})
    for direction in ("down", "up"):
        traced = kept_trace(network, direction, 19)
        for ops in LOWERINGS:
            model = finish(traced, direction, ExportConfig(ops))
            label(model, metadata(checkpoint, "", direction, ExportConfig(ops)))
            check(model)
            (folder / ops).mkdir(exist_ok=True)
            onnx.save(model, str(folder / ops / f"{direction}.onnx"))
    return Case(network, folder)


def shallow(name: str, scale: int) -> DINN360:
    """A preset with few of its layers of each kind, and seeded weights in all of them.

    Two blocks of a level with DST, since the windows of every second one are shifted.
    """
    config = preset(name, scale)
    levels = tuple(
        replace(level, blocks=1 if level.dst == "none" else 2, projections=1, content_blocks=1)
        for level in config.levels
    )
    torch.manual_seed(scale)
    network = DINN360(replace(config, levels=levels)).eval()
    randomise(network, seed=scale, std=0.02 if scale == 8 else 0.05)  # keeps outputs from being clipped
    with torch.no_grad():  # fresh DConvs are small beside their residual: make them count
        for module in network.modules():
            if isinstance(module, DConv):
                module.conv.weight.mul_(5)
                module.offset_head.weight.mul_(3)
    return network


@functools.cache
def released(name: str, **options: Any) -> Path:
    """The folder with down.onnx and up.onnx of checkpoints/<name>.pth, exported once for all tests and processes.

    options: of `ExportConfig`. The graphs stay in build/ until a source that makes them changes; one trace serves all.
    """
    digest = sha256_of(checkpoint(name))
    folder = _kept() / "-".join([name, digest[:12], *(f"{key}={value}" for key, value in sorted(options.items()))])
    with _alone(folder) as missing:
        if missing:
            form, new = ExportConfig(**options), folder.with_name(f"{folder.name}.tmp")
            new.mkdir(exist_ok=True)
            content = load_checkpoint(checkpoint(name))
            for direction in ("down", "up"):
                network = content.build()
                told = metadata(content, digest, direction, form) | tiling(network, direction).metadata()
                write_graph(kept_trace(network, direction, form.opset), direction, form, told, new)
            new.rename(folder)
    return folder


def checkpoint(name: str) -> Path:
    """A released checkpoint's file, or of EDGE one with seeded weights."""
    if name != EDGE:
        return ROOT / "checkpoints" / f"{name}.pth"
    path = _kept() / f"{EDGE}.pth"
    with _alone(path) as missing:
        if missing:
            torch.manual_seed(8)
            network = randomise(build_network(preset("edge", 8)), seed=8, std=0.02)
            save_checkpoint(path, Checkpoint(network.config, network.state_dict(), {}))
    return path
