"""Sessions over .onnx files in ONNX Runtime, on the CPU or through one of its GPU providers."""

import re
from pathlib import Path
from typing import Any

import numpy as np

from engines.runtimes import operator_library, webgpu
from engines.runtimes.base import Session, TensorSpec, listed
from engines.support.arrays import Array
from engines.support.errors import UserError

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
_PROVIDERS = {
    "CPU": "CPUExecutionProvider",
    "CUDA": "CUDAExecutionProvider",
    "TENSORRT": "TensorrtExecutionProvider",
    "WEBGPU": webgpu.PROVIDER,
}
_PACKAGES = {webgpu.PROVIDER: "onnxruntime-webgpu"}  # else onnxruntime-gpu


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
        if wanted == webgpu.PROVIDER:
            options.add_session_config_entry(*webgpu.LAYOUT)
        native = _load(onnxruntime, path, options, wanted)
        if native.get_providers()[0] != wanted:
            raise UserError(f"provider: expected {wanted}, found that ONNX Runtime fell back to the CPU")
        if wanted == webgpu.PROVIDER:
            plain = onnxruntime.SessionOptions()
            plain.log_severity_level = 4
            webgpu.self_test(path, native, _load(onnxruntime, path, plain, _PROVIDERS["CPU"]))
        self._native: Any = native
        self.path = path
        try:
            self.inputs = tuple(_spec(path, tensor) for tensor in native.get_inputs())
            self.outputs = tuple(_spec(path, tensor) for tensor in native.get_outputs())
            self.optional = tuple(_spec(path, t) for t in native.get_overridable_initializers() if t.type in _DTYPES)
            self.metadata = dict(native.get_modelmeta().custom_metadata_map)
        except UnicodeDecodeError as error:
            raise UserError(f"{path}: expected names and metadata in UTF-8, found {error}") from error
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


def _load(onnxruntime: Any, path: Path, options: Any, provider: str) -> Any:
    """The native session. Whether a graph needs the operator library is what loading it without one says."""
    # ONNX Runtime would print why WebGPU finds no adapter, and go on without.
    more = {"enable_fallback": False} if provider == webgpu.PROVIDER else {}
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=_with_helpers(provider), **more)
    except Exception as error:  # ONNX Runtime's errors share no base class of their own
        if provider == webgpu.PROVIDER and "adapter" in str(error):
            raise UserError(
                "WebGPU finds no adapter here (it needs a driver of Vulkan, Direct3D or Metal)", "provider"
            ) from error
        operator = operator_library.missing_operator(_reason(error))
        if operator is None:
            raise UserError(_explain_load_error(path, error)) from error
    operator_library.register(options, path, operator, gpu=provider != _PROVIDERS["CPU"])
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=_with_helpers(provider), **more)
    except Exception as error:  # as above
        raise UserError(_explain_load_error(path, error)) from error


def _choose_provider(provider: str | None, available: list[str]) -> str:
    wanted = _PROVIDERS.get((provider or "CPU").upper(), provider)
    if wanted not in _PROVIDERS.values():
        raise UserError(f"provider: expected CPU, CUDA, TensorRT or WebGPU, found {provider!r}")
    if wanted not in available:
        package = _PACKAGES.get(str(wanted), "onnxruntime-gpu")
        raise UserError(f"provider: expected one of {listed(available)}, found {wanted} (it comes with {package})")
    return str(wanted)


def _with_helpers(wanted: str) -> list[str]:
    """TensorRT's provider takes the part of a graph that TensorRT can build, and CUDA's has to run the rest."""
    return [wanted, _PROVIDERS["CUDA"]] if wanted == _PROVIDERS["TENSORRT"] else [wanted]


def _spec(path: Path, tensor: Any) -> TensorSpec:
    if tensor.type not in _DTYPES:
        raise UserError(f"{path}: tensor {tensor.name}: expected a type that numpy has, found {tensor.type}")
    return TensorSpec(tensor.name, tuple(tensor.shape), np.dtype(_DTYPES[tensor.type]))


def _explain_load_error(path: Path, error: object) -> str:
    reason = _reason(error)  # without the path, which may look like domain:Operator(version) too
    if operator := operator_library.missing_operator(reason):
        return f"{path}: expected operators that the library has, found {operator}; export it with standard operators"
    return f"{path}: expected an ONNX graph that ONNX Runtime can load, found: {reason}"


def _reason(error: object) -> str:
    """Keep one sentence of an ONNX Runtime message: no code prefix, no C++ location, no second line."""
    text = str(error).strip().splitlines()[0] if str(error).strip() else "no reason given"
    text = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", text)
    text = re.sub(r"^Load model from .*? ?failed:\s*", "", text)
    return re.sub(r"^/\S+\.(?:cc|h|cpp):\d+ .*?\) (?=[A-Z])", "", text)
