"""Engines for the tests: small ones that build in a second, and a GPU made of host memory to run sessions on."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from conftest import save_graph
from onnx import TensorProto, helper

from engines.building.build import BuildOptions, build_engine
from engines.engine_file.profile import sizes_for
from engines.nvidia import cuda
from engines.nvidia.tensorrt_package import TensorRT
from engines.runtimes import tensorrt_session
from engines.support.errors import UserError
from engines.targets import Runtime, find_target

SMALL = {"direction": "down", "scale": "2", "checkpoint_sha256": "c" * 64, "ops": "primitive", "precision": "fp32"}


def options(**changes: Any) -> BuildOptions:
    """TensorRT-RTX for one compute capability and images of up to 512 x 256."""
    rtx = find_target("rtx")
    return BuildOptions(**{"target": rtx, "sizes": sizes_for(rtx, maximum=(256, 512)), **changes})


def build_small(folder: Path) -> Path:
    """folder/down.engine with its sidecar, of the box mean that `save_graph` makes."""
    graph = save_graph(folder / "down.onnx", "down", SMALL)
    build_engine(graph, folder / "down.engine", options(capabilities=("8.6",)))
    return folder / "down.engine"


def plugin_graph(
    path: Path, op: str = "DeformConv2d", domain: str = "dinn360", source: str = "hr", metadata: dict[str, str] = SMALL
) -> Path:
    """A graph with one node that TensorRT-RTX does not have."""
    inputs, outputs = free_values(source), free_values("lr" if source == "hr" else "hr")
    attributes = {"plugin_version": "1", "plugin_namespace": ""} if domain else {}
    node = helper.make_node(op, [inputs[0].name], [outputs[0].name], "the_node", domain=domain, **attributes)
    opsets = [helper.make_opsetid("", 19), *([helper.make_opsetid(domain, 1)] if domain else [])]
    return save([node], inputs, outputs, [], metadata, path, opsets)


def free_values(name: str) -> list[onnx.ValueInfoProto]:
    return [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 3, "height", "width"])]


def save(
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    weights: list[onnx.TensorProto],
    metadata: dict[str, str],
    path: Path,
    opsets: list[onnx.OperatorSetIdProto] | None = None,
) -> Path:
    graph = helper.make_graph(nodes, "g", inputs, outputs, weights)
    opsets = opsets or [helper.make_opsetid("", 19)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    helper.set_model_props(model, metadata)
    onnx.save(model, path)
    return path


def no_gpu() -> str:
    """Why engines cannot run on this machine; empty when they can."""
    try:
        cuda.find_device("engines")
    except UserError as error:
        return str(error)
    return ""


class HostGpu:
    """What `cuda.bindings.runtime` offers of CUDA, on host memory, and one engine: the box mean of `save_graph`.

    It shows what our code does with buffers, streams and graphs: addresses are checked, what is not freed is seen, and
    recorded work runs only when its graph is launched. It says nothing about CUDA or TensorRT.

    Attributes:
        memory: allocations by address that are not freed. log: what was asked of streams and events, in order.
        runs: engine runs that came to execution. recorded: graphs made. launches: graphs run.
        records: whether the engine can be recorded. room: bytes that can be allocated; None: any number.
    """

    def __init__(self) -> None:
        self.memory: dict[int, Any] = {}
        self.log: list[tuple[Any, ...]] = []
        self.runs = self.recorded = self.launches = 0
        self.records = True
        self.room: int | None = None
        self._recording: list[Callable[[], None]] | None = None
        self.events: list[int] = []
        self._made = 0
        properties = SimpleNamespace(name=b"Host GPU\0\0", major=8, minor=6, totalGlobalMem=8 << 30)
        self._offers: dict[str, Any] = {
            "cudaError_t": SimpleNamespace(cudaSuccess=0),
            "cudaMemcpyKind": SimpleNamespace(cudaMemcpyHostToDevice=1, cudaMemcpyDeviceToHost=2),
            "cudaStreamCaptureMode": SimpleNamespace(cudaStreamCaptureModeThreadLocal=1),
            "cudaGetErrorString": lambda status: (0, f"error {status}".encode()),
            "cudaGetDeviceCount": lambda: (0, 1),
            "cudaGetDeviceProperties": lambda index: (0, properties),
            "cudaStreamCreate": lambda: (0, 7),
            "cudaStreamDestroy": lambda stream: (0,),
            "cudaStreamSynchronize": lambda stream: (0,),
            "cudaMalloc": self._allocate,
            "cudaMallocHost": self._allocate,
            "cudaFree": self._free,
            "cudaFreeHost": self._free,
            "cudaMemcpyAsync": self._copy_on,
            "cudaEventDefault": 0,
            "cudaEventDisableTiming": 2,
            "cudaEventElapsedTime": self._elapsed,
            "cudaEventCreateWithFlags": lambda flags: (0, self._event()),
            "cudaEventDestroy": lambda event: (0, self.events.remove(event))[:1],
            "cudaEventRecord": lambda event, stream: self._note("record", event, stream),
            "cudaEventSynchronize": lambda event: self._note("host waits", event),
            "cudaStreamWaitEvent": lambda stream, event, flags: self._note("wait", stream, event),
            "cudaStreamBeginCapture": self._begin,
            "cudaStreamEndCapture": self._end,
            "cudaGraphInstantiate": lambda graph, flags: (0, tuple(graph)),
            "cudaGraphDestroy": lambda graph: (0,),
            "cudaGraphExecDestroy": lambda graph: (0,),
            "cudaGraphLaunch": self._launch,
        }

    def __getattr__(self, name: str) -> Any:
        try:
            return self._offers[name]
        except KeyError:
            raise AttributeError(name) from None

    def put(self, work: Callable[[], None]) -> tuple[int]:
        """Run work that was put on the stream, or record it."""
        if self._recording is None:
            work()
        else:
            self._recording.append(work)
        return (0,)

    @property
    def recording(self) -> bool:
        return self._recording is not None

    def array(self, address: int, shape: tuple[int, ...]) -> np.ndarray:
        """float32 memory that has to lie in a live allocation that starts at `address`."""
        size = int(np.prod(shape)) * 4
        assert len(self.memory[address]) >= size
        return np.ndarray(shape, np.float32, self.memory[address])

    def _note(self, *what: Any) -> tuple[int]:
        self.log.append(what)
        return (0,)

    def _event(self) -> int:
        self._made += 1
        self.events.append(self._made)
        return self._made

    def _elapsed(self, start: int, end: int) -> tuple[int, float]:
        """As many milliseconds as the second of the two events was made after the first."""
        assert {start, end} <= set(self.events)
        return 0, float(end - start)

    def _copy_on(self, to: int, source: int, size: int, kind: int, stream: int) -> tuple[int]:
        self._note("copy", stream)
        return self.put(lambda: self._copy(to, source, size))

    def _allocate(self, size: int) -> tuple[int, int | None]:
        if self.room is not None and size > self.room:
            return 2, None
        block = (ctypes.c_char * size)()
        self.memory[ctypes.addressof(block)] = block
        return 0, ctypes.addressof(block)

    def _free(self, address: int) -> tuple[int]:
        del self.memory[address]
        return (0,)

    def _copy(self, to: int, source: int, size: int) -> None:
        assert len(self.memory[to]) >= size and len(self.memory[source]) >= size
        ctypes.memmove(to, source, size)

    def _begin(self, stream: int, mode: int) -> tuple[int]:
        assert self._recording is None
        self._recording = []
        return (0,)

    def _end(self, stream: int) -> tuple[int, Any]:
        recorded, self._recording = self._recording, None
        self.recorded += 1
        return 0, recorded

    def _launch(self, graph: tuple[Callable[[], None], ...], stream: int) -> tuple[int]:
        self.launches += 1
        for work in graph:
            work()
        return (0,)


class BoxMean:
    """An execution context over a `HostGpu`: hr (B,3,H,W) to lr (B,3,H/2,W/2), H and W even.

    Where the engine has the input `brighter` (1), it is added.
    """

    def __init__(self, gpu: HostGpu) -> None:
        self._gpu = gpu
        self._addresses: dict[str, int] = {}
        self._shape: tuple[int, ...] = ()

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self._shape = shape if name == "hr" else self._shape
        return name == "hr" or shape == (1,)

    def infer_shapes(self) -> list[str]:
        return []

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        batch, channels, height, width = self._shape
        return self._shape if name == "hr" else (batch, channels, height // 2, width // 2)

    def set_tensor_address(self, name: str, address: int) -> bool:
        self._addresses[name] = address
        return True

    def execute_async_v3(self, stream: int) -> bool:
        if self._gpu.recording and not self._gpu.records:
            return False
        self._gpu.log.append(("run", stream))
        shape, addresses = self._shape, dict(self._addresses)

        def work() -> None:
            batch, channels, height, width = shape
            x = self._gpu.array(addresses["hr"], shape)
            blocks = x.reshape(batch, channels, height // 2, 2, width // 2, 2).mean((3, 5))
            y = self._gpu.array(addresses["lr"], (batch, channels, height // 2, width // 2))
            y[...] = np.rint(blocks * np.float32(255)) / np.float32(255)
            if "brighter" in addresses:
                y += self._gpu.array(addresses["brighter"], (1,))
            self._gpu.runs += 1

        self._gpu.put(work)
        return True


class HostCache:
    """TensorRT-RTX's runtime cache, which counts how often it was filled."""

    def __init__(self) -> None:
        self.content = b""

    def deserialize(self, content: bytes) -> bool:
        self.content = content
        return True

    def serialize(self) -> bytes:
        return self.content + b"kernel"


def install(monkeypatch: pytest.MonkeyPatch, gpu: HostGpu, package: TensorRT) -> None:
    """Let sessions of this test run on `gpu`. `package`: the real one; deserialising is what it cannot do here."""
    config = SimpleNamespace(create_runtime_cache=HostCache, set_runtime_cache=lambda cache: True)
    engine = SimpleNamespace(
        create_runtime_config=lambda: config, create_execution_context=lambda *arguments: BoxMean(gpu)
    )
    runtime = SimpleNamespace(deserialize_cuda_engine=lambda content: engine)
    api = SimpleNamespace(
        Runtime=lambda log: runtime,
        CudaGraphStrategy=package.api.CudaGraphStrategy,
        get_plugin_registry=package.api.get_plugin_registry,
    )

    def imported(name: Runtime, why: str) -> TensorRT:
        return TensorRT(api, name, package.version if name == package.runtime else "10.3.0", package.log)

    monkeypatch.setattr(cuda, "import_runtime", lambda why: gpu)
    monkeypatch.setattr(tensorrt_session, "import_tensorrt", imported)
