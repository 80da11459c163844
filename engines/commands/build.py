"""python -m engines build: an engine from an exported graph."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from engines.commands.types import PATH, SIZE
from engines.support.errors import UserError
from engines.support.files import prepare_output

if TYPE_CHECKING:
    from engines.building.build import Hardware, Verbosity
    from engines.engine_file.manifest import Manifest
    from engines.targets import Size


@click.command()
@click.option("--onnx", type=PATH, required=True, help="Graph of python -m export onnx.")
@click.option("--target", required=True, help="Device of engines/targets.toml: jetson-agx-orin, h100, rtx ...")
@click.option("--out", type=PATH, help="Engine file; default: beside the graph, with the suffix .engine.")
@click.option("--opt", type=SIZE, help="Size in HR pixels to tune for, WIDTHxHEIGHT; default: the target's.")
@click.option("--max", "maximum", type=SIZE, help="Largest size in HR pixels; default: the target's tile.")
@click.option("--size", type=SIZE, help="The one size that runs, in HR pixels, in place of --opt and --max.")
@click.option("--batch", type=click.IntRange(1, 1024), default=1, show_default=True, help="Largest batch.")
@click.option("--compute-capability", "capabilities", multiple=True, help="One of the target's; may be repeated. [rtx]")
@click.option("--plugins", type=PATH, help="Plugin library libdinn360_trt.so, for graphs of --ops plugin.")
@click.option("--serialize-plugins", is_flag=True, help="Put the plugin library into the engine.")
@click.option("--timing-cache", type=PATH, help="Keep kernel timings in this file from build to build.")
@click.option(
    "--workspace", "workspace_mib", type=click.IntRange(1, 2**20), help="Most scratch memory of a layer, in MiB."
)
@click.option(
    "--verbosity",
    type=click.Choice(["none", "layer-names", "detailed"]),
    default="detailed",
    show_default=True,
    help="What the engine remembers of its layers.",
)
@click.option("--version-compatible", is_flag=True, help="Later versions of the same major version may load it.")
@click.option(
    "--hardware-compatible",
    "hardware",
    type=click.Choice(["none", "ampere-plus", "same-compute-capability"]),
    default="none",
    show_default=True,
    help="Cards beyond that of the build.",
)
@click.option("--optimization-level", type=click.IntRange(0, 5), help="0: fast build, 5: best engine.")
@click.option("--tf32", is_flag=True, help="Allow TF32 in fp32 graphs; breaks parity to 1e-4.")
@click.option("--print-trtexec", is_flag=True, help="Print the trtexec command instead of building.")
@click.option("--tensorrt", "version", help="TensorRT version on the device, for --print-trtexec and --engine.")
@click.option("--engine", "built", type=PATH, help="Write only the sidecar of this engine, which trtexec has built.")
def build(
    onnx: Path,
    target: str,
    out: Path | None,
    opt: Size | None,
    maximum: Size | None,
    size: Size | None,
    batch: int,
    capabilities: tuple[str, ...],
    plugins: Path | None,
    serialize_plugins: bool,
    timing_cache: Path | None,
    workspace_mib: int | None,
    verbosity: Verbosity,
    version_compatible: bool,
    hardware: Hardware,
    optimization_level: int | None,
    tf32: bool,
    print_trtexec: bool,
    version: str | None,
    built: Path | None,
) -> None:
    """Build an engine and its sidecar. TensorRT-RTX engines (--target rtx) build on any machine, without a GPU."""
    from engines.building.build import BuildOptions, build_engine
    from engines.building.progress import BuildProgress, progress_bar
    from engines.engine_file.profile import sizes_for
    from engines.targets import find_target

    device = find_target(target)
    if not onnx.is_file():
        raise UserError(f"--onnx {onnx}: expected a graph, found {'a folder' if onnx.is_dir() else 'no such file'}")
    options = BuildOptions(
        target=device,
        sizes=sizes_for(device, opt, maximum, batch, size),
        capabilities=capabilities,
        plugins=plugins,
        serialize_plugins=serialize_plugins,
        timing_cache=timing_cache,
        workspace_mib=workspace_mib,
        verbosity=verbosity,
        version_compatible=version_compatible,
        hardware=hardware,
        optimization_level=optimization_level,
        tf32=tf32,
    )
    out = out or onnx.with_suffix(".engine")
    if version is not None and not print_trtexec and built is None:
        raise UserError("--tensorrt: expected --print-trtexec or --engine beside it; a build uses what is installed")
    if version is None and (print_trtexec or built is not None) and device.runtime == "tensorrt":
        stack = device.stacks[-1]
        where = f"JetPack {stack.jetpack}" if stack.jetpack else f"CUDA {stack.cuda}"
        others = ", ".join(one.tensorrt for one in device.stacks[:-1])
        click.echo(
            f"note: for TensorRT {stack.tensorrt} ({where}), the newest known for {device.key}; another one"
            f"{f' ({others})' if others else ''}: --tensorrt",
            err=True,
        )
    version = version or device.stacks[-1].tensorrt
    if print_trtexec:
        from engines.building.trtexec import trtexec_command

        click.echo(trtexec_command(onnx, out, options, version))
        return
    if built is not None:
        from engines.building.trtexec import adopt_engine

        _report(built, adopt_engine(onnx, built, options, version))
        return
    prepare_output(out)
    started = time.perf_counter()
    with progress_bar() as bar:
        manifest = build_engine(onnx, out, options, BuildProgress(bar))
    _report(out, manifest)
    click.echo(f"built in {time.perf_counter() - started:.1f} s")


def _report(engine: Path, manifest: Manifest) -> None:
    from engines.engine_file.manifest import sidecar

    capabilities = ", ".join(manifest.compute_capabilities)
    click.echo(f"{engine}  {manifest.engine_bytes / 1e6:.1f} MB, {manifest.precision}, for {capabilities}")
    click.echo(f"{sidecar(engine)}  {manifest.profile}")
