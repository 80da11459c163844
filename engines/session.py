"""Open a graph file and run it on numpy arrays, whatever the runtime behind it."""

import os
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from engines.errors import UserError

Array = NDArray[Any]

# ONNX Runtime's names of the types that numpy has too
_DTYPES = {
    "tensor(float16)": "float16",
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(uint8)": "uint8",
    "tensor(int8)": "int8",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
    "tensor(bool)": "bool",
}
_PROVIDERS = {"CPU": "CPUExecutionProvider", "CUDA": "CUDAExecutionProvider"}


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of a graph.

    Attributes:
        name: the tensor's name in the graph.
        shape: one entry a dimension: an int (fixed), a str (a named free dimension) or None (free, without a
            name).
        dtype: the numpy dtype.
    """

    name: str
    shape: tuple[int | str | None, ...]
    dtype: np.dtype[Any]

    def __str__(self) -> str:
        return f"{self.dtype} ({', '.join('?' if d is None else str(d) for d in self.shape)})"


class Session(ABC):
    """A graph that is ready to run. Use as a context manager, or call `close`.

    Threads: `run` of an ONNX Runtime session may be called from several threads at once; a later runtime may
    be stricter and says so. `close` must not overlap with `run`.

    Attributes:
        path: the graph file, for messages.
        inputs, outputs: the graph's tensors, in the graph's order.
        metadata: the text pairs stored in the file (ONNX `metadata_props`).
        runtime: name, version and device of the runtime, such as "onnxruntime 1.25.0 CPU".
    """

    path: Path
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    metadata: dict[str, str]
    runtime: str

    def run(self, **arrays: Array) -> dict[str, Array]:
        """Run the graph once.

        Args:
            arrays: one numpy array for each input, by name; name, dtype, rank and fixed dimensions must be
                the graph's.

        Returns:
            Every output by name; the arrays belong to the caller.

        Raises:
            UserError: an array does not fit, or the runtime refuses to run the graph on these shapes.
            ValueError: the session is closed.
        """
        self._check_arrays(arrays)
        return self._run(arrays)

    @abstractmethod
    def _run(self, arrays: dict[str, Array]) -> dict[str, Array]: ...

    @abstractmethod
    def close(self) -> None:
        """Free the graph and its memory; closing twice is harmless."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _check_arrays(self, arrays: dict[str, Array]) -> None:
        names = [spec.name for spec in self.inputs]
        if set(arrays) != set(names):
            raise UserError(f"{self.path}: expected the inputs {_list(names)}, found {_list(sorted(arrays))}")
        for spec in self.inputs:
            array = arrays[spec.name]
            if not isinstance(array, np.ndarray):
                raise UserError(f"{self.path}: input {spec.name}: expected a numpy array, found {type(array).__name__}")
            fits = array.dtype == spec.dtype and array.ndim == len(spec.shape)
            if not fits or not all(_fits(want, have) for want, have in zip(spec.shape, array.shape, strict=True)):
                found = f"{array.dtype} ({', '.join(map(str, array.shape))})"
                raise UserError(f"{self.path}: input {spec.name}: expected {spec}, found {found}")


def _fits(want: int | str | None, have: int) -> bool:
    return want == have if isinstance(want, int) else have > 0


def _list(names: list[str]) -> str:
    return ", ".join(names) or "none"


def open_session(path: Path | str, threads: int | None = None, provider: str | None = None) -> Session:
    """Open a graph file with the runtime that its suffix asks for.

    Args:
        path: an .onnx file (ONNX Runtime).
        threads: CPU threads inside one operator; None leaves the choice to the runtime (all physical cores).
        provider: "CPU" (also None) or "CUDA", or ONNX Runtime's own name "CPUExecutionProvider" or
            "CUDAExecutionProvider". What is asked for is what runs: no silent fall-back to the CPU.

    Raises:
        UserError: the file is missing, corrupt or of another kind, needs the operator library, or the runtime
            or provider is not there.
    """
    path = Path(path)
    if threads is not None and threads < 1:
        raise UserError(f"threads: expected a number of at least 1, found {threads}")
    if path.suffix.lower() in (".engine", ".plan"):
        raise UserError(
            f"{path}: expected an .onnx file, found a TensorRT engine; engines arrive with the "
            "engine build command and need the package tensorrt or tensorrt-rtx"
        )
    if path.suffix.lower() != ".onnx":
        raise UserError(f"{path}: expected a file that ends in .onnx, found {path.suffix or 'no suffix'!r}")
    if not os.path.isfile(path):
        raise UserError(f"{path}: expected an ONNX file, found {'a folder' if os.path.isdir(path) else 'no such file'}")
    return OnnxRuntimeSession(path, threads, provider)


class OnnxRuntimeSession(Session):
    """An .onnx file in ONNX Runtime; open it with `open_session`, which checks the path first."""

    def __init__(self, path: Path, threads: int | None, provider: str | None) -> None:
        try:
            import onnxruntime  # here, not above: a device with TensorRT only has no ONNX Runtime
        except ImportError as error:
            raise UserError(f"{path}: an .onnx file needs the package onnxruntime, which is not installed") from error
        wanted = _choose_provider(provider, onnxruntime.get_available_providers())
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # what goes wrong is raised; ONNX Runtime would print it as well
        if threads is not None:
            options.intra_op_num_threads = threads
        try:
            native = onnxruntime.InferenceSession(str(path), options, providers=[wanted])
        except Exception as error:  # ONNX Runtime's errors share no base class of their own
            raise UserError(_explain_load_error(path, str(error))) from error
        if native.get_providers()[0] != wanted:
            raise UserError(f"provider: expected {wanted}, found that ONNX Runtime fell back to the CPU")
        self._native: Any = native
        self.path = path
        self.inputs = tuple(_spec(path, tensor) for tensor in native.get_inputs())
        self.outputs = tuple(_spec(path, tensor) for tensor in native.get_outputs())
        self.metadata = dict(native.get_modelmeta().custom_metadata_map)
        self.runtime = f"onnxruntime {onnxruntime.__version__} {wanted.removesuffix('ExecutionProvider')}"

    def _run(self, arrays: dict[str, Array]) -> dict[str, Array]:
        if self._native is None:
            raise ValueError(f"{self.path}: the session is closed")
        names = [spec.name for spec in self.outputs]
        try:
            values = self._native.run(names, {name: np.ascontiguousarray(array) for name, array in arrays.items()})
        except Exception as error:  # as above
            shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
            raise UserError(f"{self.path}: ONNX Runtime cannot run the graph on {shapes}: {_reason(error)}") from error
        return dict(zip(names, values, strict=True))

    def close(self) -> None:
        self._native = None


def _choose_provider(provider: str | None, available: list[str]) -> str:
    wanted = _PROVIDERS.get((provider or "CPU").upper(), provider)
    if wanted not in _PROVIDERS.values():
        raise UserError(f"provider: expected {' or '.join(_PROVIDERS)}, found {provider!r}")
    if wanted not in available:
        raise UserError(f"provider: expected one of {_list(available)}, found {wanted} (it comes with onnxruntime-gpu)")
    return str(wanted)


def _spec(path: Path, tensor: Any) -> TensorSpec:
    if tensor.type not in _DTYPES:
        raise UserError(f"{path}: tensor {tensor.name}: expected a type that numpy has, found {tensor.type}")
    return TensorSpec(tensor.name, tuple(tensor.shape), np.dtype(_DTYPES[tensor.type]))


def _explain_load_error(path: Path, message: str) -> str:
    reason = _reason(message)  # without the path, which may look like domain:Operator(version) too
    operator = re.search(r"\bdinn360:(\w+)\(-?\d+\)", reason)
    if operator:
        return (
            f"{path}: the graph was exported with --ops plugin and its operator dinn360:{operator[1]} "
            "needs the operator library, which is not loaded; use --ops standard"
        )
    return f"{path}: expected an ONNX graph that ONNX Runtime can load, found: {reason}"


def _reason(error: object) -> str:
    """Keep one sentence of an ONNX Runtime message: no code prefix, no C++ location, no second line."""
    text = str(error).strip().splitlines()[0] if str(error).strip() else "no reason given"
    text = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", text)
    text = re.sub(r"^Load model from .*? ?failed:\s*", "", text)
    return re.sub(r"^/\S+\.(?:cc|h|cpp):\d+ .*?\) (?=[A-Z])", "", text)
