"""Open a graph file and run it on numpy arrays, whatever the runtime behind it."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from engines.errors import UserError

if TYPE_CHECKING:
    from typing import Self  # Python 3.11

    from engines.building.profile import Profile

Array = NDArray[Any]

_KINDS = {".onnx": "an ONNX file", ".engine": "a TensorRT engine", ".plan": "a TensorRT engine"}


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

    Threads: `run` may be called from several threads at once. ONNX Runtime then works in parallel; an engine has
    one execution context and one set of buffers, so that its calls wait for each other. `close` must not overlap
    with `run`.

    Attributes:
        path: the graph file, for messages.
        inputs, outputs: the graph's tensors, in the graph's order.
        optional: inputs that have a default and may be left out.
        metadata: the text pairs stored in the file (ONNX `metadata_props`); of an engine, those of its graph.
        runtime: name, version and device of the runtime, such as "onnxruntime 1.25.0 CPU".
        profile: the shapes that an engine takes; None: any that the graph allows.
    """

    path: Path
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    optional: tuple[TensorSpec, ...] = ()
    metadata: dict[str, str]
    runtime: str
    profile: Profile | None = None

    def run(self, **arrays: Array) -> dict[str, Array]:
        """Run the graph once.

        Args:
            arrays: one numpy array for each input, by name; name, dtype, rank and fixed dimensions must be
                the graph's. Those of `optional` may be there.

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
        given = [spec for spec in self.optional if spec.name in arrays]
        if set(arrays) != {*names, *(spec.name for spec in given)}:
            raise UserError(f"{self.path}: expected the inputs {listed(names)}, found {listed(sorted(arrays))}")
        for spec in (*self.inputs, *given):
            array = arrays[spec.name]
            if not isinstance(array, np.ndarray):
                raise UserError(f"{self.path}: input {spec.name}: expected a numpy array, found {type(array).__name__}")
            fits = array.dtype == spec.dtype and array.ndim == len(spec.shape)
            if not fits or not all(_fits(want, have) for want, have in zip(spec.shape, array.shape, strict=True)):
                found = f"{array.dtype} ({', '.join(map(str, array.shape))})"
                raise UserError(f"{self.path}: input {spec.name}: expected {spec}, found {found}")


def _fits(want: int | str | None, have: int) -> bool:
    return want == have if isinstance(want, int) else have > 0


def listed(names: Iterable[str]) -> str:
    """The names for a message, "none" when there are none."""
    return ", ".join(names) or "none"


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
        provider: of an .onnx file: "CPU" (also None), "CUDA" or "TensorRT", or ONNX Runtime's own name, such as
            "CUDAExecutionProvider". What is asked for is what runs: no silent fall-back to the CPU.
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
