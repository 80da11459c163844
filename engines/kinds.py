"""Which sessions this machine can open over a folder of exported graphs, and why not the others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from engines.engine_file.manifest import read_manifest
from engines.nvidia import cuda
from engines.nvidia.tensorrt_package import import_tensorrt
from engines.runtimes.base import Session
from engines.session import open_session
from engines.support.errors import UserError

_GPU_PROVIDERS = {"CUDAExecutionProvider": "CUDA", "TensorrtExecutionProvider": "TensorRT"}


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

    ONNX Runtime's GPU providers are listed where its package has them. Engines are those of the folder that are named
    after the graph: down.engine, down.h100.engine and the like.
    """
    graph = folder / f"{name}.onnx"
    engines = [Kind(path, missing=_lacks(path)) for path in _engines(folder, name)]
    return [*_onnxruntime(graph), *engines]


def graph_in(folder: Path, direction: str) -> Path | None:
    """What to open for one direction ("down" or "up"): the engine that this machine can run, else the graph, or None.

    Raises:
        UserError: there are several such engines.
    """
    graph = folder / f"{direction}.onnx"
    engines = _engines(folder, direction)
    usable = [path for path in engines if not _lacks(path)]
    if len(usable) > 1:
        raise UserError(f"{folder}: expected one engine for this machine, found {', '.join(p.name for p in usable)}")
    return usable[0] if usable else graph if graph.is_file() else engines[0] if engines else None


def open_model(path: Path, direction: str, threads: int | None = None, provider: str | None = None) -> Session:
    """A graph or an engine file, or of a folder the one for this direction ("down" or "up").

    Raises:
        UserError: as `open_session`, or the folder holds none, or several engines that this machine can run.
    """
    found = graph_in(path, direction) if path.is_dir() else path
    if found is None:
        raise UserError(f"expected {direction}.onnx or an engine {direction}*.engine in {path}, found none", "model")
    return open_session(found, threads, provider)


def _engines(folder: Path, name: str) -> list[Path]:
    return sorted(path for suffix in ("engine", "plan") for path in folder.glob(f"{name}*.{suffix}"))


def _onnxruntime(graph: Path) -> list[Kind]:
    cpu = Kind(graph, "CPU")
    try:
        import onnxruntime
    except ImportError:
        return [cpu]  # opening it says what is missing
    available = onnxruntime.get_available_providers()
    wanted = [name for provider, name in _GPU_PROVIDERS.items() if provider in available]
    lacks = _reason(lambda: cuda.find_device(f"{graph}: a GPU provider of ONNX Runtime")) if wanted else ""
    return [cpu, *(Kind(graph, name, lacks) for name in wanted)]


def _lacks(engine: Path) -> str:
    def check() -> None:
        manifest = read_manifest(engine)
        manifest.check_runtime(engine, import_tensorrt(manifest.runtime, str(engine)).version)
        device = cuda.find_device(str(engine))
        manifest.check_gpu(engine, device.name, device.capability)

    return _reason(check)


def _reason(check: Callable[[], object]) -> str:
    """Why a check refuses; empty when it does not."""
    try:
        check()
    except UserError as error:
        return str(error)
    return ""
