"""The sidecar of an engine: what it was built from, for what, and what it needs. up.engine has up.engine.json.

The engine itself stays a plain plan, which trtexec and every C++ loader take; a header in front of it would break them.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated

from engines.engine_file import profile as profiles
from engines.engine_file.profile import Profile
from engines.nvidia.tensorrt_package import NAMES
from engines.support.errors import UserError
from engines.support.files import sha256_of, write_text
from engines.support.reading import SHA256, Rule, from_table, read_json
from engines.support.reading import VERSION as VERSION_TEXT
from engines.targets import Runtime, Size

FORMAT, VERSION = "dinn360-engine", 1


_DTYPES = ("float32", "float16", "float64", "uint8", "int8", "int32", "int64", "bool")
_DTYPE = Rule(f"one of {', '.join(_DTYPES)}", lambda name: name in _DTYPES)
_SHAPE = Rule("at most 8 sizes, -1 where one is free", lambda s: len(s) <= 8 and all(-1 <= n < 2**31 for n in s))
_SOME = Rule("at least one tensor", bool)
_SIZE = Rule("sizes of 1 to 1000000 pixels", lambda size: all(1 <= side <= 10**6 for side in size))
_CAPABILITIES = Rule(
    'at least one such as "8.7"', lambda all_: bool(all_) and all(re.fullmatch(r"[0-9]{1,2}\.[0-9]", cc) for cc in all_)
)
_PLUGINS = Rule(
    'names with versions, such as "DeformConv2d 1"', lambda all_: all(re.fullmatch(r"\w+ \S+", p) for p in all_)
)
_HARDWARE = ("none", "ampere-plus", "same-compute-capability")
_COMPATIBILITY = Rule(f"one of {', '.join(_HARDWARE)}", lambda name: name in _HARDWARE)
_NOT_NEGATIVE = Rule("0 or more", lambda number: number >= 0)
_COUNTS = Rule("counts of 0 or more", lambda counts: all(count >= 0 for count in counts.values()))


@dataclass(frozen=True)
class IO:
    """One input or output of an engine; a free dimension has -1."""

    name: str
    dtype: Annotated[str, _DTYPE]
    shape: Annotated[tuple[int, ...], _SHAPE]


@dataclass(frozen=True)
class Default(IO):
    """An input that may be left out, and the numbers that it then has, in C order."""

    values: tuple[float, ...]


@dataclass(frozen=True)
class PluginLibrary:
    """The library that the engine's plugin nodes need.

    Attributes:
        file: its name, without a folder: a device keeps it elsewhere.
        sha256: of the library that the engine was built with.
        plugins: name and version of each plugin that the graph uses, such as "DeformConv2d 1".
        serialized: whether the engine carries the library inside.
    """

    file: str
    sha256: Annotated[str, SHA256]
    plugins: Annotated[tuple[str, ...], _PLUGINS]
    serialized: bool


@dataclass(frozen=True)
class Manifest:
    """What is known of one engine file.

    Attributes:
        engine_sha256, engine_bytes: of the engine file.
        onnx, onnx_sha256: name (without a folder) and hash of the graph that it was built from.
        runtime, runtime_version: the package, "tensorrt" or "tensorrt_rtx", and its version.
        target: key in engines/targets.toml.
        compute_capabilities: that it runs on.
        gpu: the card that it was built on; empty when it was built without one.
        hardware_compatibility: "none", "ampere-plus" or "same-compute-capability".
        version_compatible: whether later versions of the runtime load it.
        precision: "fp32" or "fp16".
        fp32_ops: roles of the operators that stay fp32 in an fp16 graph.
        tf32: whether fp32 convolutions may use TF32.
        tile: (height, width) in HR pixels, the largest piece that it takes.
        profile: shapes that it takes.
        plugin_library: None when it has no plugin nodes.
        inputs, outputs: its tensors.
        optional: inputs that may be left out.
        layers: number of layers by kind and type, as the network had them before fusion.
        metadata: `metadata_props` of the graph: checkpoint, scale, direction, configuration.
    """

    engine_sha256: Annotated[str, SHA256]
    engine_bytes: Annotated[int, _NOT_NEGATIVE]
    onnx: str
    onnx_sha256: Annotated[str, SHA256]
    runtime: Runtime
    runtime_version: Annotated[str, VERSION_TEXT]
    target: str
    compute_capabilities: Annotated[tuple[str, ...], _CAPABILITIES]
    gpu: str
    hardware_compatibility: Annotated[str, _COMPATIBILITY]
    version_compatible: bool
    precision: str
    fp32_ops: tuple[str, ...]
    tf32: bool
    tile: Annotated[Size, _SIZE]
    profile: Profile
    plugin_library: PluginLibrary | None
    inputs: Annotated[tuple[IO, ...], _SOME]
    outputs: Annotated[tuple[IO, ...], _SOME]
    optional: tuple[Default, ...]
    layers: Annotated[dict[str, int], _COUNTS]
    metadata: dict[str, str] = field(default_factory=dict)

    def check_file(self, engine: Path) -> None:
        """Refuse an engine that is not the one that this sidecar was written for."""
        found = sha256_of(engine)
        if found != self.engine_sha256:
            raise UserError(
                f"{engine}: expected the engine of {sidecar(engine).name} (sha256 {self.engine_sha256[:12]}), "
                f"found {found[:12]}; build it again"
            )

    def check_runtime(self, engine: Path, version: str) -> None:
        """Refuse a version of the runtime that does not load this engine."""
        built, here = (tuple(map(int, text.split("."))) for text in (self.runtime_version, version))
        same = all(a == b for a, b in zip(built, here, strict=False))  # one may be written shorter: 10.3, 10.3.0
        later = self.version_compatible and here[0] == built[0] and here >= built
        if not same and not later:
            kind = "or a later one of that major version" if self.version_compatible else "and no other"
            name = NAMES[self.runtime]
            raise UserError(f"{engine}: expected {name} {self.runtime_version} {kind}, found {version}; build it again")

    def check_gpu(self, engine: Path, name: str, capability: str) -> None:
        """Refuse a card that this engine was not built for. `capability`: its compute capability, such as "8.7"."""
        if capability in self.compute_capabilities:
            return
        ampere = self.hardware_compatibility == "ampere-plus" and float(capability) >= 8.0
        if not ampere:
            wanted = ", ".join(self.compute_capabilities)
            raise UserError(
                f"{engine}: expected a GPU of compute capability {wanted} ({self.target}), found {capability} ({name})"
            )

    def check_plugins(self, engine: Path, creators: set[str]) -> None:
        """Refuse to go on while plugins are missing. `creators`: the names that are registered."""
        library = self.plugin_library
        if library is None or library.serialized:
            return
        missing = [plugin for plugin in library.plugins if plugin.split()[0] not in creators]
        if missing:
            raise UserError(
                f"{engine}: expected the plugins {', '.join(missing)} of {library.file}, found none loaded; "
                f"put {library.file} beside the engine or name it",
                "plugins",
            )


def sidecar(engine: Path) -> Path:
    """Where the sidecar of an engine lies."""
    return engine.with_name(engine.name + ".json")


def write_manifest(engine: Path, manifest: Manifest) -> Path:
    """Write the sidecar, whole or not at all, and return its path."""
    content = {
        "format": FORMAT,
        "version": VERSION,
        **asdict(manifest),
        "profile": profiles.to_json(manifest.profile),
    }
    path = sidecar(engine)
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    return path


def read_manifest(engine: Path) -> Manifest:
    """Read the sidecar of an engine.

    Raises:
        UserError: it is missing, no JSON, of another format or version, incomplete, or says something that cannot be.
    """
    path = sidecar(engine)
    try:
        content = read_json(path)
    except FileNotFoundError:
        raise UserError(
            f"{engine}: expected its sidecar {path.name} beside it, found none; "
            "python -m engines build writes it, python -m engines build --engine for one that trtexec has built"
        ) from None
    form, version = content.pop("format", None), content.pop("version", None)
    if (form, version) != (FORMAT, VERSION) or version is True:  # which is equal to 1
        raise UserError(f"{path}: expected an engine's sidecar ({FORMAT} {VERSION}), found another format")
    if "islands" in content:  # its name before 0.2.0
        content.setdefault("fp32_ops", content.pop("islands"))
    if "profile" in content:
        content["profile"] = profiles.from_json(f"{path}: profile", content["profile"])
    manifest = from_table(str(path), Manifest, content)
    for default in manifest.optional:
        if len(default.values) != math.prod(default.shape):
            found = f"{len(default.values)} for the shape {list(default.shape)}"
            raise UserError(f"{path}: optional: {default.name}: expected a value for each element, found {found}")
    return manifest
