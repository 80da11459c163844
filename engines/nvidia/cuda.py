"""The little of CUDA that engines need: the device, buffers, one stream, graphs. Through NVIDIA's cuda-bindings."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from engines.support.arrays import Array
from engines.support.errors import UserError


@dataclass(frozen=True)
class Device:
    """The first GPU: what it is called, and its compute capability, such as "8.7"."""

    name: str
    capability: str


def import_runtime(why: str) -> Any:
    """cuda.bindings.runtime. `why` starts the message. Raises UserError when the package is not installed."""
    try:
        from cuda.bindings import runtime
    except ImportError as error:
        raise UserError(
            f"{why} needs the package cuda-bindings, which is not installed (pip install cuda-bindings, "
            "of the major version of the CUDA that is here)"
        ) from error
    return runtime


def find_device(why: str) -> Device:
    """The GPU that engines are built and run on.

    Raises:
        UserError: one line, when there is no GPU, no driver or no package.
    """
    runtime = import_runtime(why)
    try:
        status, count = runtime.cudaGetDeviceCount()
    except RuntimeError as error:  # cuda-bindings loads the driver on the first call
        raise UserError(f"{why} needs an NVIDIA GPU and its driver; found none: {error}") from error
    if status != runtime.cudaError_t.cudaSuccess or not count:
        reason = "no device" if status == runtime.cudaError_t.cudaSuccess else _describe(runtime, status)
        raise UserError(f"{why} needs an NVIDIA GPU and its driver; found none ({reason})")
    properties = _check(runtime, runtime.cudaGetDeviceProperties(0))
    return Device(bytes(properties.name).split(b"\0")[0].decode(), f"{properties.major}.{properties.minor}")


class Stream:
    """A CUDA stream with pinned and device buffers that grow and are reused; everything is freed by `close`.

    Not safe for several threads at once.
    """

    def __init__(self, why: str) -> None:
        self._runtime = import_runtime(why)
        self._buffers: dict[str, Buffer] = {}
        self._graph: Any = None
        self.handle = self._call("cudaStreamCreate")

    def buffer(self, name: str, size: int) -> Buffer:
        """The buffer of a tensor, with room for `size` bytes; its address may change when it grows."""
        found = self._buffers.get(name)
        if found is None or found.size < size:
            if found is not None:
                self.forget_graph()  # it has the old address
                self._free(self._buffers.pop(name))
            device = int(self._call("cudaMalloc", size))
            try:
                host = int(self._call("cudaMallocHost", size))
            except UserError:
                self._call("cudaFree", device)
                raise
            found = self._buffers[name] = Buffer(device, host, size)
        return found

    def upload(self, buffer: Buffer, array: Array) -> None:
        """Copy a C-contiguous array into the buffer: into pinned memory now, from there on the stream."""
        np.copyto(buffer.view(array.shape, array.dtype), array)
        kind = self._runtime.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._call("cudaMemcpyAsync", buffer.device, buffer.host, array.nbytes, kind, self.handle)

    def download(self, buffer: Buffer, size: int) -> None:
        """Copy `size` bytes into the buffer's pinned memory, on the stream."""
        kind = self._runtime.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._call("cudaMemcpyAsync", buffer.host, buffer.device, size, kind, self.handle)

    def synchronize(self) -> None:
        """Wait until everything on the stream is done."""
        self._call("cudaStreamSynchronize", self.handle)

    def record(self, work: Callable[[], None]) -> None:
        """Let `work` put its kernels on the stream, but record them instead of running them; `launch` runs them.

        Raises:
            UserError: something in `work` cannot be recorded. The stream is usable as before.
        """
        mode = self._runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._call("cudaStreamBeginCapture", self.handle, mode)
        try:
            work()
        except UserError:
            self._runtime.cudaStreamEndCapture(self.handle)  # its status only says that there is nothing to keep
            raise
        graph = self._call("cudaStreamEndCapture", self.handle)
        try:
            self._graph = self._call("cudaGraphInstantiate", graph, 0)
        finally:
            self._call("cudaGraphDestroy", graph)

    @property
    def has_graph(self) -> bool:
        return self._graph is not None

    def launch(self) -> None:
        """Run the graph on the stream."""
        self._call("cudaGraphLaunch", self._graph, self.handle)

    def forget_graph(self) -> None:
        if self._graph is not None:
            graph, self._graph = self._graph, None
            self._call("cudaGraphExecDestroy", graph)

    def close(self) -> None:
        """Free everything; closing twice is harmless."""
        if self.handle is None:
            return
        self.forget_graph()
        for name in list(self._buffers):
            self._free(self._buffers.pop(name))
        handle, self.handle = self.handle, None
        self._call("cudaStreamDestroy", handle)

    def _free(self, buffer: Buffer) -> None:
        self._call("cudaFree", buffer.device)
        self._call("cudaFreeHost", buffer.host)

    def _call(self, name: str, *arguments: Any) -> Any:
        return _check(self._runtime, getattr(self._runtime, name)(*arguments))


@dataclass(frozen=True)
class Buffer:
    """Device memory and as much pinned host memory: two addresses."""

    device: int
    host: int
    size: int

    def view(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """The pinned memory as an array; it is overwritten by the next copy and gone after `Stream.close`."""
        size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        memory: Any = (ctypes.c_char * size).from_address(self.host)
        return np.ndarray(shape, dtype, memory)


def _check(runtime: Any, result: tuple[Any, ...]) -> Any:
    """The value of a call, which returns (status, value ...). Raises UserError with CUDA's words for the status."""
    status, *values = result
    if status != runtime.cudaError_t.cudaSuccess:
        raise UserError(f"CUDA: {_describe(runtime, status)}")
    return values[0] if values else None


def _describe(runtime: Any, status: Any) -> str:
    text = runtime.cudaGetErrorString(status)[1]
    return text.decode() if isinstance(text, bytes) else str(text)
