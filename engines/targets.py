"""The devices that engines are built for: engines/targets.toml, read and checked."""

from __future__ import annotations

import functools
import re
import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

if sys.version_info >= (3, 11):
    import tomllib
else:  # JetPack 6
    import tomli as tomllib

from engines.support.errors import UserError
from engines.support.files import os_reason

Size = tuple[int, int]
Runtime = Literal["tensorrt", "tensorrt_rtx"]

TARGETS = Path(__file__).with_name("targets.toml")
MINIMUM: Size = (64, 128)  # the smallest HR size of a profile: one DST window high at x8
MULTIPLE = 64  # HR pixels: the window of 8 at x8
BYTES_PER_PIXEL = 512  # live tensors of `base` in fp16: see targets.toml


@dataclass(frozen=True)
class Stack:
    """Software that a device runs: versions of TensorRT (or TensorRT-RTX), CUDA and, on a Jetson, JetPack."""

    tensorrt: str
    cuda: str
    jetpack: str | None = None


@dataclass(frozen=True)
class Target:
    """One device.

    Attributes:
        key: its name on the command line.
        name: the product that the figures are of.
        runtime: the package that builds and runs its engines.
        compute_capabilities: of the GPU, such as "8.7"; several for an engine that serves several cards.
        fp16_only: those of them for which the runtime has no fp32 matrix products.
        memory_gb: memory in 10^9 bytes; shared_memory: whether the CPU uses the same.
        peak_tflops: dense, by precision: "fp16" (tensor cores), "fp32" (CUDA cores).
        bandwidth_gb_s: of the memory, in 10^9 bytes a second.
        tile: (height, width) in HR pixels, the largest piece that is run at once.
        opt: (height, width) in HR pixels that kernels are tuned for.
        stacks: what it runs, oldest first.
    """

    key: str
    name: str
    runtime: Runtime
    compute_capabilities: tuple[str, ...]
    memory_gb: float
    peak_tflops: dict[str, float]
    bandwidth_gb_s: float
    tile: Size
    opt: Size
    stacks: tuple[Stack, ...]
    shared_memory: bool = False
    fp16_only: tuple[str, ...] = ()

    def capabilities_for(self, precision: str) -> tuple[str, ...]:
        """The compute capabilities that an engine of this precision ("fp32", "fp16") can be built for."""
        return tuple(cc for cc in self.compute_capabilities if precision == "fp16" or cc not in self.fp16_only)


@functools.cache
def load_targets(path: Path = TARGETS) -> dict[str, Target]:
    """All targets by key, in the order of the file.

    Raises:
        UserError: the file cannot be read, or an entry misses a key, has one too many or a value that makes no
            sense; the message names file, target and key.
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot read: {os_reason(error)}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: expected a TOML file, found: {error}") from error
    return {key: _target(f"{path}: [{key}]", key, table) for key, table in tables.items()}


def find_target(key: str) -> Target:
    """The target of this name. Raises UserError, which lists the names, for another."""
    targets = load_targets()
    if key not in targets:
        raise UserError(f"expected one of {', '.join(targets)}, found {key!r}", "target")
    return targets[key]


def _target(where: str, key: str, table: Any) -> Target:
    if not isinstance(table, dict):
        raise UserError(f"{where}: expected a table, found {table!r}")
    known = {field.name for field in fields(Target)} - {"key"}
    missing = known - {"shared_memory", "fp16_only"} - set(table)
    if missing or set(table) - known:
        found = ", ".join(sorted(set(table) - known)) or "none"
        raise UserError(f"{where}: missing keys: {', '.join(sorted(missing)) or 'none'}; unknown keys: {found}")
    _check(where, "name", table["name"], isinstance(table["name"], str), "a text")
    _check(where, "runtime", table["runtime"], table["runtime"] in get_args(Runtime), " or ".join(get_args(Runtime)))
    shared = table.get("shared_memory", False)
    _check(where, "shared_memory", shared, isinstance(shared, bool), "true or false")
    for name in ("memory_gb", "bandwidth_gb_s"):
        _check(where, name, table[name], _positive(table[name]), "a number above 0")
    peaks = table["peak_tflops"]
    right = isinstance(peaks, dict) and set(peaks) == {"fp16", "fp32"} and all(map(_positive, peaks.values()))
    _check(where, "peak_tflops", peaks, right, "a number above 0 for fp16 and for fp32")
    capabilities = _capabilities(where, "compute_capabilities", table["compute_capabilities"])
    _check(where, "compute_capabilities", [], bool(capabilities), "at least one")
    fp16_only = _capabilities(where, "fp16_only", table.get("fp16_only", []))
    _check(where, "fp16_only", fp16_only, set(fp16_only) < set(capabilities), "some of compute_capabilities")
    tile, opt = (_size(where, name, table[name]) for name in ("tile", "opt"))
    fits = opt[0] <= tile[0] and opt[1] <= tile[1]
    _check(where, "opt", opt, fits, f"at most the tile {list(tile)}")
    room = table["memory_gb"] * 1e9 / (4 if shared else 2)
    need = tile[0] * tile[1] * BYTES_PER_PIXEL
    _check(where, "tile", f"{need / 1e9:.1f} GB", need <= room, f"one that needs at most {room / 1e9:.1f} GB")
    return Target(
        key=key,
        **{
            **table,
            "compute_capabilities": capabilities,
            "fp16_only": fp16_only,
            "tile": tile,
            "opt": opt,
            "stacks": _stacks(where, table["stacks"]),
        },
    )


def _stacks(where: str, value: Any) -> tuple[Stack, ...]:
    _check(where, "stacks", value, isinstance(value, list) and bool(value), "a list of at least one")
    stacks = []
    for entry in value:
        right = isinstance(entry, dict) and {"tensorrt", "cuda"} <= set(entry) <= {"tensorrt", "cuda", "jetpack"}
        right = right and all(isinstance(v, str) and re.fullmatch(r"\d+(\.\d+)+", v) for v in entry.values())
        _check(where, "stacks", entry, right, "versions of tensorrt and cuda, and of jetpack on a Jetson")
        stacks.append(Stack(**entry))
    return tuple(stacks)


def _capabilities(where: str, name: str, value: Any) -> tuple[str, ...]:
    right = isinstance(value, list) and all(isinstance(v, str) and re.fullmatch(r"\d+\.\d", v) for v in value)
    _check(where, name, value, right, 'a list of compute capabilities such as "8.7"')
    return tuple(value)


def _size(where: str, name: str, value: Any) -> Size:
    right = isinstance(value, list) and len(value) == 2 and all(isinstance(v, int) for v in value)
    right = right and value[0] >= MINIMUM[0] and value[1] >= MINIMUM[1] and not any(v % MULTIPLE for v in value)
    _check(where, name, value, right, f"[height, width], multiples of {MULTIPLE} and at least {list(MINIMUM)}")
    return value[0], value[1]


def _positive(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0


def _check(where: str, name: str, value: Any, right: bool, expected: str) -> None:
    if not right:
        raise UserError(f"{where}: {name}: expected {expected}, found {value!r}")
