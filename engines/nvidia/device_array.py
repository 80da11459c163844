"""Arrays in a GPU's memory, whatever library made them: the CUDA array interface and DLPack, read without it."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from engines.support.errors import UserError

_CUDA, _CUDA_MANAGED = 2, 13  # DLDeviceType
_CODES = {0: "int", 1: "uint", 2: "float", 6: "bool"}  # DLDataTypeCode that numpy has too


@dataclass(frozen=True)
class DeviceArray:
    """C-contiguous memory of a GPU. Others read it by the CUDA array interface: `cupy.asarray(it)`,
    `torch.as_tensor(it)`.

    Attributes:
        address: of the first element.
        shape, dtype: as numpy's.
        stream: handle of the stream on which the contents become valid; None: they are.
        owner: what keeps the memory alive.
    """

    address: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    stream: int | None = None
    owner: Any = field(default=None, repr=False, compare=False)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        # The interface has no stream 0: it names the default streams 1 and 2.
        stream = None if self.stream is None else self.stream or 1
        return {
            "shape": self.shape, "typestr": self.dtype.str, "data": (self.address, False), "strides": None,
            "stream": stream, "version": 3,
        }  # fmt: skip


def is_device_array(value: object) -> bool:
    """Whether a value lies in a GPU's memory and says so in a way that `view` reads."""
    if hasattr(value, "__cuda_array_interface__"):
        return True
    device = getattr(value, "__dlpack_device__", None)
    return device is not None and int(device()[0]) in (_CUDA, _CUDA_MANAGED)


def view(name: str, value: Any, stream: int) -> DeviceArray:
    """The memory of a device array, not copied.

    Args:
        name: for messages.
        stream: handle of the stream that will use it. A producer that speaks DLPack makes it wait for what is under
            way; of the CUDA array interface, the result's `stream` is what has to be waited for.

    Raises:
        UserError: it is no device array, not C-contiguous, or of a type that numpy has not.
    """
    if isinstance(value, DeviceArray):
        return value
    if hasattr(value, "__cuda_array_interface__"):
        return _by_interface(name, value)
    if is_device_array(value):
        return _by_dlpack(name, value, stream)
    found = type(value).__name__
    raise UserError(
        f"{name}: expected an array in the GPU's memory (__cuda_array_interface__ or DLPack), found {found}"
    )


def _by_interface(name: str, value: Any) -> DeviceArray:
    told = value.__cuda_array_interface__
    shape, dtype = tuple(map(int, told["shape"])), np.dtype(told["typestr"])
    _expect_contiguous(name, shape, told.get("strides"), dtype.itemsize)
    waiting = told.get("stream")
    return DeviceArray(int(told["data"][0]), shape, dtype, None if waiting is None else int(waiting), value)


def _expect_contiguous(name: str, shape: tuple[int, ...], strides: Any, unit: int) -> None:
    """`strides`: in units of which an element has `unit`; None: contiguous."""
    if strides is None or 0 in shape:
        return
    expected = unit
    for size, stride in zip(reversed(shape), reversed(tuple(strides)), strict=True):
        if size != 1 and stride != expected:
            raise UserError(f"{name}: expected a C-contiguous array, found the strides {tuple(strides)} of {shape}")
        expected *= size


# ---- DLPack, as dlpack.h has it: a capsule with a pointer to a DLManagedTensor


class _Tensor(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    ]


class _Managed(ctypes.Structure):
    _fields_ = [
        ("tensor", _Tensor),
        ("manager", ctypes.c_void_p),
        ("deleter", ctypes.CFUNCTYPE(None, ctypes.c_void_p)),
    ]


def _capsules(name: str, result: Any, *arguments: Any) -> Callable[..., Any]:
    function = getattr(ctypes.pythonapi, name)
    function.restype, function.argtypes = result, list(arguments)
    return function


_pointer = _capsules("PyCapsule_GetPointer", ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)


def _by_dlpack(name: str, value: Any, stream: int) -> DeviceArray:
    """The capsule is kept, not consumed: it gives the memory back when the last view of it goes."""
    capsule = value.__dlpack__(stream=stream or 1)  # 1: the default stream, which has no number 0 here
    tensor = _Managed.from_address(_pointer(capsule, b"dltensor")).tensor
    if tensor.code not in _CODES or tensor.lanes != 1:
        raise UserError(f"{name}: expected a type that numpy has, found DLPack's ({tensor.code}, {tensor.bits})")
    kind = _CODES[tensor.code]
    dtype = np.dtype(kind if kind == "bool" else f"{kind}{tensor.bits}")
    shape = tuple(tensor.shape[: tensor.ndim])
    _expect_contiguous(name, shape, tensor.strides[: tensor.ndim] if tensor.strides else None, 1)
    return DeviceArray((tensor.data or 0) + tensor.byte_offset, shape, dtype, None, (capsule, value))


def stream_handle(stream: Any) -> int:
    """The handle of a stream: a number, or a stream of CuPy, PyTorch, PyCUDA or cuda-python.

    Raises:
        UserError: it is none of them.
    """
    if hasattr(stream, "__cuda_stream__"):
        return int(stream.__cuda_stream__()[1])
    for attribute in ("cuda_stream", "ptr", "handle"):  # PyTorch, CuPy, PyCUDA
        if isinstance(getattr(stream, attribute, None), int):
            return int(getattr(stream, attribute))
    try:
        return int(stream)
    except (TypeError, ValueError):
        raise UserError(f"stream: expected a CUDA stream or its handle, found {type(stream).__name__}") from None
