"""Drives a TensorRT plugin on host memory as TensorRT drives it on a GPU: every function of a plugin's life. For tests.

It needs neither TensorRT nor a GPU: the library with the emulated kernels, and driver.cpp in TensorRT's place.
"""

from __future__ import annotations

import ctypes
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from plugins.build import missing
from plugins.tensorrt.library import UnavailableError, build
from plugins.testing import native
from plugins.testing.emulator import library as emulator
from plugins.testing.native import Array

LINEAR, HWC8, HWC = 0, 2, 8  # nvinfer1::TensorFormat
BUILD, RUNTIME = 0, 1  # nvinfer1::TensorRTPhase
_TYPES: dict[np.dtype[Any], int] = {
    np.dtype(np.float32): 0,
    np.dtype(np.float16): 1,
    np.dtype(np.int32): 3,
}  # nvinfer1::DataType
_FIELD_TYPES = {  # nvinfer1::PluginFieldType
    np.dtype(np.float32): 1,
    np.dtype(np.float64): 2,
    np.dtype(np.int32): 5,
    np.dtype(np.uint8): 6,
    np.dtype(np.int64): 10,
}
_MOST_DIMENSIONS = 8

FieldValue = float | int | str | Sequence[int] | Array


class PluginError(Exception):
    """A plugin's function reported a failure; the message is what it said, to stderr or to the error recorder."""


class _Tensor(ctypes.Structure):
    """driver.cpp's Tensor."""

    _fields_ = [
        ("dims", ctypes.c_int64 * _MOST_DIMENSIONS),
        *((name, ctypes.c_int32) for name in ("rank", "type", "format", "open")),
        ("data", ctypes.c_void_p),
    ]


class _Field(ctypes.Structure):
    """nvinfer1::PluginField."""

    _fields_ = [
        ("name", ctypes.c_char_p),
        ("data", ctypes.c_void_p),
        ("type", ctypes.c_int32),
        ("length", ctypes.c_int32),
    ]


class _Fields(ctypes.Structure):
    """nvinfer1::PluginFieldCollection."""

    _fields_ = [("count", ctypes.c_int32), ("fields", ctypes.POINTER(_Field))]


@dataclasses.dataclass
class Tensor:
    """A tensor of a call: its sizes, those of them that the network leaves open, and its data as they lie in memory."""

    dims: tuple[int, ...]
    data: Array
    format: int = LINEAR
    open: tuple[int, ...] = ()

    @classmethod
    def of(cls, array: Array, format: int = LINEAR, open: tuple[int, ...] = ()) -> Tensor:
        """From an array in its logical shape; channels-last formats are arranged here."""
        if format == LINEAR:
            data = np.ascontiguousarray(array)
        elif format == HWC8:
            data = native.to_hwc8(array)
        else:
            data = np.ascontiguousarray(array.transpose(0, 2, 3, 1))
        return cls(array.shape, data, format, open)

    def array(self) -> Array:
        """The values in their logical shape."""
        if self.format == LINEAR:
            return self.data
        if self.format == HWC8 and np.any(self.data[..., self.dims[1] :]):
            raise ValueError("the channels that fill the tensor up to a multiple of 8 are not zero")
        return native.from_hwc8(self.data, self.dims[1])

    def _struct(self) -> _Tensor:
        mask = sum(1 << i for i in self.open)
        dims = (ctypes.c_int64 * _MOST_DIMENSIONS)(*self.dims)
        return _Tensor(dims, len(self.dims), _TYPES[self.data.dtype], self.format, mask, self.data.ctypes.data)


def _structs(tensors: Sequence[Tensor]) -> Any:
    return (_Tensor * len(tensors))(*(tensor._struct() for tensor in tensors))


def _field(name: str, value: FieldValue) -> tuple[_Field, Any]:
    """The field, and what keeps its data alive."""
    if isinstance(value, str):
        array = np.frombuffer(value.encode() + b"\0", np.uint8)[: len(value)]
    elif isinstance(value, np.ndarray):
        array = np.ascontiguousarray(value)
    else:
        array = np.atleast_1d(np.asarray(value, np.float32 if isinstance(value, float) else np.int32))
    return _Field(name.encode(), array.ctypes.data, _FIELD_TYPES[array.dtype], array.size), array


def emulated_path() -> Path:
    """libdinn360_trt_emulated.so, and beside it the driver. Raises UnavailableError, BuildError."""
    if why := missing():
        raise UnavailableError(why)
    build(emulator.BUILD, "EMULATOR", "dinn360_trt_driver")
    return emulator.BUILD / "testing" / "libdinn360_trt_emulated.so"


def emulated() -> Library:
    """The plugins over the emulated kernels. Raises as `emulated_path`."""
    path = emulated_path()
    return Library(path.with_name("libdinn360_trt_driver.so"), path)


class Library:
    """A plugin library as driver.cpp loads it."""

    def __init__(self, driver: Path, plugins: Path) -> None:
        self._driver = ctypes.CDLL(str(driver))
        for name in ("open", "create", "clone", "attach"):
            self._function(name).restype = ctypes.c_void_p
        for name in ("printed", "recorded", "name", "version", "namespace", "state", "timing_id"):
            self._function(name).restype = ctypes.c_char_p
        for name in ("field_names", "fields"):
            self._function(name).restype = ctypes.POINTER(_Fields)
        self._function("supports").restype = ctypes.c_bool
        self._function("workspace").restype = ctypes.c_size_t
        count = ctypes.c_int32()
        creators = self._function("open")(str(plugins).encode(), ctypes.byref(count))
        if creators is None:
            raise RuntimeError(self.printed())
        self._creators = ctypes.c_void_p(creators)
        self.creators = [self._creator(i) for i in range(count.value)]

    def _function(self, name: str) -> Any:
        return getattr(self._driver, f"driver_{name}")

    def printed(self) -> str:
        """What the plugins wrote to stderr since the last call."""
        return self._function("printed")().decode().strip()

    def recorded(self) -> str:
        """What the plugins gave to the error recorder since the last call: `error CODE: message` in each line."""
        return self._function("recorded")().decode().strip()

    def said(self) -> str:
        """Both."""
        return self.recorded() or self.printed()

    @property
    def recorder_holders(self) -> int:
        """How many plugins hold the error recorder."""
        return self._function("holders")()

    def _creator(self, index: int) -> tuple[str, str, str, list[str]]:
        """Name, version, namespace and field names."""
        name, version, namespace = (
            self._function(what)(self._creators, index).decode() for what in ("name", "version", "namespace")
        )
        fields = self._function("field_names")(self._creators, index).contents
        return name, version, namespace, [fields.fields[i].name.decode() for i in range(fields.count)]

    def create(self, name: str, fields: Mapping[str, FieldValue], phase: int = BUILD) -> Plugin:
        """A plugin of its fields. Raises PluginError with the plugin's words."""
        made = [_field(key, value) for key, value in fields.items()]
        return self._create(name, [field for field, _ in made], phase)

    def _create(self, name: str, fields: Sequence[_Field], phase: int) -> Plugin:
        index = [creator[0] for creator in self.creators].index(name)
        structs = (_Field * len(fields))(*fields)
        return self._plugin(name, self._function("create")(self._creators, index, structs, len(fields), phase))

    def _plugin(self, name: str, pointer: int | None) -> Plugin:
        if pointer is None:
            raise PluginError(self.said())
        return Plugin(self, name, pointer)


class Plugin:
    """An IPluginV3. Its methods raise PluginError with what the plugin said when its function reports a failure.

    `tensors` are the inputs, then the output.
    """

    def __init__(self, library: Library, name: str, pointer: int) -> None:
        self._library, self._name, self._pointer = library, name, ctypes.c_void_p(pointer)

    def __del__(self) -> None:
        self._library._function("destroy")(self._pointer)

    def _call(self, function: str, *arguments: Any) -> Any:
        return self._library._function(function)(self._pointer, *arguments)

    def _succeed(self, status: int) -> None:
        if status != 0:
            raise PluginError(self._library.said())

    @property
    def state(self) -> str:
        """Name and fields in one line."""
        return self._call("state").decode()

    @property
    def timing_id(self) -> str:
        """The suffix of the timing cache's key."""
        return self._call("timing_id").decode()

    def clone(self) -> Plugin:
        return self._library._plugin(self._name, self._call("clone"))

    def attach(self, records: bool = False) -> Plugin:
        """The plugin of an execution context. records: the application gave the context an error recorder."""
        return self._library._plugin(self._name, self._call("attach", records))

    def through_engine(self) -> Plugin:
        """The plugin that a runtime makes of what this one writes into an engine."""
        fields = self._call("fields").contents
        return self._library._create(self._name, fields.fields[: fields.count], RUNTIME)

    def output_type(self, inputs: Sequence[Tensor]) -> np.dtype[Any]:
        found = self._call("output_type", _structs(inputs), len(inputs))
        self._succeed(min(found, 0))
        return {number: type_ for type_, number in _TYPES.items()}[found]

    def output_shape(self, inputs: Sequence[Tensor]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The sizes of the output, and which of them follow from open ones."""
        found = _Tensor()
        self._succeed(self._call("output_shape", _structs(inputs), len(inputs), ctypes.byref(found)))
        return tuple(found.dims[: found.rank]), tuple(i for i in range(found.rank) if found.open >> i & 1)

    def supports(self, tensors: Sequence[Tensor]) -> bool:
        """Whether the plugin takes every tensor's type and format, asked one after another as a builder asks."""
        structs = _structs(tensors)
        return all(self._call("supports", i, structs, len(tensors) - 1) for i in range(len(tensors)))

    def configure(self, tensors: Sequence[Tensor]) -> None:
        self._succeed(self._call("configure", _structs(tensors), len(tensors) - 1))

    def workspace_size(self, tensors: Sequence[Tensor]) -> int:
        """Bytes, for the largest sizes."""
        return self._call("workspace", _structs(tensors), len(tensors) - 1)

    def shape_change(self, tensors: Sequence[Tensor]) -> None:
        self._succeed(self._call("shape_change", _structs(tensors), len(tensors) - 1))

    def enqueue(self, tensors: Sequence[Tensor], workspace: Array) -> None:
        """Fills the last tensor's data."""
        address = ctypes.c_void_p(workspace.ctypes.data) if workspace.size else None
        self._succeed(self._call("enqueue", _structs(tensors), len(tensors) - 1, address))
