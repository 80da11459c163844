"""Command line of the operator libraries: python -m plugins build says what is built, where and how far."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import click

from plugins.build import BuildError, Show
from plugins.cpu.training import library as training
from plugins.onnxruntime import library as onnxruntime
from plugins.tensorrt import library as tensorrt

Build = Callable[[Show], Path]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """The operator libraries: for ONNX Runtime, for TensorRT, and for training on CPU cores."""


@main.command()
@click.option("--cpu", is_flag=True, help=f"{onnxruntime.NAME} and {training.NAME}, for CPU cores; the default.")
@click.option("--onnxruntime", "ort", is_flag=True, help=f"{onnxruntime.NAME}, for CPU cores.")
@click.option("--cuda", is_flag=True, help=f"{onnxruntime.NAME} for ONNX Runtime's CUDA provider as well; needs nvcc.")
@click.option("--tensorrt", "trt", is_flag=True, help="libdinn360_trt.so; needs nvcc, and TensorRT's headers.")
@click.option("--optional", is_flag=True, help="Where something is missing, say so and exit with 0.")
def build(cpu: bool, ort: bool, cuda: bool, trt: bool, optional: bool) -> None:
    """Build libraries with CMake from the sources of this package.

    Everything needs CMake and a C++17 compiler. TensorRT's headers come from $TENSORRT_ROOT or the system; where there
    are none, --tensorrt downloads a pinned package with pip and says so. Nothing else is downloaded, and nothing but
    this command builds: what runs a graph only finds a library.
    """
    for name, make in chosen(cpu or not (ort or cuda or trt), ort, cuda, trt):
        click.echo(name)
        start = time.monotonic()
        try:
            path = make(lambda line: click.echo(f"  {line}"))
        except (BuildError, tensorrt.UnavailableError) as error:
            click.echo(f"{'left out' if optional else 'error'}: {name}: {error}", err=True)
            if optional:
                continue
            sys.exit(2)
        size = path.stat().st_size / 1e6
        click.echo(f"  {path}  {size:.1f} MB, {time.monotonic() - start:.0f} s")


def chosen(cpu: bool, ort: bool, cuda: bool, trt: bool) -> Iterator[tuple[str, Build]]:
    """What each option builds, with its name."""
    if cpu or ort:
        yield f"{onnxruntime.NAME}: ONNX Runtime, CPU cores", lambda show: onnxruntime.build(show=show)
    if cpu:
        yield f"{training.NAME}: training, CPU cores", training.build
    if cuda:
        yield f"{onnxruntime.NAME}: ONNX Runtime, CPU cores and CUDA", lambda show: onnxruntime.build(True, show)
    if trt:
        yield "libdinn360_trt.so: TensorRT", tensorrt.product
