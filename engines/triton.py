"""A model repository for Triton Inference Server: one folder a graph or engine, with its config.pbtxt.

The configuration is written as text, so that no protobuf package is needed here; the tests read it with Triton's own
schema.

A model for a codec asks for its LR file (`coarseness`, `halved`), one value for all images of a batch: it is served
without Triton's batching, which would join requests about different files. So is an engine with further inputs, each
of which every request then has to give: Triton's TensorRT backend knows no optional ones.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from engines.engine_file.label import direction_in, scale_in
from engines.engine_file.manifest import read_manifest
from engines.onnx_file import read_onnx
from engines.support.errors import UserError
from engines.support.files import atomic_path, make_folder, write_text

Device = Literal["auto", "cpu", "gpu"]
VERSION = "1"
_TYPES = {"float32": "TYPE_FP32", "float16": "TYPE_FP16", "uint8": "TYPE_UINT8", "int64": "TYPE_INT64"}
_OF_FILE = ("coarseness", "halved")  # optional inputs that a server's client can fill
_SAID = (
    "scale",
    "direction",
    "preset",
    "precision",
    "io",
    "ops",
    "checkpoint_sha256",
)  # of what a graph says of itself


@dataclass(frozen=True)
class Serving:
    """How a server runs a model.

    max_batch: largest batch that requests of one size are gathered into. delay: how long a request may wait for that,
    in microseconds. instances: copies of the model that run at once, on each GPU or on the CPUs. library: the ONNX
    Runtime operator library of graphs with plugin operators.
    """

    max_batch: int = 4
    delay: int = 2000
    instances: int = 1
    device: Device = "auto"
    library: Path | None = None


@dataclass(frozen=True)
class Tensor:
    """Name, numpy name of the type, and shape, -1 where it is free. optional: a request may leave it out."""

    name: str
    dtype: str
    dims: tuple[int, ...]
    optional: bool = False


@dataclass(frozen=True)
class Model:
    """What a configuration has to say of one file. inputs, outputs: with the batch as first dimension.

    largest: the batch that it can take, None: any. batches: whether a server may join requests.
    """

    source: Path
    name: str
    backend: Literal["onnxruntime", "tensorrt"]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    metadata: dict[str, str]
    plugins: bool
    largest: int | None = None
    batches: bool = True

    @property
    def filename(self) -> str:
        """The name that the backend looks for."""
        return "model.onnx" if self.backend == "onnxruntime" else "model.plan"


def read_model(path: Path) -> Model:
    """What is served from an .onnx file or from an engine with its sidecar.

    Raises:
        UserError: it cannot be read, is none of ours, or is a TensorRT-RTX engine, which Triton has no backend for.
    """
    suffix = path.suffix.lower()
    if suffix == ".onnx":
        graph = read_onnx(path)
        plugins = any(node.domain == "dinn360" for node in graph.nodes)
        asked = [tensor for tensor, _ in graph.defaults if tensor.name in _OF_FILE]
        inputs = _tensors(path, graph.inputs) + _tensors(path, asked, optional=True)
        return _model(
            path, "onnxruntime", inputs, _tensors(path, graph.outputs), graph.metadata, plugins, batches=not asked
        )
    if suffix in (".engine", ".plan"):
        manifest = read_manifest(path)
        manifest.check_file(path)
        if manifest.runtime != "tensorrt":
            raise UserError(
                f"{path}: expected an engine of TensorRT, found one of {manifest.runtime}; Triton runs no such"
            )
        plugins = manifest.plugin_library is not None and not manifest.plugin_library.serialized
        return _model(
            path,
            "tensorrt",
            _tensors(path, (*manifest.inputs, *manifest.optional)),
            _tensors(path, manifest.outputs),
            manifest.metadata,
            plugins,
            manifest.profile.maximum[0],
            not manifest.optional,
        )
    raise UserError(f"{path}: expected a file that ends in .onnx, .engine or .plan, found {suffix or 'no suffix'!r}")


class _Described(Protocol):
    """What a graph or an engine's sidecar says of an input or output."""

    @property
    def name(self) -> str: ...
    @property
    def dtype(self) -> str: ...
    @property
    def shape(self) -> Sequence[int | str | None]: ...


def _tensors(path: Path, described: Sequence[_Described], optional: bool = False) -> tuple[Tensor, ...]:
    for tensor in described:
        if tensor.dtype not in _TYPES or not tensor.shape:
            found = f"{tensor.dtype} {list(tensor.shape)}"
            raise UserError(f"{path}: {tensor.name}: expected a tensor of {', '.join(_TYPES)}, found {found}")
    return tuple(
        Tensor(t.name, t.dtype, tuple(n if isinstance(n, int) else -1 for n in t.shape), optional) for t in described
    )


def _model(
    path: Path,
    backend: Literal["onnxruntime", "tensorrt"],
    inputs: tuple[Tensor, ...],
    outputs: tuple[Tensor, ...],
    metadata: dict[str, str],
    plugins: bool,
    largest: int | None = None,
    batches: bool = True,
) -> Model:
    name = f"dinn360_x{scale_in(path, metadata)}_{direction_in(path, metadata)}"
    return Model(path, name, backend, inputs, outputs, metadata, plugins, largest, batches)


def configuration(model: Model, serving: Serving) -> str:
    """The text of config.pbtxt."""
    batch = serving.max_batch if model.largest is None else min(serving.max_batch, model.largest)
    batch = batch if model.batches else 0  # 0: no batching, and shapes are whole
    lines = [
        f"name: {_quoted(model.name)}",
        f"backend: {_quoted(model.backend)}",
        f"max_batch_size: {batch}",
        *(f"input {_tensor(tensor, batch)}" for tensor in model.inputs),
        *(f"output {_tensor(tensor, batch)}" for tensor in model.outputs),
        f"instance_group {{ kind: KIND_{serving.device.upper()} count: {serving.instances} }}",
    ]
    if batch > 1:
        lines.append(f"dynamic_batching {{ max_queue_delay_microseconds: {serving.delay} }}")
    if model.plugins and serving.library is not None:
        lines.append(f"model_operations {{ op_library_filename: {_quoted(serving.library.name)} }}")
    for key in _SAID:
        if key in model.metadata:
            lines.append(
                f"parameters {{ key: {_quoted(key)} value {{ string_value: {_quoted(model.metadata[key])} }} }}"
            )
    return "\n".join(lines) + "\n"


def _tensor(tensor: Tensor, batch: int) -> str:
    dims = ", ".join(map(str, tensor.dims[1:] if batch else tensor.dims))
    optional = " optional: true" if tensor.optional else ""
    return f"{{ name: {_quoted(tensor.name)} data_type: {_TYPES[tensor.dtype]} dims: [ {dims} ]{optional} }}"


def _quoted(text: str) -> str:
    """A string as protobuf's text format writes it, whose escapes are JSON's."""
    return json.dumps(text)


def write_repository(out: Path, sources: Sequence[Path], serving: Serving, overwrite: bool = False) -> list[Path]:
    """Writes out/<name>/config.pbtxt and out/<name>/1/model.* for each file; returns the models' folders.

    Nothing is written unless every file can be served. A server that polls the folder sees a configuration only once
    its model is there.

    Raises:
        UserError: as `read_model`; two files would have one name; a model is there already and `overwrite` is not set;
            an ONNX graph has plugin operators and no `library` is given; the folder cannot be written.
    """
    models = [read_model(path) for path in sources]
    for model in models:
        _check(model, models, out, serving, overwrite)
    folders = []
    for model in models:
        folder = out / model.name
        make_folder(folder / VERSION)
        _copy(model.source, folder / VERSION / model.filename)
        if model.backend == "onnxruntime" and model.plugins and serving.library is not None:
            _copy(serving.library, folder / serving.library.name)
        write_text(folder / "config.pbtxt", configuration(model, serving))
        folders.append(folder)
    return folders


def _check(model: Model, models: Sequence[Model], out: Path, serving: Serving, overwrite: bool) -> None:
    twins = [other.source for other in models if other.name == model.name and other is not model]
    if twins:
        raise UserError(f"{model.source}, {twins[0]}: expected one file for each model, found two {model.name}")
    if (out / model.name).exists() and not overwrite:
        raise UserError(f"expected, because {out} holds {model.name} already", "overwrite")
    if model.backend == "onnxruntime" and model.plugins:
        if serving.library is None:
            reason = f"{model.source}: has plugin operators; expected their library, or a graph of standard operators"
            raise UserError(reason, "library")
        if not serving.library.is_file():
            raise UserError(f"{serving.library}: expected the operator library, found no such file", "library")


def _copy(source: Path, target: Path) -> None:
    with atomic_path(target) as temporary:
        shutil.copyfile(source, temporary)
