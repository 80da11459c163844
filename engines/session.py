"""Open a graph or an engine file with the runtime that it asks for."""

from __future__ import annotations

import os
from pathlib import Path

from engines.runtimes.base import Session
from engines.support.errors import UserError

_KINDS = {".onnx": "an ONNX file", ".engine": "a TensorRT engine", ".plan": "a TensorRT engine"}


def open_session(
    path: Path | str,
    threads: int | None = None,
    provider: str | None = None,
    plugins: Path | str | None = None,
) -> Session:
    """Open a graph or an engine with the runtime that its suffix asks for.

    Args:
        path: an .onnx file (ONNX Runtime), or an .engine or .plan file (TensorRT or TensorRT-RTX: which of the two
            stands in its sidecar).
        threads: CPU threads inside one operator; None leaves the choice to the runtime (all physical cores). An
            engine has no use for it.
        provider: of an .onnx file: "CPU" (also None), "CUDA", "TensorRT" or "WebGPU", or ONNX Runtime's own name, such
            as "CUDAExecutionProvider". What is asked for is what runs: no silent fall-back to the CPU.
        plugins: of an engine: the plugin library; None looks for it beside the engine.

    Raises:
        UserError: the file is missing, corrupt or of another kind, needs the operator library, does not fit this
            machine, or the runtime or provider is not there.
    """
    path = Path(path)
    if threads is not None and threads < 1:
        raise UserError(f"threads: expected a number of at least 1, found {threads}")
    kind = _KINDS.get(path.suffix.lower())
    if kind is None:
        known = ", ".join(_KINDS)
        raise UserError(f"{path}: expected a file that ends in {known}, found {path.suffix or 'no suffix'!r}")
    if not os.path.isfile(path):
        raise UserError(f"{path}: expected {kind}, found {'a folder' if os.path.isdir(path) else 'no such file'}")
    # Imported here: these modules derive from Session, and each needs only its own runtime.
    if path.suffix.lower() == ".onnx":
        from engines.runtimes.onnxruntime_session import OnnxRuntimeSession

        return OnnxRuntimeSession(path, threads, provider)
    if provider is not None:
        raise UserError(f"provider: expected none for an engine, found {provider!r}")
    from engines.runtimes.tensorrt_session import TensorRTSession

    return TensorRTSession(path, None if plugins is None else Path(plugins))
