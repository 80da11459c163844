"""Engines that trtexec builds on the device: the command for it, and the sidecar of what came out."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from engines.building.build import BuildOptions, check_graph, describe
from engines.building.stock_deform_conv import check_deform_convs
from engines.engine_file.manifest import Manifest, write_manifest
from engines.engine_file.profile import factor_of, profile_for, text
from engines.onnx_file import read_onnx
from engines.support.errors import UserError

_VERBOSITY = {"none": "none", "layer-names": "layer_names_only", "detailed": "detailed"}
SAME_COMPUTE_CAPABILITY = (10, 9)  # the first whose trtexec and builder know this level; older ones throw
_HARDWARE = {"ampere-plus": "ampere+", "same-compute-capability": "sameComputeCapability"}


def trtexec_command(onnx: Path, out: Path, options: BuildOptions, version: str) -> str:
    """One line for a shell on the device, which builds what `build_engine` would build there.

    Args:
        version: of the TensorRT there, such as "10.3": the flags depend on its major version.

    Raises:
        UserError: the graph or an option does not fit the target, the target is no TensorRT one, or the version is
            too old or not a version.
    """
    if options.target.runtime != "tensorrt":
        raise UserError(
            f"expected one of TensorRT for trtexec, found {options.target.key}, which builds here", "target"
        )
    number = _number(version)
    if options.hardware == "same-compute-capability" and number < SAME_COMPUTE_CAPABILITY:
        raise UserError(f"{options.hardware}: expected TensorRT 10.9 or newer, found {version}", "hardware")
    graph = read_onnx(onnx)
    check_graph(graph, options)
    profile = profile_for(graph, options.sizes)
    check_deform_convs(graph, profile, factor_of(graph), number)
    words = ["trtexec", f"--onnx={onnx}", f"--saveEngine={out}"]
    if number < (11,):
        words.append("--stronglyTyped")  # TensorRT 11 has no other networks, and no such flag
    shapes = {"min": profile.minimum, "opt": profile.optimum, "max": profile.maximum}
    words += [f"--{kind}Shapes={profile.input}:{text(shape)}" for kind, shape in shapes.items()]
    if options.plugins is not None:
        words.append(f"--dynamicPlugins={options.plugins}")
        if options.serialize_plugins:
            words.append(f"--setPluginsToSerialize={options.plugins}")
    if not options.tf32:
        words.append("--noTF32")
    if options.workspace_mib is not None:
        words.append(f"--memPoolSize=workspace:{options.workspace_mib}M")
    if options.timing_cache is not None:
        words.append(f"--timingCacheFile={options.timing_cache}")
    if options.optimization_level is not None:
        words.append(f"--builderOptimizationLevel={options.optimization_level}")
    if options.version_compatible:
        words += ["--versionCompatible", "--excludeLeanRuntime"]
    if options.hardware != "none":
        words.append(f"--hardwareCompatibilityLevel={_HARDWARE[options.hardware]}")
    words += [f"--profilingVerbosity={_VERBOSITY[options.verbosity]}", "--skipInference"]
    return shlex.join(words)


def adopt_engine(onnx: Path, engine: Path, options: BuildOptions, version: str) -> Manifest:
    """Write the sidecar of an engine that trtexec has built from `onnx` with these options.

    The hashes are computed; target, profile and version are taken from the options, since a plan does not tell them.

    Args:
        version: of the TensorRT that built it, in full ("10.3.0"): only that one loads it.

    Raises:
        UserError: a file is missing, or the graph or an option does not fit the target.
    """
    number = _number(version)
    graph = read_onnx(onnx)
    capabilities = check_graph(graph, options)
    profile = profile_for(graph, options.sizes)
    check_deform_convs(graph, profile, factor_of(graph), number)
    manifest = describe(graph, engine, options, capabilities, profile, version=version, gpu="", layers={})
    write_manifest(engine, manifest)
    return manifest


def _number(version: str) -> tuple[int, ...]:
    if not re.fullmatch(r"\d+(\.\d+)+", version) or int(version.split(".")[0]) < 10:
        raise UserError(f"expected a version of TensorRT 10 or newer, such as 10.3.0, found {version!r}", "version")
    return tuple(map(int, version.split(".")))
