"""Which sessions this machine can open over a folder of exported graphs, and why not the others."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from engines import cuda
from engines.errors import UserError
from engines.manifest import read_manifest
from engines.session import Session, open_session
from engines.tensorrt_package import import_tensorrt

_PROVIDERS = {"CPUExecutionProvider": "CPU", "CUDAExecutionProvider": "CUDA", "TensorrtExecutionProvider": "TensorRT"}


@dataclass(frozen=True)
class Kind:
    """One way to run a graph: a file and, for ONNX Runtime, a provider.

    Attributes:
        missing: what this machine lacks for it, in one line; empty when it can be opened.
    """

    path: Path
    provider: str | None = None
    missing: str = ""

    def open(self, threads: int | None = None) -> Session:
        """Raises UserError as `open_session` does."""
        return open_session(self.path, threads, self.provider)


def kinds_of(folder: Path, name: str) -> list[Kind]:
    """The ways to run the graph `name` ("down" or "up") of a folder, in the order CPU, GPU providers, engines.

    ONNX Runtime's GPU providers are listed where its package has them. Engines are those of the folder whose sidecar
    names the graph: down.engine, down.h100.engine and the like.
    """
    graph = folder / f"{name}.onnx"
    kinds = [Kind(graph, provider) for provider in _providers()]
    engines = sorted(path for suffix in ("engine", "plan") for path in folder.glob(f"{name}*.{suffix}"))
    return kinds + [Kind(path, None, _lacks(path)) for path in engines]


def _providers() -> list[str]:
    """CPU first; the GPU providers only where their package is installed and there is a GPU."""
    try:
        import onnxruntime
    except ImportError:
        return ["CPU"]  # opening it says what is missing
    available = [_PROVIDERS[name] for name in reversed(onnxruntime.get_available_providers()) if name in _PROVIDERS]
    try:
        cuda.find_device("ONNX Runtime")
    except UserError:
        return ["CPU"]
    return available


def _lacks(engine: Path) -> str:
    try:
        import_tensorrt(read_manifest(engine).runtime, str(engine))
        cuda.find_device(str(engine))
    except UserError as error:
        return str(error)
    return ""
