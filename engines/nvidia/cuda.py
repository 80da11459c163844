"""The little of CUDA that engines need: the device, buffers, one stream, graphs, events.

Through NVIDIA's cuda-bindings or, where that is not installed, through PyCUDA.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from engines.nvidia.device_array import DeviceArray, stream_handle
from engines.support.arrays import Array
from engines.support.errors import UserError


@dataclass(frozen=True)
class Device:
    """The first GPU: what it is called, its compute capability, such as "8.7", and its memory in bytes."""

    name: str
    capability: str
    memory: int = 0


def import_runtime(why: str) -> Any:
    """cuda.bindings.runtime, or PyCUDA in its form. `why` starts the message. Raises UserError without both."""
    try:
        from cuda.bindings import runtime
    except ImportError as error:
        try:
            from engines.nvidia.pycuda_runtime import PyCudaRuntime

            return PyCudaRuntime()
        except ImportError:
            raise UserError(
                f"{why} needs the package cuda-bindings, which is not installed (pip install cuda-bindings, "
                "of the major version of the CUDA that is here), or pycuda"
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
    name = bytes(properties.name).split(b"\0")[0].decode()
    return Device(name, f"{properties.major}.{properties.minor}", int(properties.totalGlobalMem))


class Stream:
    """A CUDA stream with pinned and device buffers that grow and are reused; everything is freed by `close`.

    Not safe for several threads at once.
    """

    def __init__(self, why: str) -> None:
        self._runtime = import_runtime(why)
        self._buffers: dict[str, Buffer] = {}
        self._graph: Any = None
        self._last: Any = None  # event behind the last work that `mark` was called for
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

    def upload(self, buffer: Buffer, array: Array, stream: Any = None) -> None:
        """Copy a C-contiguous array into the buffer: into pinned memory now, from there on the stream.

        stream: another one, by its handle.
        """
        np.copyto(buffer.view(array.shape, array.dtype), array)
        kind = self._runtime.cudaMemcpyKind.cudaMemcpyHostToDevice
        stream = self.handle if stream is None else stream
        self._call("cudaMemcpyAsync", buffer.device, buffer.host, array.nbytes, kind, stream)

    def download(self, buffer: Buffer, size: int) -> None:
        """Copy `size` bytes into the buffer's pinned memory, on the stream."""
        kind = self._runtime.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._call("cudaMemcpyAsync", buffer.host, buffer.device, size, kind, self.handle)

    def synchronize(self) -> None:
        """Wait until everything on the stream is done."""
        self._call("cudaStreamSynchronize", self.handle)

    def adopt(self, stream: Any) -> int:
        """The handle of a caller's stream. Raises UserError as `stream_handle`."""
        if hasattr(self._runtime, "adopt"):
            self._runtime.adopt(stream)
        return stream_handle(stream)

    def follow(self, stream: Any, before: Any) -> None:
        """Let `stream` wait for what is on the stream `before` now; both by their handles."""
        event = self._event()
        self._call("cudaEventRecord", event, before)
        self._call("cudaStreamWaitEvent", stream, event, 0)
        self._call("cudaEventDestroy", event)  # CUDA keeps it until the wait is over

    def mark(self, stream: Any) -> None:
        """Remember what is on `stream` now as the last use of what all calls share."""
        if self._last is None:
            self._last = self._event()
        self._call("cudaEventRecord", self._last, stream)

    def follow_last(self, stream: Any = None) -> None:
        """Let a stream, by its handle, wait for the last `mark`; without one the host."""
        if self._last is not None:
            if stream is None:
                self._call("cudaEventSynchronize", self._last)
            else:
                self._call("cudaStreamWaitEvent", stream, self._last, 0)

    def stamp(self) -> Any:
        """An event that keeps when the stream came to it, for `milliseconds`."""
        event = self._call("cudaEventCreateWithFlags", self._runtime.cudaEventDefault)
        self._call("cudaEventRecord", event, self.handle)
        return event

    def milliseconds(self, stamps: Sequence[Any]) -> list[float]:
        """The time from each stamp to the next, by the device's clock; waits for the last, and uses them up."""
        self._call("cudaEventSynchronize", stamps[-1])
        times = [float(self._call("cudaEventElapsedTime", *pair)) for pair in zip(stamps, stamps[1:], strict=False)]
        for event in stamps:
            self._call("cudaEventDestroy", event)
        return times

    def allocate(self, shape: tuple[int, ...], dtype: np.dtype[Any], stream: int) -> DeviceArray:
        """New memory of the caller's, whose contents become valid on `stream`. It is freed with its last view."""
        array = DeviceArray(0, shape, dtype)
        memory = Memory(self._runtime, array.nbytes)
        return DeviceArray(memory.address, shape, dtype, stream, memory)

    def _event(self) -> Any:
        return self._call("cudaEventCreateWithFlags", self._runtime.cudaEventDisableTiming)

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
        self.follow_last()
        if self._last is not None:
            event, self._last = self._last, None
            self._call("cudaEventDestroy", event)
        for name in list(self._buffers):
            self._free(self._buffers.pop(name))
        handle, self.handle = self.handle, None
        self._call("cudaStreamDestroy", handle)

    def _free(self, buffer: Buffer) -> None:
        self._call("cudaFree", buffer.device)
        self._call("cudaFreeHost", buffer.host)

    def _call(self, name: str, *arguments: Any) -> Any:
        return _check(self._runtime, getattr(self._runtime, name)(*arguments))


class Memory:
    """Device memory that is freed with this object; freeing waits for everything that uses it."""

    def __init__(self, runtime: Any, size: int) -> None:
        self._runtime = runtime
        self.address = int(_check(runtime, runtime.cudaMalloc(size)))

    def __del__(self) -> None:
        if hasattr(self, "address"):
            self._runtime.cudaFree(self.address)


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
