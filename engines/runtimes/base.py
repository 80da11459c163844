"""What every session has: named and typed tensors, and `run` on numpy arrays."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from engines.support.arrays import Array
from engines.support.errors import UserError

if TYPE_CHECKING:
    from typing import Self  # Python 3.11

    from engines.engine_file.profile import Profile


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

    def run_on_device(self, stream: Any, out: Mapping[str, Any] | None = None, **arrays: Any) -> dict[str, Any]:
        """Run the graph once on arrays in the GPU's memory: nothing is copied, and nothing is waited for.

        Args:
            stream: the caller's CUDA stream, on which the work is put: its handle, or a stream of CuPy, PyTorch,
                PyCUDA or cuda-python.
            out: where outputs go, by name: arrays in the GPU's memory of the right shape. Outputs that are not in it
                get memory of their own.
            arrays: the inputs as for `run`, each an array in the GPU's memory (`__cuda_array_interface__` or DLPack,
                C-contiguous). Those of `optional` may be numpy arrays.

        Returns:
            Every output by name: the object of `out`, else an `engines.nvidia.device_array.DeviceArray`, which CuPy
            and PyTorch read. Their contents, and the caller's right to let go of the inputs, come with the stream.

        Raises:
            UserError: an array does not fit, or the session has no GPU.
            ValueError: the session is closed.
        """
        raise UserError(f"{self.path}: expected a TensorRT engine for arrays in the GPU's memory, found {self.runtime}")

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

    def _check_arrays(self, arrays: Mapping[str, Any], kind: type = np.ndarray) -> None:
        """`kind`: what numpy arrays may be besides."""
        names = [spec.name for spec in self.inputs]
        given = [spec for spec in self.optional if spec.name in arrays]
        if set(arrays) != {*names, *(spec.name for spec in given)}:
            raise UserError(f"{self.path}: expected the inputs {listed(names)}, found {listed(sorted(arrays))}")
        for spec in (*self.inputs, *given):
            array = arrays[spec.name]
            if not isinstance(array, np.ndarray | kind):
                raise UserError(f"{self.path}: input {spec.name}: expected a numpy array, found {type(array).__name__}")
            self._check_array("input", spec, array)

    def _check_array(self, role: str, spec: TensorSpec, array: Any) -> None:
        fits = array.dtype == spec.dtype and array.ndim == len(spec.shape)
        if not fits or not all(_fits(want, have) for want, have in zip(spec.shape, array.shape, strict=True)):
            found = f"{array.dtype} ({', '.join(map(str, array.shape))})"
            raise UserError(f"{self.path}: {role} {spec.name}: expected {spec}, found {found}")


def _fits(want: int | str | None, have: int) -> bool:
    return want == have if isinstance(want, int) else have > 0


def listed(names: Iterable[str]) -> str:
    """The names for a message, "none" when there are none."""
    return ", ".join(names) or "none"
