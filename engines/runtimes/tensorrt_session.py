"""Sessions over engines in TensorRT and TensorRT-RTX, on the first GPU."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from engines.engine_file.manifest import IO, Manifest, read_manifest
from engines.engine_file.profile import Profile, text
from engines.nvidia import cuda
from engines.nvidia.device_array import DeviceArray, view
from engines.nvidia.tensorrt_package import TensorRT, import_tensorrt
from engines.runtimes.base import Session, TensorSpec, listed
from engines.support.arrays import Array
from engines.support.errors import UserError
from engines.support.files import atomic_path, os_reason


class TensorRTSession(Session):
    """An engine file and its sidecar; open it with `open_session`, which checks the path first.

    Everything that can be checked without a GPU is checked first: the sidecar belongs to this engine, the version of
    the runtime loads it, its plugins are there. Then the GPU has to be one that it was built for.

    One execution context, one stream, and buffers that are kept from call to call and grow when a shape needs more.
    A shape that comes a second time is recorded as a CUDA graph and replayed from then on (TensorRT-RTX does that
    itself). Calls from several threads wait for each other; calls on a caller's stream (`run_on_device`) follow each
    other on the device, and the host waits for none of them.

    TensorRT-RTX compiles its kernels on first use; what it compiled is kept in <engine>.cache by `close`.
    """

    profile: Profile

    def __init__(self, path: Path, plugins: Path | None) -> None:
        manifest = read_manifest(path)
        package = import_tensorrt(manifest.runtime, str(path))
        manifest.check_runtime(path, package.version)
        _load_plugins(package, path, manifest, plugins)
        manifest.check_file(path)
        device = cuda.find_device(str(path))
        manifest.check_gpu(path, device.name, device.capability)
        self.path = path
        self.profile = manifest.profile
        self.inputs = tuple(_spec(io) for io in manifest.inputs)
        self.outputs = tuple(_spec(io) for io in manifest.outputs)
        self.optional = tuple(_spec(io) for io in manifest.optional)
        self._defaults = {io.name: np.array(io.values, io.dtype).reshape(io.shape) for io in manifest.optional}
        self.metadata = dict(manifest.metadata)
        self.runtime = f"{package.name} {device.name} {manifest.precision}"
        self._lock = threading.Lock()
        self._package = package
        self._shapes: tuple[tuple[int, ...], ...] = ()
        self._records = package.runtime == "tensorrt"  # CUDA graphs of our own
        self._stream: cuda.Stream | None = cuda.Stream(str(path))
        try:
            self._runtime = package.api.Runtime(package.log)
            self._engine = package.deserialize(self._runtime, path)
            self._cache: Any = None
            self._context = self._create_context()
        except UserError:
            self._stream.close()
            raise

    def _run(self, arrays: dict[str, Array]) -> dict[str, Array]:
        with self._lock:
            stream = self._stream
            if stream is None:
                raise ValueError(f"{self.path}: the session is closed")
            given = {name: np.ascontiguousarray(array) for name, array in {**self._defaults, **arrays}.items()}
            self._check_profile(given)
            shapes = tuple(array.shape for array in given.values())
            repeated = self._take_shapes(stream, given)
            results = self._bind(stream, given)
            stream.follow_last()  # a call on a caller's stream may still use the context and pinned memory
            for name, array in given.items():
                stream.upload(stream.buffer(name, array.nbytes), array)
            self._execute(stream, repeated)
            for name, (shape, dtype) in results.items():
                stream.download(stream.buffer(name, _nbytes(shape, dtype)), _nbytes(shape, dtype))
            stream.synchronize()
            self._shapes = shapes
            return {
                name: stream.buffer(name, _nbytes(shape, dtype)).view(shape, dtype).copy()
                for name, (shape, dtype) in results.items()
            }

    def run_on_device(self, stream: Any, out: Mapping[str, Any] | None = None, **arrays: Any) -> dict[str, Any]:
        with self._lock:
            own, out = self._stream, out or {}
            if own is None:
                raise ValueError(f"{self.path}: the session is closed")
            handle = own.adopt(stream)
            given = {name: self._given(name, array, handle) for name, array in {**self._defaults, **arrays}.items()}
            self._check_arrays({name: given[name] for name in {*given} - ({*self._defaults} - {*arrays})}, DeviceArray)
            self._check_profile(given)
            self._take_shapes(own, given)
            results = {name: self._place(own, name, out, handle) for name in self._result_shapes()}
            if unknown := sorted({*out} - {*results}):
                raise UserError(f"{self.path}: out: expected some of {listed(results)}, found {listed(unknown)}")
            self._bind_on_device(own, handle, given, results)
            self._enqueue(handle)
            own.mark(handle)
            self._shapes = tuple(array.shape for array in given.values())
            return {name: out.get(name, place) for name, place in results.items()}

    def _given(self, name: str, array: Any, stream: int) -> Any:
        """An input as a view of its memory; numpy arrays are taken where an input may be left out."""
        if isinstance(array, np.ndarray) and name in self._defaults:
            return np.ascontiguousarray(array)
        return view(f"{self.path}: input {name}", array, stream)

    def _place(self, own: cuda.Stream, name: str, out: Mapping[str, Any], stream: int) -> DeviceArray:
        """Where an output goes."""
        shape, dtype = self._result_shapes()[name]
        if name not in out:
            return own.allocate(shape, dtype, stream)
        place = view(f"{self.path}: output {name}", out[name], stream)
        self._check_array("output", TensorSpec(name, shape, dtype), place)
        return place

    def _bind_on_device(
        self, own: cuda.Stream, stream: int, given: Mapping[str, Any], results: Mapping[str, DeviceArray]
    ) -> None:
        """Tell the context where its tensors lie, and let `stream` wait for what they and the context wait for."""
        own.follow_last(stream)
        for name, array in given.items():
            if isinstance(array, np.ndarray):
                own.follow_last()  # the pinned memory may still be on its way
                buffer = own.buffer(name, array.nbytes)
                own.upload(buffer, array, stream)
                self._context.set_tensor_address(name, buffer.device)
        for name, place in {**given, **results}.items():
            if isinstance(place, DeviceArray):
                if place.stream not in (None, stream):
                    own.follow(stream, place.stream)
                self._context.set_tensor_address(name, place.address)

    def close(self) -> None:
        with self._lock:
            if self._stream is None:
                return
            stream, self._stream = self._stream, None
            self._save_cache()
            # the context before the engine, the engine before the runtime
            self._context = self._cache = self._engine = self._runtime = None
            stream.close()

    def _check_profile(self, arrays: Mapping[str, Any]) -> None:
        shape = arrays[self.profile.input].shape
        if not self.profile.admits(shape):
            hint = "build it for larger images, or run smaller tiles"
            raise UserError(f"{self.path}: expected {self.profile}, found {text(shape)}; {hint}")

    def _take_shapes(self, stream: cuda.Stream, arrays: Mapping[str, Any]) -> bool:
        """Tell the context the inputs' shapes; whether they are those of the last call."""
        repeated = tuple(array.shape for array in arrays.values()) == self._shapes
        if not repeated:
            self._shapes = ()  # whatever fails from here on, the next call starts afresh
            stream.forget_graph()
            self._set_shapes(arrays)
        return repeated

    def _result_shapes(self) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
        return {spec.name: (tuple(self._context.get_tensor_shape(spec.name)), spec.dtype) for spec in self.outputs}

    def _set_shapes(self, arrays: Mapping[str, Any]) -> None:
        for name, array in arrays.items():
            if not self._context.set_input_shape(name, array.shape):
                raise UserError(f"{self.path}: {self._package.name} refuses {name} {text(array.shape)}")
        missing = self._context.infer_shapes()
        if missing:
            raise UserError(f"{self.path}: the shapes of {', '.join(missing)} cannot be inferred")

    def _bind(self, stream: cuda.Stream, arrays: dict[str, Array]) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
        """Tell the context where its tensors lie, and return shape and type of each output."""
        sizes = {name: array.nbytes for name, array in arrays.items()}
        results = self._result_shapes()
        sizes.update((name, _nbytes(shape, dtype)) for name, (shape, dtype) in results.items())
        for name, size in sizes.items():
            self._context.set_tensor_address(name, stream.buffer(name, size).device)
        return results

    def _execute(self, stream: cuda.Stream, repeated: bool) -> None:
        """Put one inference on the stream.

        The first call of a shape runs plainly, because it sets things up that must not be recorded; the second is
        recorded, and every later one replays the record. An engine that cannot be recorded always runs plainly.
        """
        if repeated and self._records and not stream.has_graph:
            try:
                stream.record(lambda: self._enqueue(stream.handle))
            except UserError:
                self._records = False
        if stream.has_graph:
            stream.launch()
        else:
            self._enqueue(stream.handle)

    def _enqueue(self, stream: Any) -> None:
        self._package.log.clear()
        if not self._context.execute_async_v3(int(stream)):
            raise UserError(f"{self.path}: {self._package.name} cannot run it: {self._package.log.reason()}")

    def _create_context(self) -> Any:
        if self._package.runtime == "tensorrt_rtx":
            config = self._engine.create_runtime_config()
            config.cuda_graph_strategy = self._package.member("CudaGraphStrategy", "WHOLE_GRAPH_CAPTURE", "engine")
            self._cache = config.create_runtime_cache()
            self._read_cache()
            config.set_runtime_cache(self._cache)
            context = self._engine.create_execution_context(config)
        else:
            context = self._engine.create_execution_context()
        if context is None:
            raise UserError(f"{self.path}: {self._package.name} cannot start it: {self._package.log.reason()}")
        return context

    @property
    def _cache_path(self) -> Path:
        return self.path.with_name(self.path.name + ".cache")

    def _read_cache(self) -> None:
        try:
            content = self._cache_path.read_bytes()
        except FileNotFoundError:
            return
        except OSError as error:
            raise UserError(f"{self._cache_path}: cannot read: {os_reason(error)}") from error
        self._cache.deserialize(content)  # False for a cache of another version or card, which is then left empty

    def _save_cache(self) -> None:
        if self._cache is None:
            return
        try:
            with atomic_path(self._cache_path) as temporary:
                temporary.write_bytes(self._cache.serialize())
        except UserError:
            return  # a read-only folder costs the next start some seconds, not this one its result


def _load_plugins(package: TensorRT, path: Path, manifest: Manifest, plugins: Path | None) -> None:
    library = manifest.plugin_library
    if library is None:
        return
    if library.serialized:
        raise UserError(
            f"{path}: carries the plugin library inside, and a session runs no code out of an engine file; "
            "build it with the library beside it"
        )
    beside = path.with_name(library.file)
    if plugins is not None or beside.is_file():
        package.load_plugins(plugins or beside)
    manifest.check_plugins(path, package.creators())


def _spec(io: IO) -> TensorSpec:
    return TensorSpec(io.name, tuple(None if size < 0 else size for size in io.shape), np.dtype(io.dtype))


def _nbytes(shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    return int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
