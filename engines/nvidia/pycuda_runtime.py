# ruff: noqa: N802, N815 (the names are CUDA's)
"""PyCUDA in the form of `cuda.bindings.runtime`, as far as engines/nvidia/cuda.py uses it; JetPack images have it.

Functions return (status, value ...), and what PyCUDA raises becomes the status. It cannot record graphs, so engines run
plainly; and it knows other people's streams only as its own objects (`adopt`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, ClassVar

_SUCCESS = 0


class PyCudaRuntime:
    """The first device's primary context, which TensorRT uses, and what is allocated in it.

    Raises ImportError where PyCUDA is not installed.
    """

    cudaError_t = SimpleNamespace(cudaSuccess=_SUCCESS)
    cudaMemcpyKind = SimpleNamespace(cudaMemcpyHostToDevice=1, cudaMemcpyDeviceToHost=2)
    cudaStreamCaptureMode = SimpleNamespace(cudaStreamCaptureModeThreadLocal=1)
    cudaEventDefault, cudaEventDisableTiming = 0, 2
    _made: ClassVar[dict[int, Any]] = {}  # streams that any of these made: another's caller may know the handle only

    def __init__(self) -> None:
        import pycuda.driver

        self._driver = pycuda.driver
        self._context: Any = None
        self._here = threading.local()  # whether the context is current in a thread
        self._memory: dict[int, Any] = {}  # device allocations and pinned arrays, by address
        self._streams: dict[int, Any] = {}  # adopted ones

    def adopt(self, stream: Any) -> None:
        """Take a caller's stream, a pycuda.driver.Stream; its handle names it from now on."""
        if isinstance(stream, self._driver.Stream):
            self._streams[int(stream.handle)] = stream

    def cudaGetErrorString(self, status: Any) -> tuple[int, str]:
        return _SUCCESS, str(status)

    def cudaGetDeviceCount(self) -> tuple[Any, ...]:
        def count() -> int:
            self._driver.init()
            return self._driver.Device.count()

        return self._do(count, in_context=False)

    def cudaGetDeviceProperties(self, index: int) -> tuple[Any, ...]:
        def properties() -> SimpleNamespace:
            device = self._driver.Device(index)
            major, minor = device.compute_capability()
            memory = device.total_memory()
            return SimpleNamespace(name=device.name().encode(), major=major, minor=minor, totalGlobalMem=memory)

        return self._do(properties, in_context=False)

    def cudaStreamCreate(self) -> tuple[Any, ...]:
        def create() -> int:
            stream = self._driver.Stream()
            self._made[int(stream.handle)] = stream
            return int(stream.handle)

        return self._do(create)

    def cudaStreamDestroy(self, handle: int) -> tuple[Any, ...]:
        self._made.pop(handle, None)  # PyCUDA destroys it with the object
        return (_SUCCESS,)

    def cudaStreamSynchronize(self, handle: int) -> tuple[Any, ...]:
        return self._do(lambda: self._stream(handle).synchronize())

    def cudaMalloc(self, size: int) -> tuple[Any, ...]:
        return self._do(lambda: self._keep(self._driver.mem_alloc(size)))

    def cudaMallocHost(self, size: int) -> tuple[Any, ...]:
        return self._do(lambda: self._keep(self._driver.pagelocked_empty(size, "uint8")))

    def cudaFree(self, address: int) -> tuple[Any, ...]:
        return self._do(lambda: self._memory.pop(address).free())

    def cudaFreeHost(self, address: int) -> tuple[Any, ...]:
        del self._memory[address]  # PyCUDA frees it with the array
        return (_SUCCESS,)

    def cudaMemcpyAsync(self, to: int, source: int, size: int, kind: int, handle: int) -> tuple[Any, ...]:
        if kind == self.cudaMemcpyKind.cudaMemcpyHostToDevice:
            host, copy = self._memory[source][:size], self._driver.memcpy_htod_async
            return self._do(lambda: copy(to, host, self._stream(handle)))
        host, copy = self._memory[to][:size], self._driver.memcpy_dtoh_async
        return self._do(lambda: copy(host, source, self._stream(handle)))

    def cudaEventCreateWithFlags(self, flags: int) -> tuple[Any, ...]:
        kind = self._driver.event_flags
        return self._do(lambda: self._driver.Event(kind.DISABLE_TIMING if flags else kind.DEFAULT))

    def cudaEventRecord(self, event: Any, handle: int) -> tuple[Any, ...]:
        return self._do(lambda: event.record(self._stream(handle)))[:1]

    def cudaEventSynchronize(self, event: Any) -> tuple[Any, ...]:
        return self._do(event.synchronize)[:1]

    def cudaEventElapsedTime(self, start: Any, end: Any) -> tuple[Any, ...]:
        return self._do(lambda: start.time_till(end))

    def cudaEventDestroy(self, event: Any) -> tuple[Any, ...]:
        return (_SUCCESS,)  # PyCUDA destroys it with the object

    def cudaStreamWaitEvent(self, handle: int, event: Any, flags: int) -> tuple[Any, ...]:
        return self._do(lambda: self._stream(handle).wait_for_event(event))

    def cudaStreamBeginCapture(self, handle: int, mode: int) -> tuple[Any, ...]:
        return ("PyCUDA records no graphs",)

    def _keep(self, memory: Any) -> int:
        address = int(memory.ctypes.data) if hasattr(memory, "ctypes") else int(memory)
        self._memory[address] = memory
        return address

    def _stream(self, handle: int) -> Any:
        stream = self._streams.get(handle, self._made.get(handle))
        if stream is None:
            raise ValueError(f"PyCUDA knows no stream {handle:#x}: give a pycuda.driver.Stream")
        return stream

    def _do(self, call: Callable[[], Any], in_context: bool = True) -> tuple[Any, ...]:
        """(status, value) of a call; what it raises is the status."""
        try:
            if in_context:
                self._enter()
            value = call()
        except (self._driver.Error, ValueError) as error:
            return (str(error) or type(error).__name__, None)
        return (_SUCCESS,) if value is None else (_SUCCESS, value)

    def _enter(self) -> None:
        if self._context is None:
            self._driver.init()
            self._context = self._driver.Device(0).retain_primary_context()
        if not getattr(self._here, "entered", False):
            self._context.push()
            self._here.entered = True
