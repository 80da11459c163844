"""Engines from ONNX graphs, through the Python builder of TensorRT or TensorRT-RTX: one code path for both.

Networks are always strongly typed: TensorRT 11 has nothing else, and it means that an fp16 engine computes exactly the
types that the fp16 graph says. TensorRT builds on and for the GPU that is present; TensorRT-RTX builds anywhere, for
the compute capabilities that it is told.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from engines.building.progress import BuildProgress, monitor
from engines.building.stock_deform_conv import check_deform_convs
from engines.engine_file.manifest import IO, Default, Manifest, PluginLibrary, write_manifest
from engines.engine_file.profile import Profile, Sizes, factor_of, profile_for
from engines.nvidia import cuda
from engines.nvidia.tensorrt_package import CPU_DOMAIN, PLUGIN_DOMAIN, PLUGIN_LIBRARY, TensorRT, import_tensorrt
from engines.onnx_file import OnnxFile, OnnxNode, OnnxTensor, read_onnx
from engines.support.errors import UserError
from engines.support.files import atomic_path, os_reason, sha256_of
from engines.targets import Target

Verbosity = Literal["none", "layer-names", "detailed"]
Hardware = Literal["none", "ampere-plus", "same-compute-capability"]
_VERBOSITY = {"none": "NONE", "layer-names": "LAYER_NAMES_ONLY", "detailed": "DETAILED"}
_HARDWARE = {"ampere-plus": "AMPERE_PLUS", "same-compute-capability": "SAME_COMPUTE_CAPABILITY"}
_PLUGIN_HINT = f"expected a plugin library ({PLUGIN_LIBRARY})"
_TYPES = {"FLOAT": "float32", "HALF": "float16", "BF16": "bfloat16"}  # TensorRT's names where numpy's differ


@dataclass(frozen=True)
class BuildOptions:
    """How an engine is built.

    Attributes:
        target: the device.
        sizes: of the images that it takes.
        capabilities: compute capabilities to build for, some of the target's; empty: all that the precision allows.
        plugins: the plugin library, for graphs with plugin nodes.
        serialize_plugins: put the library into the engine, for loaders that find none outside (TensorRT).
        timing_cache: file that keeps the kernels' timings from one build to the next (TensorRT).
        workspace_mib: most scratch memory that a layer may use; None: all of the device's.
        verbosity: what the engine remembers of its layers for profilers and `trtexec --dumpLayerInfo`.
        version_compatible: let later versions of the same major version load it.
        hardware: cards that it runs on beyond that of the build (TensorRT).
        optimization_level: 0 (fast build) to 5; None: the builder's own default.
        tf32: allow TF32 in fp32 convolutions and matrix products. Off, because it breaks parity to 1e-4.
    """

    target: Target
    sizes: Sizes
    capabilities: tuple[str, ...] = ()
    plugins: Path | None = None
    serialize_plugins: bool = False
    timing_cache: Path | None = None
    workspace_mib: int | None = None
    verbosity: Verbosity = "detailed"
    version_compatible: bool = False
    hardware: Hardware = "none"
    optimization_level: int | None = None
    tf32: bool = False


def build_engine(onnx: Path, out: Path, options: BuildOptions, progress: BuildProgress | None = None) -> Manifest:
    """Build `out` and its sidecar from a graph; each is written whole or not at all.

    Raises:
        UserError: the graph, an option or this machine does not fit the target, the package is not installed, or
            the parser or the builder refuses the graph; the message names the node.
    """
    graph = read_onnx(onnx)
    capabilities = check_graph(graph, options)
    profile = profile_for(graph, options.sizes)
    check_deform_convs(graph, profile, factor_of(graph))
    package = import_tensorrt(options.target.runtime, f"the target {options.target.key}")
    device = None if package.runtime == "tensorrt_rtx" else _build_device(options.target)
    if options.plugins is not None:
        package.load_plugins(options.plugins)
    builder = _builder(package)
    network = _parse(package, builder, graph)
    _fix_sizes(network, profile)
    optional = _free_defaults(package, network, graph)
    config = builder.create_builder_config()
    _configure(package, config, options, capabilities)
    _add_profile(package, builder, config, profile)
    cache = _load_timing_cache(package, config, options.timing_cache)
    watching = monitor(package.api, progress or BuildProgress())  # held here: the builder keeps no reference to it
    config.progress_monitor = watching
    with atomic_path(out) as temporary:  # before the build, so that a folder that is missing costs nobody a minute
        temporary.write_bytes(_build(package, builder, network, config, watching, onnx))
    if cache is not None and options.timing_cache is not None:
        with atomic_path(options.timing_cache) as temporary:
            temporary.write_bytes(cache.serialize())
    manifest = describe(
        graph,
        out,
        options,
        capabilities,
        profile,
        version=package.version,
        gpu=device.name if device else "",
        layers=_count_layers(network),
        outputs=tuple(_io(network.get_output(i)) for i in range(network.num_outputs)),
        optional=optional,
    )
    write_manifest(out, manifest)
    return manifest


def check_graph(graph: OnnxFile, options: BuildOptions) -> tuple[str, ...]:
    """Refuse what cannot become an engine of this target, before anything heavy starts.

    Returns:
        The compute capabilities to build for.
    """
    target = options.target
    if for_cpu := [node for node in graph.nodes if node.domain == CPU_DOMAIN]:
        raise UserError(
            f"{graph.path}: expected a graph for a GPU (operators plugin, standard or primitive), found one for CPU "
            f"cores: {for_cpu[0].op_type} (node {for_cpu[0].name})"
        )
    plugins = plugin_nodes(graph)
    rtx = target.runtime == "tensorrt_rtx"
    deformable = [node for node in graph.nodes if node.op_type == "DeformConv" and not node.domain]
    if rtx and (plugins or deformable):
        node = (plugins or deformable)[0]
        raise UserError(
            f"{graph.path}: expected a graph of primitive operators for TensorRT-RTX, which has no plugins and no "
            f"DeformConv; found {node.op_type} (node {node.name})"
        )
    if plugins and options.plugins is None:
        node = plugins[0]
        raise UserError(f"{graph.path}: node {node.name} ({node.op_type}): {_PLUGIN_HINT}, found none", "plugins")
    for name, given in (("serialize_plugins", options.serialize_plugins), ("plugins", options.plugins)):
        if given and not plugins:
            raise UserError(f"expected a graph of plugin operators, found none of them in {graph.path}", name)
    if options.serialize_plugins and not options.version_compatible:
        reason = "expected a version-compatible engine; TensorRT puts libraries into no other"
        raise UserError(reason, "serialize_plugins")
    if rtx and options.timing_cache is not None:
        reason = "TensorRT-RTX measures nothing at build time; it keeps a runtime cache instead"
        raise UserError(reason, "timing_cache")
    if rtx and options.hardware != "none":
        raise UserError("a TensorRT-RTX engine serves the cards named by their compute capabilities", "hardware")
    possible = target.capabilities_for(graph.precision)
    for capability in options.capabilities:
        if capability not in target.compute_capabilities:
            known = ", ".join(target.compute_capabilities)
            raise UserError(f"expected some of {known} ({target.key}), found {capability}", "capabilities")
        if capability not in possible:
            reason = f"{capability}: TensorRT-RTX has no fp32 matrix products there; export the graph in fp16"
            raise UserError(reason, "capabilities")
    return options.capabilities or possible


def describe(
    graph: OnnxFile,
    engine: Path,
    options: BuildOptions,
    capabilities: tuple[str, ...],
    profile: Profile,
    *,
    version: str,
    gpu: str,
    layers: dict[str, int],
    outputs: tuple[IO, ...] | None = None,
    optional: tuple[Default, ...] = (),
) -> Manifest:
    """The sidecar of an engine file that was built from `graph` with these options, by us or by trtexec."""
    return Manifest(
        engine_sha256=sha256_of(engine),
        engine_bytes=engine.stat().st_size,
        onnx=graph.path.name,
        onnx_sha256=sha256_of(graph.path),
        runtime=options.target.runtime,
        runtime_version=version,
        target=options.target.key,
        compute_capabilities=capabilities,
        gpu=gpu,
        hardware_compatibility=options.hardware,
        version_compatible=options.version_compatible,
        precision=graph.precision,
        fp32_ops=graph.fp32_ops,
        tf32=options.tf32,
        tile=options.sizes.maximum,
        profile=profile,
        plugin_library=_plugin_library(graph, options),
        inputs=tuple(_input_io(tensor, profile) for tensor in graph.inputs),
        outputs=outputs or tuple(_graph_io(tensor) for tensor in graph.outputs),
        optional=optional,
        layers=layers,
        metadata=graph.metadata,
    )


def plugin_nodes(graph: OnnxFile) -> list[OnnxNode]:
    """The nodes that only a plugin library can run."""
    return [node for node in graph.nodes if node.domain == PLUGIN_DOMAIN]


def _plugin_library(graph: OnnxFile, options: BuildOptions) -> PluginLibrary | None:
    if options.plugins is None:
        return None
    used = {f"{node.op_type} {node.attributes.get('plugin_version', '')}" for node in plugin_nodes(graph)}
    digest = sha256_of(options.plugins)
    return PluginLibrary(options.plugins.name, digest, tuple(sorted(used)), options.serialize_plugins)


def _build_device(target: Target) -> cuda.Device:
    """The GPU that TensorRT builds on, which has to be one of the target's."""
    device = cuda.find_device(f"building for {target.key} with TensorRT")
    if device.capability not in target.compute_capabilities:
        wanted = ", ".join(target.compute_capabilities)
        raise UserError(
            f"{target.key}: expected a GPU of compute capability {wanted}, found {device.capability} "
            f"({device.name}); TensorRT builds for the GPU that it runs on",
            "target",
        )
    return device


def _builder(package: TensorRT) -> Any:
    try:
        return package.api.Builder(package.log)
    except (TypeError, RuntimeError) as error:  # pybind11's word for a constructor that gave nothing
        raise UserError(f"{package.name} cannot start its builder: {package.log.reason()}") from error


def _build(package: TensorRT, builder: Any, network: Any, config: Any, watching: Any, onnx: Path) -> Any:
    """The plan. Raises KeyboardInterrupt after Ctrl-C, which has to stop the builder before it can be raised."""
    package.log.clear()
    plan = builder.build_serialized_network(network, config)
    if watching.interrupted:
        raise KeyboardInterrupt
    if plan is None:
        raise UserError(f"{onnx}: {package.name} cannot build it: {package.log.reason()}")
    return plan


def _parse(package: TensorRT, builder: Any, graph: OnnxFile) -> Any:
    """The network of a graph."""
    flag = getattr(package.api.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    if flag is None and package.major < 11:
        raise UserError(f"{package.name} has no strongly typed networks; expected TensorRT 10 or newer")
    network = builder.create_network(0 if flag is None else 1 << int(flag))
    parser = package.api.OnnxParser(network, package.log)
    if not parser.parse_from_file(str(graph.path)):
        raise UserError(f"{graph.path}: {package.name} cannot take {_parser_error(package, parser, graph)}")
    return network


def _fix_sizes(network: Any, profile: Profile) -> None:
    """Give the network the one shape of its profile: a builder folds what depends on it, and tunes for it alone."""
    if profile.fixed:
        for index in range(network.num_inputs):
            if network.get_input(index).name == profile.input:
                network.get_input(index).shape = profile.maximum


def _free_defaults(package: TensorRT, network: Any, graph: OnnxFile) -> tuple[Default, ...]:
    """Turn constants that the graph declares as inputs with a default into inputs of the network.

    The parser takes such an input for the constant that its default is, so that an engine could never be told
    anything else: `omitted` of up.onnx says where in the panorama a tile lies.
    """
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    freed = []
    for tensor, content in graph.defaults:
        name = re.compile(re.escape(tensor.name) + r"(_\d+)?")  # numbered where a weight is read more than once
        constants = [layer for layer in layers if layer.type.name == "CONSTANT" and name.fullmatch(layer.name)]
        if not constants:
            continue
        shape = tuple(size for size in tensor.shape if isinstance(size, int))
        for index, layer in enumerate(constants):
            layer.get_output(0).name = f"{tensor.name}_default_{index}"  # the name is the input's
        values = network.add_input(tensor.name, constants[0].get_output(0).dtype, shape)
        replaced = {layer.get_output(0).name for layer in constants}
        for layer in layers:
            for index in range(layer.num_inputs):
                given = layer.get_input(index)
                if given is not None and given.name in replaced:
                    layer.set_input(index, values)
        numbers = np.frombuffer(content, tensor.dtype).tolist()
        freed.append(Default(tensor.name, tensor.dtype, shape, tuple(numbers)))
    return tuple(freed)


def _parser_error(package: TensorRT, parser: Any, graph: OnnxFile) -> str:
    """The first of the parser's errors, with node and hint; the rest follow from it."""
    if not parser.num_errors:
        return f"the graph: {package.log.reason()}"
    error = parser.get_error(0)
    node = next((node for node in graph.nodes if node.name == error.node_name()), None)
    place = f"node {error.node_name()} ({error.node_operator()})"
    hint = f"; {_PLUGIN_HINT}" if node is not None and node.domain == PLUGIN_DOMAIN else ""
    return f"{place}: {error.desc()}{hint}"


def _configure(package: TensorRT, config: Any, options: BuildOptions, capabilities: tuple[str, ...]) -> None:
    member = package.member
    if package.runtime == "tensorrt_rtx":
        config.num_compute_capabilities = len(capabilities)
        for index, capability in enumerate(capabilities):
            name = f"SM{capability.replace('.', '')}"
            config.set_compute_capability(member("ComputeCapability", name, "capabilities"), index)
    config.profiling_verbosity = member("ProfilingVerbosity", _VERBOSITY[options.verbosity], "verbosity")
    _set_flag(package, config, "TF32", options.tf32, "tf32")
    if options.version_compatible:
        _set_flag(package, config, "VERSION_COMPATIBLE", True, "version_compatible")
        # A plan with a runtime inside is a program: loading it would execute code from a file.
        _set_flag(package, config, "EXCLUDE_LEAN_RUNTIME", True, "version_compatible")
    if options.hardware != "none":
        level = member("HardwareCompatibilityLevel", _HARDWARE[options.hardware], "hardware")
        config.hardware_compatibility_level = level
    if options.workspace_mib is not None:
        config.set_memory_pool_limit(
            member("MemoryPoolType", "WORKSPACE", "workspace_mib"), options.workspace_mib << 20
        )
    if options.optimization_level is not None:
        config.builder_optimization_level = options.optimization_level
    if options.serialize_plugins:
        config.plugins_to_serialize = [str(options.plugins)]


def _set_flag(package: TensorRT, config: Any, name: str, value: bool, about: str) -> None:
    flag = package.member("BuilderFlag", name, about)
    if value:
        config.set_flag(flag)
    else:
        config.clear_flag(flag)


def _add_profile(package: TensorRT, builder: Any, config: Any, profile: Profile) -> None:
    native = builder.create_optimization_profile()
    native.set_shape(profile.input, profile.minimum, profile.optimum, profile.maximum)
    if config.add_optimization_profile(native) < 0:
        raise UserError(f"profile: {package.name} refuses {profile}: {package.log.reason()}")


def _load_timing_cache(package: TensorRT, config: Any, path: Path | None) -> Any:
    """The cache of this build, filled from the file when there is one; None when none is asked for."""
    if path is None:
        return None
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        content = b""
    except OSError as error:
        raise UserError(f"{path}: cannot read: {os_reason(error)}", "timing_cache") from error
    cache = config.create_timing_cache(content)
    if cache is None or not config.set_timing_cache(cache, False):
        reason = f"{path}: expected one of {package.name} and this GPU, found another; remove it"
        raise UserError(reason, "timing_cache")
    return cache


def _count_layers(network: Any) -> dict[str, int]:
    """Number of layers by kind and type of the first output, such as "convolution float16", most frequent first."""
    counts: Counter[str] = Counter()
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        kind = layer.type.name.lower()
        counts[f"{kind} {_dtype(layer.get_output(0).dtype)}" if layer.num_outputs else kind] += 1
    return dict(counts.most_common())


def _io(tensor: Any) -> IO:
    return IO(tensor.name, _dtype(tensor.dtype), tuple(tensor.shape))


def _input_io(tensor: OnnxTensor, profile: Profile) -> IO:
    return IO(tensor.name, tensor.dtype, profile.maximum) if profile.fixed else _graph_io(tensor)


def _graph_io(tensor: OnnxTensor) -> IO:
    return IO(tensor.name, tensor.dtype, tuple(d if isinstance(d, int) else -1 for d in tensor.shape))


def _dtype(value: Any) -> str:
    """numpy's name of a TensorRT type."""
    return _TYPES.get(value.name, value.name.lower())
