"""Frames that stay on the GPU: device arrays in and out of a session, without a copy, on the caller's stream.

On a GPU made of host memory: it shows addresses, order and who waits for whom, and nothing of CUDA itself.
"""

from __future__ import annotations

import ctypes
import gc
import sys
from contextlib import closing
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from engine_files import HostGpu, build_small, install
from test_tensorrt_session import edit

from engines.nvidia import cuda, device_array
from engines.nvidia.device_array import DeviceArray, stream_handle, view
from engines.nvidia.tensorrt_package import import_tensorrt
from engines.session import open_session
from engines.support.arrays import Image8, to_tensor
from engines.support.errors import UserError

pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx-cu13 is not installed")
STREAM = 42


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    engine = build_small(tmp_path_factory.mktemp("small"))
    edit(engine, runtime="tensorrt", runtime_version="10.3.0")
    return engine


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> HostGpu:
    gpu = HostGpu()
    install(monkeypatch, gpu, import_tensorrt("tensorrt_rtx", "test"))
    return gpu


class Frame:
    """Memory of the GPU as CuPy and PyTorch show it."""

    def __init__(self, gpu: HostGpu, values: np.ndarray, **told: Any) -> None:
        _, self.address = gpu.cudaMalloc(values.nbytes)
        self.values = np.ndarray(values.shape, values.dtype, gpu.memory[self.address])
        self.values[...] = values
        self.__cuda_array_interface__ = {
            "shape": values.shape, "typestr": values.dtype.str, "data": (self.address, False), "version": 3, **told
        }  # fmt: skip


class Capsule:
    """The same through DLPack."""

    def __init__(self, frame: Frame, code: int = 2, device: int = 2) -> None:
        self.asked: list[int] = []
        shape = frame.values.shape
        self._shape = (ctypes.c_int64 * len(shape))(*shape)
        self._managed = device_array._Managed()
        tensor = self._managed.tensor
        tensor.data, tensor.device_type, tensor.ndim = frame.address - 16, device, len(shape)
        tensor.code, tensor.bits, tensor.lanes, tensor.byte_offset = code, 8 * frame.values.itemsize, 1, 16
        tensor.shape = self._shape
        self._device = device

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._device, 0

    def __dlpack__(self, stream: int) -> Any:
        self.asked.append(stream)
        make = ctypes.pythonapi.PyCapsule_New
        make.restype, make.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
        return make(ctypes.addressof(self._managed), b"dltensor", None)


@pytest.fixture
def x(forest: Image8) -> np.ndarray:
    return to_tensor(forest[:64, :128])


def expected(engine: Path, x: np.ndarray) -> np.ndarray:
    with open_session(engine) as session:
        return session.run(hr=x)["lr"]


def test_frames_in_and_out_without_a_copy(built: Path, gpu: HostGpu, x: np.ndarray) -> None:
    wanted = expected(built, x)
    frame, out = Frame(gpu, x), Frame(gpu, np.zeros_like(wanted))
    capsule = Capsule(frame)
    with open_session(built) as session:
        gpu.log.clear()
        memory = set(gpu.memory)
        for given in (frame, capsule):
            out.values[...] = 0
            found = session.run_on_device(STREAM, {"lr": out}, hr=given)
            assert found == {"lr": out} and np.array_equal(out.values, wanted)
        assert capsule.asked == [STREAM]
        assert set(gpu.memory) == memory, "no buffers of our own"
        assert [what for what in gpu.log if what[0] in ("copy", "run", "host waits")] == [("run", STREAM)] * 2


def test_an_output_gets_memory_of_its_own(built: Path, gpu: HostGpu, x: np.ndarray) -> None:
    wanted = expected(built, x)
    frame = Frame(gpu, x)
    before = set(gpu.memory)
    with open_session(built) as session:
        found = session.run_on_device(STREAM, hr=frame)["lr"]
    assert (found.shape, found.dtype, found.stream) == (wanted.shape, np.dtype("float32"), STREAM)
    told = found.__cuda_array_interface__
    assert told["data"] == (found.address, False) and told["stream"] == STREAM and told["typestr"] == "<f4"
    assert np.array_equal(gpu.array(found.address, wanted.shape), wanted), "it outlives the session"
    again = view("x", found, 0)
    del found
    gc.collect()
    assert set(gpu.memory) - before, "a view keeps it"
    del again
    gc.collect()
    assert set(gpu.memory) == before


def test_who_waits_for_whom(built: Path, gpu: HostGpu, x: np.ndarray) -> None:
    """The context is one: a call on another stream follows the last one; and a frame's own stream is waited for."""
    frame, late = Frame(gpu, x), Frame(gpu, x, stream=9)
    with open_session(built) as session:
        session.run_on_device(STREAM, hr=frame)
        _, last, _ = gpu.log[-1]
        assert gpu.log[-1] == ("record", last, STREAM)
        gpu.log.clear()
        session.run_on_device(43, hr=late)
        assert gpu.log[0] == ("wait", 43, last)
        (_, made, on), wait = gpu.log[1:3]
        assert on == 9 and wait == ("wait", 43, made)
        assert gpu.log[3:] == [("run", 43), ("record", last, 43)]
        gpu.log.clear()
        session.run(hr=x)
        assert gpu.log[0] == ("host waits", last), "it writes into pinned memory"
    assert gpu.log[-1] == ("host waits", last), "nothing is freed while it may be used"
    assert gpu.events == []


def test_numpy_and_frames_in_turn(built: Path, gpu: HostGpu, x: np.ndarray) -> None:
    """Recorded graphs of the numpy calls keep their own buffers."""
    with open_session(built) as session:
        wanted = session.run(hr=x)["lr"]
        frame, out = Frame(gpu, x[..., ::-1]), Frame(gpu, np.zeros_like(wanted))
        for _ in range(3):
            assert np.array_equal(session.run(hr=x)["lr"], wanted)
            session.run_on_device(STREAM, {"lr": out}, hr=frame)
            assert np.array_equal(out.values, wanted[..., ::-1])
        assert gpu.launches > 0


def test_an_input_that_may_be_left_out(tmp_path: Path, gpu: HostGpu, x: np.ndarray) -> None:
    engine = build_small(tmp_path)
    default = {"name": "brighter", "dtype": "float32", "shape": [1], "values": [0.25]}
    edit(engine, runtime="tensorrt", runtime_version="10.3.0", optional=[default])
    frame = Frame(gpu, x)
    with open_session(engine) as session:
        plain = session.run(hr=x)["lr"]
        found = session.run_on_device(STREAM, hr=frame)["lr"]
        assert np.array_equal(gpu.array(found.address, plain.shape), plain)
        one = np.ones(1, np.float32)
        for brighter in (one, Frame(gpu, one)):
            found = session.run_on_device(STREAM, hr=frame, brighter=brighter)["lr"]
            assert np.allclose(gpu.array(found.address, plain.shape), plain + np.float32(0.75))


def test_what_does_not_fit_is_named(built: Path, gpu: HostGpu, x: np.ndarray) -> None:
    frame, small = Frame(gpu, x), Frame(gpu, x[..., :32, :])
    turned = Frame(gpu, x, strides=(4, 4, 4, 4))
    cases: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
        (r"input hr: expected an array in the GPU's memory .* found ndarray", {}, {"hr": x}),
        (r"input hr: expected a C-contiguous array, found the strides \(4, 4, 4, 4\)", {}, {"hr": turned}),
        (r"input hr: expected a type that numpy has, found DLPack's \(4, 32\)", {}, {"hr": Capsule(frame, code=4)}),
        ("expected the inputs hr, found none", {}, {}),
        ("expected hr 1x3x64x128 to 1x3x256x512, tuned for", {}, {"hr": small}),
        (
            r"output lr: expected float32 \(1, 3, 32, 64\), found float32 \(1, 3, 64, 128\)",
            {"lr": frame},
            {"hr": frame},
        ),
        ("out: expected some of lr, found rl", {"rl": frame}, {"hr": frame}),
    ]
    with open_session(built) as session:
        for message, out, arrays in cases:
            with pytest.raises(UserError, match=message) as error:
                session.run_on_device(STREAM, out, **arrays)
            assert str(error.value).startswith(str(built))
        with pytest.raises(UserError, match="stream: expected a CUDA stream or its handle, found str"):
            session.run_on_device("first", hr=frame)
    with open_session(built.with_suffix(".onnx"), threads=1) as graph:
        with pytest.raises(UserError, match=r"expected a TensorRT engine for arrays in the GPU's memory, found onnxru"):
            graph.run_on_device(STREAM, hr=frame)


def test_streams_of_other_libraries() -> None:
    class CudaPython:
        def __cuda_stream__(self) -> tuple[int, int]:
            return 0, 7

    streams = (7, SimpleNamespace(cuda_stream=7), SimpleNamespace(ptr=7), SimpleNamespace(handle=7), CudaPython())
    assert [stream_handle(stream) for stream in streams] == [7] * 5


def test_memory_of_the_host_is_no_device_array(gpu: HostGpu, x: np.ndarray) -> None:
    assert not device_array.is_device_array(x)
    assert not device_array.is_device_array(Capsule(Frame(gpu, x), device=1))
    assert device_array.is_device_array(DeviceArray(1, (2,), np.dtype("float32")))


# ---- PyCUDA


class HostDriver(ModuleType):
    """pycuda.driver on host memory: what engines/nvidia/pycuda_runtime.py uses of it."""

    def __init__(self) -> None:
        super().__init__("pycuda.driver")
        self.pushed = 0
        self.allocated: set[int] = set()
        self.event_flags = SimpleNamespace(DEFAULT=0, DISABLE_TIMING=2)
        driver = self

        class Error(Exception): ...

        class Device:
            count = staticmethod(lambda: 1)

            def __init__(self, index: int) -> None: ...

            def name(self) -> str:
                return "Host GPU"

            def compute_capability(self) -> tuple[int, int]:
                return 8, 6

            def total_memory(self) -> int:
                return 8 << 30

            def retain_primary_context(self) -> Any:
                return SimpleNamespace(push=driver._push)

        class Stream:
            made = 100

            def __init__(self) -> None:
                Stream.made += 1
                self.handle = Stream.made

            def synchronize(self) -> None: ...

            def wait_for_event(self, event: Any) -> None:
                assert event.stream is not None, "an event that was never recorded"

        class Event:
            def __init__(self, flags: int) -> None:
                self.stream: Any = None
                self.timed = flags == 0

            def record(self, stream: Any) -> Any:
                self.stream = stream
                return self

            def time_till(self, end: Any) -> float:
                assert self.timed and end.timed and self.stream is end.stream is not None
                return 1.5

            def synchronize(self) -> Any:
                return self

        class Allocation:
            def __init__(self, size: int) -> None:
                self._block = (ctypes.c_char * size)()
                driver.allocated.add(int(self))

            def __int__(self) -> int:
                return ctypes.addressof(self._block)

            def free(self) -> None:
                driver.allocated.remove(int(self))

        self.Error, self.Device, self.Stream, self.Event, self.mem_alloc = Error, Device, Stream, Event, Allocation

    def init(self) -> None: ...

    def _push(self) -> None:
        self.pushed += 1

    def pagelocked_empty(self, size: int, dtype: str) -> np.ndarray:
        return np.empty(size, dtype)

    def memcpy_htod_async(self, to: int, source: np.ndarray, stream: Any) -> None:
        assert to in self.allocated and source.flags.c_contiguous
        ctypes.memmove(to, source.ctypes.data, source.nbytes)

    def memcpy_dtoh_async(self, to: np.ndarray, source: int, stream: Any) -> None:
        assert source in self.allocated
        ctypes.memmove(to.ctypes.data, source, to.nbytes)


def test_pycuda_serves_where_cuda_bindings_is_missing(
    built: Path, x: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, gpu, driver = cuda.import_runtime, HostGpu(), HostDriver()
    install(monkeypatch, gpu, import_tensorrt("tensorrt_rtx", "test"))
    wanted = expected(built, x)
    package = ModuleType("pycuda")
    package.driver = driver  # type: ignore[attr-defined]
    for name, module in (("pycuda", package), ("pycuda.driver", driver), ("cuda.bindings", None)):
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(cuda, "import_runtime", found)
    gpu.array = lambda address, shape: np.ndarray(  # type: ignore[method-assign]
        shape, np.float32, (ctypes.c_char * (int(np.prod(shape)) * 4)).from_address(address)
    )
    with open_session(built) as session:
        assert session.runtime.endswith("Host GPU fp32")
        for _ in range(3):
            assert np.array_equal(session.run(hr=x)["lr"], wanted)
        assert gpu.launches == 0, "PyCUDA records no graphs"
        stream, frame = driver.Stream(), driver.mem_alloc(x.nbytes)
        ctypes.memmove(int(frame), np.ascontiguousarray(x).ctypes.data, x.nbytes)
        given = DeviceArray(int(frame), x.shape, x.dtype)
        result = session.run_on_device(stream, hr=given)["lr"]
        assert np.array_equal(gpu.array(result.address, wanted.shape), wanted)
        with pytest.raises(UserError, match="CUDA: PyCUDA knows no stream 0x5: give a pycuda.driver.Stream"):
            session.run_on_device(5, hr=given)
        with closing(cuda.Stream("another")) as ours:  # of another PyCudaRuntime than the session's
            stamps = [ours.stamp()]
            session.run_on_device(ours.handle, {"lr": result}, hr=given)
            assert ours.milliseconds([*stamps, ours.stamp()]) == [1.5]
    del result
    gc.collect()
    frame.free()
    assert driver.allocated == set() and driver.pushed == 2, "once for each of the two"
