"""Nodes grouped into layers as an engine builder fuses them, and what each layer computes and moves.

Fusion, as TensorRT-RTX's plans show it: an element-wise node joins the convolution or product that makes its operand,
where nobody else reads that. All else but plugins becomes generated kernels, each as long a run of element-wise work,
slices, concatenations, transposes, sums and gathers as can be: only what comes in from other kernels and what others
read moves through memory. A gather begins a kernel where the one before makes its image, since it reads all of it; its
indices may be made inside. Reshapes cost nothing, nor does what changes nothing at the size that is counted, as a Pad
by no rows. fp16 images lie in memory with their channels last, filled up to a multiple of 8 (TensorRT's kHWC8, which
our plugins take).
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field

from engines.onnx_file import OnnxFile, OnnxNode
from export.estimate.shapes import Shape

ELEMENTWISE = frozenset(
    "Abs Add And Atan Cast Ceil Clip Div Equal Erf Exp Floor Gelu Greater GreaterOrEqual LeakyRelu Less LessOrEqual "
    "Max Min Mul Neg Not Or Pow Reciprocal Relu Round Sigmoid Sqrt Sub Tanh Where".split()
)
FREE = frozenset("Flatten Identity Reshape Squeeze Unsqueeze".split())
# What generated kernels hold: these and ELEMENTWISE.
GENERATED = ELEMENTWISE | frozenset(
    "Concat Cos DepthToSpace Expand Gather GatherND LayerNormalization Pad Range ReduceMean ReduceSum Resize Slice "
    "Softmax Split Tile Transpose".split()
)
ANYWHERE = frozenset("Gather GatherND Resize".split())  # read places of their first input that others may still make
PARTIAL = frozenset("Gather GatherND Slice Split".split())  # read what they give, not all that they are given
REMOVED = frozenset("Expand Pad Slice".split())  # where they give what they are given, in full
_CAST_TO = {1: "float32", 2: "uint8", 6: "int32", 7: "int64", 9: "bool", 10: "float16", 11: "float64"}
_BYTES = {"float32": 4, "float16": 2, "float64": 8, "int64": 8, "int32": 4, "uint8": 1, "int8": 1, "bool": 1}


@dataclass
class Layer:
    """One launch on the device.

    Attributes:
        name, kind: of the node that it is built around; fused: how many others it holds.
        products: multiply-accumulates of convolutions and matrix products. samples: of bilinear sampling.
        reads, writes: bytes of each tensor from and to memory, weights among the former, by name.
        inside: tensors that pass from one of its nodes to the next and never reach memory.
        scratch: bytes of memory for the duration of the layer. passes: bytes moved beyond reads and writes.
        half: whether its arithmetic is fp16. node: that it is built around.
        launches: kernels that it starts. order: its place, which is behind that of all that it reads.
    """

    name: str
    kind: str
    half: bool
    products: int = 0
    samples: int = 0
    fused: int = 0
    reads: dict[str, int] = field(default_factory=dict)
    writes: dict[str, int] = field(default_factory=dict)
    inside: set[str] = field(default_factory=set)
    scratch: int = 0
    passes: int = 0
    launches: int = 1
    node: OnnxNode | None = None
    order: int = 0

    @property
    def macs(self) -> int:
        return self.products + self.samples

    @property
    def bytes(self) -> int:
        """All bytes that pass between the chip and its memory."""
        return sum(self.reads.values()) + sum(self.writes.values()) + self.passes

    @property
    def intensity(self) -> float:
        """Multiply-accumulates a byte."""
        return self.macs / self.bytes if self.bytes else 0.0


def layers_of(file: OnnxFile, shapes: dict[str, Shape], stock: bool) -> list[Layer]:
    """The layers of a graph in order.

    shapes: of every tensor, by name. stock: count plugin nodes as the operators that come with TensorRT would compute
    them, a deformable convolution through its unrolled columns and an attention through its matrix.
    """
    return _Grouping(file, shapes, stock).layers


class _Grouping:
    def __init__(self, file: OnnxFile, shapes: dict[str, Shape], stock: bool) -> None:
        self.file, self.shapes, self.stock = file, shapes, stock
        self.readers = Counter(name for node in file.nodes for name in node.inputs)
        self.readers.update(tensor.name for tensor in file.outputs)
        self.constants = {tensor.name for tensor in file.weights}
        self.types = {tensor.name: tensor.dtype for tensor in (*file.inputs, *file.weights, *file.outputs)}
        self.alias: dict[str, str] = {}  # what a free node gives is the tensor that it was given
        self.tail: dict[str, Layer] = {}  # the layer that makes the tensor
        self.read = Counter[str]()  # how many readers of a tensor have been met
        self.outside = {tensor.name for tensor in file.outputs}  # read by other layers than the one that makes it
        self.layers: list[Layer] = []
        for node in file.nodes:
            self._take(node)

    def _take(self, node: OnnxNode) -> None:
        inputs = [name for name in node.inputs if name]
        for name in node.outputs:
            self.types.setdefault(name, _result_type(node, [self.types[i] for i in inputs]))
        if node.op_type == "Shape" or all(self._source(name) in self.constants for name in inputs):
            self.constants.update(node.outputs)  # known as soon as the size is
            return
        whole = node.op_type in REMOVED and self.shapes[node.outputs[0]] == self.shapes[inputs[0]]
        if node.op_type in FREE or whole:
            self.alias[node.outputs[0]] = self._source(inputs[0])
            self.readers[self._source(inputs[0])] += self.readers[node.outputs[0]] - 1
            return
        layer = self._joined(node, inputs) if node.op_type in ELEMENTWISE else None
        if layer is None and node.op_type in GENERATED:
            layer = self._generated(node, inputs)
        if layer is None:
            layer = Layer(node.name, node.op_type, self.types[node.outputs[0]] == "float16", node=node)
            layer.launches = (
                2 if node.op_type in ("DeformConv", "DeformConv2d") else 1
            )  # weights are packed, columns made
            self._put_last(layer)
            _count(layer, node, self.shapes, self.stock, self._element(node.outputs[0]))
        for name in inputs:
            source = self._source(name)
            self.read[source] += 1
            if self.tail.get(source) is layer:
                if self.read[source] == self.readers[source] and source not in self.outside:
                    del layer.writes[source]
                    layer.inside.add(source)
            else:
                self.outside.add(source)
                part = node.op_type in PARTIAL and name == inputs[0]
                size = self._size(node.outputs[0]) + layer.reads.get(source, 0) if part else self._size(source)
                layer.reads[source] = min(size, self._size(source))
        for name in filter(None, node.outputs):
            if self.readers[name]:
                layer.writes[name] = self._size(name)
                self.tail[name] = layer

    def _joined(self, node: OnnxNode, inputs: list[str]) -> Layer | None:
        """The layer that this element-wise node ends from now on; what only it reads is not written any more."""
        for name in sorted(map(self._source, inputs), key=self._size, reverse=True):
            layer = self.tail.get(name)
            alone = layer is not None and self.readers[name] == 1 and list(layer.writes) == [name]
            if layer is not None and alone and layer.kind not in GENERATED and not self._is_plugin(layer):
                layer.fused += 1
                self.layers.remove(layer)
                self._put_last(layer)  # it runs when all of its operands are there
                return layer
        return None

    def _generated(self, node: OnnxNode, inputs: list[str]) -> Layer | None:
        """The generated kernel that goes on with this node: the last of those that make its operands, if it is one.

        Whatever else the node reads is there by then, since a layer reads only what layers before it make.
        """
        makers = [self.tail[source] for source in map(self._source, inputs) if source in self.tail]
        last = max(makers, key=lambda layer: layer.order, default=None)
        if last is None or last.kind not in GENERATED:
            return None
        if node.op_type in ANYWHERE and self.tail.get(self._source(inputs[0])) is last:
            return None
        last.fused += 1
        return last

    def _put_last(self, layer: Layer) -> None:
        layer.order = self.layers[-1].order + 1 if self.layers else 0
        self.layers.append(layer)

    def _is_plugin(self, layer: Layer) -> bool:
        """Whether a plugin computes it: TensorRT fuses nothing into one."""
        return layer.kind in ("DeformConv", "DeformConv2d") or (layer.kind == "DSTAttention" and not self.stock)

    def _source(self, name: str) -> str:
        return self.alias.get(name, name)

    def _element(self, name: str) -> int:
        return _BYTES[self.types[name]]

    def _size(self, name: str) -> int:
        shape = self.shapes[name]
        if len(shape) == 4 and self.types[name] == "float16" and name not in self.constants:
            shape = (shape[0], -(-shape[1] // 8) * 8, *shape[2:])
        return math.prod(shape) * self._element(name)


def _integer(node: OnnxNode, attribute: str) -> int:
    value = node.attributes[attribute]
    assert isinstance(value, int)
    return value


def _result_type(node: OnnxNode, given: list[str]) -> str:
    """The type of a node's results, as far as a cost needs it."""
    if node.op_type == "Cast":
        return _CAST_TO[_integer(node, "to")]
    if node.op_type == "Shape":
        return "int64"
    if node.op_type in ("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "And", "Or", "Not"):
        return "bool"
    if node.op_type == "Where":
        return given[1]
    return given[0] if given else "int64"


def _count(layer: Layer, node: OnnxNode, shapes: dict[str, Shape], stock: bool, element: int) -> None:
    """Fills in the arithmetic of one node, and what it moves beside its inputs and outputs."""
    out = shapes[node.outputs[0]]
    if node.op_type == "Conv":
        layer.products = math.prod(out) * math.prod(shapes[node.inputs[1]][1:])
    elif node.op_type in ("MatMul", "Gemm"):
        layer.products = math.prod(out) * shapes[node.inputs[0]][-1]
    elif node.op_type in ("DeformConv", "DeformConv2d"):
        weight = shapes[node.inputs[1 if node.op_type == "DeformConv" else 2]]
        columns = shapes[node.inputs[0]][1] * math.prod(weight[2:]) * math.prod(out) // out[1]
        layer.products = math.prod(out) * math.prod(weight[1:])
        layer.samples = 4 * columns
        if stock or node.op_type == "DeformConv":
            layer.scratch = columns * element
            layer.passes = 2 * layer.scratch  # written, and read again by the matrix product
    elif node.op_type == "DSTAttention":
        tokens, heads, image = _integer(node, "window") ** 2, _integer(node, "heads"), math.prod(out)
        layer.products = 2 * image * tokens
        layer.samples = 4 * image if len(node.inputs) > 4 else 0
        if stock:
            scores = image // out[1] * heads * tokens * element
            arranged = image * element
            layer.scratch = 2 * scores + 4 * arranged
            layer.passes = 4 * scores + 8 * arranged  # both are written and read twice; q, k, v, y are rearranged
