"""Writes the recipe: the graph, panoramas of its size, what runs each half, libraries and tolerances."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template

import numpy as np
from PIL import Image

from engines.building.build import plugin_nodes
from engines.building.stock_deform_conv import check_deform_convs
from engines.engine_file.profile import Profile, factor_of, profile_for, sizes_for
from engines.nvidia.tensorrt_package import PLUGIN_LIBRARY
from engines.onnx_file import OnnxFile, read_onnx
from engines.runtimes import operator_library
from engines.support.arrays import Array, to_tensor
from engines.support.errors import UserError
from engines.support.files import atomic_path, make_folder, write_text
from engines.support.images import read_panorama
from engines.targets import Size, load_targets

TEMPLATES = Path(__file__).parent
# Absolute and relative, of every layer: NVIDIA's advice for fp16, and thirty times the error of a whole fp32 network.
TOLERANCES = {"fp32": (1e-3, 1e-3), "fp16": (5e-3, 5e-3)}
RESULT = {"fp32": (1e-4, 0.0), "fp16": (5e-3, 5e-3)}  # of the graph's own output, which is in [0,1]


@dataclass(frozen=True)
class Libraries:
    """The operator libraries of a plugin graph.

    tensorrt: None: libdinn360_trt.so beside the graph. onnxruntime: None: where a session finds it.
    """

    tensorrt: Path | None = None
    onnxruntime: Path | None = None


def write_recipe(model: Path, out: Path, panoramas: Sequence[Path], size: Size, libraries: Libraries) -> list[Path]:
    """Write a folder for `polygraphy run`; what it compares and how stands in its run.sh.

    Args:
        model: a graph of ours, down.onnx or up.onnx.
        out: the folder; it must not be there, or be empty.
        panoramas: images; each is brought to `size` (and, for up.onnx, reduced by the scale).
        size: (H, W) in HR pixels of the images that are compared. Every layer's result is kept: small is enough.

    Returns:
        The files, in the order of their names.

    Raises:
        UserError: the graph, a panorama, a library or the folder is not as expected.
    """
    graph = read_onnx(model)
    if graph.metadata.get("ops") == "cpu":
        raise UserError(f"{model}: expected a graph that TensorRT runs, found one for CPU cores")
    if not panoramas:
        raise UserError("panoramas: expected at least one image, found none")
    profile = profile_for(graph, sizes_for(next(iter(load_targets().values())), only=size))
    check_deform_convs(graph, profile, factor_of(graph), (10, 10))
    if any(out.iterdir() if out.is_dir() else ()):
        raise UserError(f"{out}: expected a new or an empty folder, found files in it")
    inputs = {f"{path.stem}.npy": _input(graph, profile, path) for path in panoramas}  # a bad one leaves no folder
    make_folder(out / "panoramas")
    for name, pixels in inputs.items():
        with atomic_path(out / "panoramas" / name) as temporary, temporary.open("wb") as file:
            np.save(file, pixels)
    _copy(model, out)
    carried = _libraries(graph, model, out, libraries)
    names = {"graph": model.name, "input": profile.input, "ort_library": carried.onnxruntime or ""}
    for template, name in (
        ("data_loader", "data_loader.py"),
        ("onnxruntime_half", "onnxruntime_half.py"),
        ("run", "run.sh"),
    ):
        text = (TEMPLATES / f"{template}.template").read_text(encoding="utf-8")
        write_text(out / name, Template(text).substitute(names))
    write_text(out / "arguments.txt", "\n".join(_arguments(graph, profile, carried.tensorrt)) + "\n")
    atol, rtol = RESULT[graph.precision]
    layers = dict(zip(("atol", "rtol"), TOLERANCES[graph.precision], strict=True))
    told = {"precision": graph.precision, "result": {"atol": atol, "rtol": rtol}, "layers": layers}
    write_text(out / "tolerances.json", json.dumps(told, indent=2) + "\n")
    return sorted(path for path in out.rglob("*") if path.is_file())


def _arguments(graph: OnnxFile, profile: Profile, library: str | None) -> list[str]:
    """Of `polygraphy run`, one a line: the device's half."""
    shape = f"{profile.input}:[{','.join(map(str, profile.maximum))}]"
    (atol, rtol), (result_atol, result_rtol) = TOLERANCES[graph.precision], RESULT[graph.precision]
    results = [tensor.name for tensor in graph.outputs]
    return [
        "--strongly-typed",
        *(["--plugins", f"./{library}"] if library else []),
        "--data-loader-script", "data_loader.py",
        "--trt-outputs", "mark", "all",
        *(word for kind in ("min", "opt", "max") for word in (f"--trt-{kind}-shapes", shape)),
        "--atol", f"{atol:g}", *(f"{name}:{result_atol:g}" for name in results),
        "--rtol", f"{rtol:g}", *(f"{name}:{result_rtol:g}" for name in results),
    ]  # fmt: skip


def _input(graph: OnnxFile, profile: Profile, path: Path) -> Array:
    """One panorama as the graph takes it."""
    (tensor,) = graph.inputs
    last = tensor.shape[-1] == 3
    height, width = profile.maximum[1:3] if last else profile.maximum[2:4]
    image = Image.fromarray(read_panorama(path)).resize((width, height), Image.Resampling.BICUBIC)
    pixels = np.asarray(image)
    return pixels[None] if last else to_tensor(pixels).astype(tensor.dtype)


def _copy(path: Path, folder: Path) -> None:
    with atomic_path(folder / path.name) as temporary:
        shutil.copyfile(path, temporary)


@dataclass(frozen=True)
class _Carried:
    tensorrt: str | None = None
    onnxruntime: str | None = None


def _libraries(graph: OnnxFile, model: Path, out: Path, given: Libraries) -> _Carried:
    """Copies the libraries that the graph's nodes need; their names in the folder."""
    nodes = plugin_nodes(graph)
    for name, path in (("TensorRT", given.tensorrt), ("ONNX Runtime", given.onnxruntime)):
        if path is not None and not nodes:
            raise UserError(f"{path}: expected a graph of plugin operators for a library of {name}, found {model}")
        if path is not None and not path.is_file():
            raise UserError(f"{path}: expected a library for {name}, found no such file")
    if not nodes:
        return _Carried()
    plugins = given.tensorrt or model.with_name(PLUGIN_LIBRARY)
    if not plugins.is_file():
        raise UserError(f"{model}: node {nodes[0].name} ({nodes[0].op_type}) needs {plugins}, found no such file")
    runtime = given.onnxruntime or operator_library.find(model, f"dinn360:{nodes[0].op_type}")
    _copy(plugins, out)
    _copy(runtime, out)
    return _Carried(plugins.name, runtime.name)
