"""What an .onnx file says of itself, read without the onnx package and without a runtime.

A device that has only TensorRT builds and inspects engines with this. ONNX files are protobuf messages, and protobuf's
wire format is a list of (field number, wire type, value): all that is needed here. The field numbers are those of
onnx.proto, where they are fixed for good. Weights are not decoded.
"""

from __future__ import annotations

import json
import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from engines.support.errors import UserError
from engines.support.files import os_reason
from engines.support.reading import short

Dimension = int | str | None
Attribute = int | float | str | list[int] | list[float] | list[str]

# TensorProto.DataType
_TYPES = {
    1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 8: "string", 9: "bool",
    10: "float16", 11: "float64", 16: "bfloat16",
}  # fmt: skip
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


@dataclass(frozen=True)
class OnnxTensor:
    """Name, numpy name of the type, and shape: an int (fixed), a str (a named free dimension) or None (free)."""

    name: str
    dtype: str
    shape: tuple[Dimension, ...]


@dataclass(frozen=True)
class OnnxNode:
    """One operator. domain: "" is ONNX's own. attributes: numbers, texts and lists of them; others are left out."""

    name: str
    op_type: str
    domain: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Attribute]


@dataclass(frozen=True)
class OnnxFile:
    """A graph without its numbers.

    Attributes:
        opsets: version by domain.
        metadata: `metadata_props`.
        inputs, outputs: the graph's own, weights not among them.
        defaults: inputs that may be left out, and the bytes of the value that they then have.
        weights: the initialisers.
        values: what shape inference recorded of the tensors in between, by name.
        nodes: in the file's order; those inside subgraphs and functions are not listed.
    """

    path: Path
    opsets: dict[str, int]
    metadata: dict[str, str]
    inputs: tuple[OnnxTensor, ...]
    outputs: tuple[OnnxTensor, ...]
    defaults: tuple[tuple[OnnxTensor, bytes], ...]
    weights: tuple[OnnxTensor, ...]
    values: dict[str, OnnxTensor]
    nodes: tuple[OnnxNode, ...]

    @property
    def precision(self) -> str:
        """ "fp16" when weights or graph tensors are float16, else "fp32": read from the file, not from its label."""
        tensors = (*self.inputs, *self.outputs, *self.weights)
        return "fp16" if any(tensor.dtype == "float16" for tensor in tensors) else "fp32"

    @property
    def fp32_ops(self) -> tuple[str, ...]:
        """Roles of the operators that the exporter kept in fp32 in an fp16 graph, from its label.

        Graphs from before 0.2.0 call the label `islands`. Raises UserError for a label not ours.
        """
        key = "islands" if "fp32_ops" not in self.metadata else "fp32_ops"
        text = self.metadata.get(key, "[]")
        try:
            names = json.loads(text)
        except (ValueError, RecursionError):
            names = None
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise UserError(f"{self.path}: metadata entry {key}: expected a JSON list of names, found {short(text)}")
        return tuple(names)


def read_onnx(path: Path | str) -> OnnxFile:
    """Read the structure of an .onnx file.

    Raises:
        UserError: the file is missing, not readable or no ONNX model.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot read: {os_reason(error)}") from error
    try:
        return _model(path, memoryview(content))
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, struct.error) as error:
        raise UserError(f"{path}: expected an ONNX file, found something else or a damaged one") from error


def _model(path: Path, content: memoryview) -> OnnxFile:
    model = _message(content)
    (graph_bytes,) = model[7]
    graph = _message(graph_bytes)
    opsets = [_message(entry) for entry in model.get(8, [])]
    pairs = [_message(entry) for entry in model.get(14, [])]
    weights = tuple(_weight(entry) for entry in graph.get(5, []))
    raw = {tensor.name: _raw(entry) for tensor, entry in zip(weights, graph.get(5, []), strict=True)}
    inputs = [_value(entry) for entry in graph.get(11, [])]
    _check_defaults(inputs, raw)
    values = [_value(entry) for entry in graph.get(13, [])]
    return OnnxFile(
        path=path,
        opsets={_text(entry, 1): _integers(entry[2])[-1] for entry in opsets},
        metadata={_text(entry, 1): _text(entry, 2) for entry in pairs},
        inputs=tuple(tensor for tensor in inputs if tensor.name not in raw),
        outputs=tuple(_value(entry) for entry in graph.get(12, [])),
        defaults=tuple((tensor, bytes(raw[tensor.name])) for tensor in inputs if raw.get(tensor.name)),
        weights=weights,
        values={tensor.name: tensor for tensor in values},
        nodes=tuple(_node(entry) for entry in graph.get(1, [])),
    )


def _check_defaults(inputs: list[OnnxTensor], raw: dict[str, memoryview]) -> None:
    for tensor in inputs:
        if raw.get(tensor.name):
            size = np.dtype(tensor.dtype).itemsize * math.prod(n if isinstance(n, int) else 0 for n in tensor.shape)
            if len(raw[tensor.name]) != size:
                raise ValueError("a default of another size than its input")


def _weight(content: memoryview) -> OnnxTensor:
    """TensorProto: dims 1, data_type 2, name 8; the numbers stay where they are."""
    tensor = _message(content)
    return OnnxTensor(_text(tensor, 8), _TYPES[tensor[2][-1]], tuple(_integers(tensor.get(1, []))))


def _raw(content: memoryview) -> memoryview:
    """TensorProto's raw_data 9, as every exporter of today writes numbers; empty for the older typed fields."""
    found: memoryview = _message(content).get(9, [memoryview(b"")])[-1]
    return found


def _value(content: memoryview) -> OnnxTensor:
    """ValueInfoProto: name 1, type 2 with tensor_type 1 of elem_type 1 and shape 2; dim_value 1, dim_param 2."""
    value = _message(content)
    tensor = _message(_message(value[2][-1])[1][-1])
    shape = _message(tensor[2][-1]).get(1, []) if 2 in tensor else []
    return OnnxTensor(_text(value, 1), _TYPES[tensor[1][-1]], tuple(_dimension(_message(entry)) for entry in shape))


def _dimension(dimension: dict[int, list[Any]]) -> Dimension:
    if 1 in dimension:
        return _signed(dimension[1][-1])
    return _text(dimension, 2) or None


def _node(content: memoryview) -> OnnxNode:
    """NodeProto: input 1, output 2, name 3, op_type 4, attribute 5, domain 7."""
    node = _message(content)
    attributes = {}
    for entry in node.get(5, []):
        attribute = _message(entry)
        value = _attribute(attribute)
        if value is not None:
            attributes[_text(attribute, 1)] = value
    if not node.get(2) or not _text(node, 4):
        raise ValueError("a node without an operator or without an output")
    return OnnxNode(
        _text(node, 3),
        _text(node, 4),
        _text(node, 7),
        tuple(str(name, "utf-8") for name in node.get(1, [])),
        tuple(str(name, "utf-8") for name in node.get(2, [])),
        attributes,
    )


def _attribute(attribute: dict[int, list[Any]]) -> Attribute | None:
    """AttributeProto by its type 20: FLOAT 1, INT 2, STRING 3, FLOATS 6, INTS 7, STRINGS 8; None for the others."""
    kind = attribute.get(20, [0])[-1]
    if kind == 1:
        return _floats(attribute[2])[-1]
    if kind == 2:
        return _integers(attribute[3])[-1]
    if kind == 3:
        return str(attribute[4][-1], "utf-8")
    if kind == 6:
        return _floats(attribute.get(7, []))
    if kind == 7:
        return _integers(attribute.get(8, []))
    if kind == 8:
        return [str(value, "utf-8") for value in attribute.get(9, [])]
    return None


def _message(content: memoryview) -> dict[int, list[Any]]:
    """The values of each field, in order: int for a varint, memoryview for the rest."""
    fields: dict[int, list[Any]] = {}
    position = 0
    while position < len(content):
        key, position = _varint(content, position)
        number, wire = key >> 3, key & 7
        if wire == _VARINT:
            integer, position = _varint(content, position)
            fields.setdefault(number, []).append(integer)
            continue
        if wire == _BYTES:
            size, position = _varint(content, position)
        else:
            size = {_FIXED64: 8, _FIXED32: 4}[wire]
        value = content[position : position + size]
        if len(value) < size:
            raise ValueError("cut short")
        fields.setdefault(number, []).append(value)
        position += size
    return fields


def _varint(content: memoryview, position: int) -> tuple[int, int]:
    """The number that starts at `position`, seven bits a byte, and the position behind it."""
    result = shift = 0
    while True:
        byte = content[position]
        result |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:
            return result, position
        if shift > 63:
            raise ValueError("a number of more than 64 bits")


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def _integers(values: list[Any]) -> list[int]:
    """A repeated integer field, whether its writer packed it (one byte string) or not."""
    numbers: list[int] = []
    for value in values:
        if isinstance(value, int):
            numbers.append(_signed(value))
            continue
        position = 0
        while position < len(value):
            number, position = _varint(value, position)
            numbers.append(_signed(number))
    return numbers


def _floats(values: list[Any]) -> list[float]:
    """A repeated float field, packed or not: both are multiples of four bytes."""
    return [number for value in values for (number,) in struct.iter_unpack("<f", value)]


def _text(message: dict[int, list[Any]], number: int) -> str:
    return str(message[number][-1], "utf-8") if number in message else ""
