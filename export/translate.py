"""From the operators that torch.export traces to ONNX: a table of small rules.

What the package knows as one operator (`dinn360.ops`) becomes one node, the two plugin operators in their own domain
and the others in LAYERS, which `export.lowering` expands or fuses. Each node carries its role (`dinn360.tracing`). What
is computed from weights alone is computed here.

torch.onnx would do much of this, too; but it decomposes and rewrites for most of the time that an export takes, and
drops the roles on the way.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor
from torch.export import ExportedProgram
from torch.fx import Node

from dinn360.ops.registry import NAMESPACE
from dinn360.tracing import ROLE
from export.operators import DEFORM_CONV_2D, DOMAIN, DST_ATTENTION, LAYERS, PLUGIN, VERSION

IR_VERSION = 10

Input = ir.Value | None
aten = torch.ops.aten
ours = getattr(torch.ops, NAMESPACE)


class Translation:
    """One traced program on its way to an ONNX graph."""

    def __init__(self, program: ExportedProgram, opset: int, lr_size: tuple[int, int]) -> None:
        self.program = program
        self.lr_size = lr_size  # rows and columns of the LR image in the trace
        versions = {"": opset, DOMAIN: VERSION, LAYERS: 1}
        self.graph = ir.Graph([], [], nodes=[], opset_imports=versions, name="main")
        self.values: dict[Node, Any] = {}  # ir.Value, a list of them, or a constant Tensor
        self.node: Node | None = None  # the one that is being translated

    def run(self, inputs: Sequence[str], outputs: Sequence[str]) -> ir.Model:
        """The graph, with names for its inputs and outputs. Raises NotImplementedError as `translate` does."""
        fixed = self.program.state_dict | self.program.constants
        weights = {spec.arg.name: spec.target for spec in self.program.graph_signature.input_specs if spec.target}
        names = iter(inputs)
        for node in self.program.graph.nodes:
            self.node = node
            if node.op == "placeholder":
                target = weights.get(node.name)
                self.values[node] = self._input(next(names)) if target is None else _named(fixed[target], target)
            elif node.op == "call_function":
                self.values[node] = self._call(node)
            elif node.op == "output":
                for value, name in zip(node.args[0], outputs, strict=True):
                    result = self.values[value]
                    result.name = name
                    self.graph.outputs.append(result)
        return ir.Model(self.graph, ir_version=IR_VERSION)

    def _input(self, name: str) -> ir.Value:
        assert self.node is not None
        value = ir.Value(name=name)
        self._describe(value, self.node.meta["val"])
        self.graph.inputs.append(value)
        return value

    def _call(self, node: Node) -> Any:
        target = node.target
        if target is operator.getitem:
            source, index = node.args
            assert isinstance(source, Node) and isinstance(index, int)
            return self.values[source][index]
        read = [self.values[source] for source in node.all_input_nodes]
        if all(isinstance(value, Tensor) for value in read) and read:
            return self._fold(node)
        rule = RULES.get(target)
        if rule is None:
            raise NotImplementedError(f"export/translate.py: expected an operator of the table, found {target}")
        arguments = [self._resolve(argument) for argument in node.args]
        return rule(self, *arguments, **{name: self._resolve(value) for name, value in node.kwargs.items()})

    def _fold(self, node: Node) -> Any:
        """What follows from weights alone."""
        arguments, named = torch.fx.node.map_arg((node.args, node.kwargs), lambda source: self.values[source])
        with torch.no_grad():
            result = node.target(*arguments, **named)  # type: ignore[operator]
        return _named(result, node.name) if isinstance(result, Tensor) else result

    def _resolve(self, argument: Any) -> Any:
        if isinstance(argument, Node):
            value = self.values[argument]
            return self.constant(value) if isinstance(value, Tensor) else value
        if isinstance(argument, list | tuple):
            return [self._resolve(part) for part in argument]
        return argument

    def constant(self, value: Any, name: str | None = None) -> ir.Value:
        """An initializer: a weight under its name, or a number or a list of integers."""
        if isinstance(value, Tensor):
            name, array = name or getattr(value, "label", None), value.detach().numpy()
        else:
            array = np.array(value, dtype=np.float32 if isinstance(value, float) else np.int64)
        name = name or f"{array.dtype}_{'_'.join(map(str, array.reshape(-1)))}_{array.ndim}"
        if name not in self.graph.initializers:
            tensor = ir.tensor(np.asarray(array, order="C"), name=name)
            result = ir.Value(
                name=name, type=ir.TensorType(tensor.dtype), shape=ir.Shape(array.shape), const_value=tensor
            )
            self.graph.register_initializer(result)
        return self.graph.initializers[name]

    def emit(
        self, kind: str, *inputs: Input, domain: str = "", example: Any = None, outputs: int = 1, **attributes: Any
    ) -> Any:
        """Adds a node with the role of what is translated; its value, or a list of them where there are `outputs`.

        example: what tells type and channels of the values; default: the traced result.
        """
        assert self.node is not None
        example = self.node.meta["val"] if example is None else example
        node = ir.node(kind, inputs, attributes, domain=domain, num_outputs=outputs, name=self.node.name)
        if role := self.node.meta.get("custom", {}).get(ROLE):
            node.metadata_props[ROLE] = role
        for index, value in enumerate(node.outputs):
            value.name = self.node.name if outputs == 1 else f"{self.node.name}_{index}"
            self._describe(value, example if isinstance(example, Tensor) else example[index])
        self.graph.append(node)
        return node.outputs[0] if outputs == 1 else list(node.outputs)

    def step(self, kind: str, *inputs: Input, like: Tensor, suffix: str, **attributes: Any) -> ir.Value:
        """A node in between, which gives a value like `like`."""
        value = self.emit(kind, *inputs, example=like, **attributes)
        value.name = f"{value.name}_{suffix}"
        value.producer().name = value.name
        return value

    def _describe(self, value: ir.Value, example: Tensor) -> None:
        """Type and shape: of images (B,C,H,W) only C is fixed; sizes are named by their share of the LR image's."""
        types = {torch.float32: ir.DataType.FLOAT, torch.int64: ir.DataType.INT64, torch.bool: ir.DataType.BOOL}
        value.type = ir.TensorType(types[example.dtype])
        shape: list[int | str] = list(map(int, example.shape))
        if len(shape) == 4:
            sizes = zip(("lr_height", "lr_width"), example.shape[2:], self.lr_size, strict=True)
            free: list[int | str] = [_size(name, int(size), lr) if int(size) > 1 else 1 for name, size, lr in sizes]
            shape = ["batch" if len(example) > 1 else 1, shape[1], *free]
        value.shape = ir.Shape(shape)


def _size(name: str, size: int, lr: int) -> str:
    """The name of a size in the trace, by the LR size `lr` in the trace, which is called `name`."""
    if size % lr == 0:
        return name if size == lr else f"{size // lr}*{name}"
    return f"ceil({name}/{-(-lr // size)})" if size < lr else f"{name}_{size}"


def _named(tensor: Tensor, label: str) -> Tensor:
    """A constant that remembers its name."""
    result = tensor.detach().contiguous()
    result.label = label  # type: ignore[attr-defined]
    return result


def _elementwise(kind: str) -> Callable[..., Any]:
    """An operator of one or two operands, numbers among them."""

    def rule(t: Translation, *operands: Any, alpha: float = 1) -> Any:
        assert alpha == 1 and t.node is not None
        number: type = float if t.node.meta["val"].is_floating_point() else int
        return t.emit(kind, *(t.constant(number(x)) if isinstance(x, int | float) else x for x in operands))

    return rule


def _reversed_sub(t: Translation, x: Any, other: float, alpha: float = 1) -> Any:
    assert alpha == 1
    return t.emit("Sub", t.constant(float(other)), x)


def _same(t: Translation, x: Any, *_: Any, **__: Any) -> Any:
    """A change of type or device to what a value has already; nothing else is traced."""
    assert t.node is not None
    source = t.node.args[0]
    assert isinstance(source, Node) and source.meta["val"].dtype == t.node.meta["val"].dtype
    return x


def _convolution(
    t: Translation, x: Any, weight: Any, bias: Any = None, stride: Any = (1, 1), padding: Any = (0, 0),
    dilation: Any = (1, 1), groups: int = 1,
) -> Any:  # fmt: skip
    pads, steps, apart = ([v[0], v[-1]] for v in (padding, stride, dilation))
    inputs = [x, weight] + ([] if bias is None else [bias])
    return t.emit("Conv", *inputs, pads=pads * 2, strides=steps, dilations=apart, group=groups)


def _slice(t: Translation, x: Any, axis: int = 0, start: Any = None, end: Any = None, step: int = 1) -> Any:
    whole = 2**31
    start, end = start or 0, whole if end is None else min(end, whole)
    if (start, end, step) == (0, whole, 1):
        return x
    return t.emit("Slice", x, *(t.constant([number]) for number in (start, end, axis, step)))


def _split(t: Translation, x: Any, sizes: Any, axis: int = 0) -> Any:
    """chunk and split, by the sizes that were traced."""
    assert t.node is not None
    parts = [int(part.shape[axis]) for part in t.node.meta["val"]]
    return t.emit("Split", x, t.constant(parts), outputs=len(parts), axis=axis)


def _gelu(t: Translation, x: Any, approximate: str = "none") -> Any:
    return t.emit("Gelu", x, domain=LAYERS, approximate=approximate)


def _clamp(t: Translation, x: Any, low: float | None = None, high: float | None = None) -> Any:
    bounds = [None if bound is None else t.constant(float(bound)) for bound in (low, high)]
    return t.emit("Clip", x, *bounds)


def _transposed_convolution(
    t: Translation, x: Any, weight: Any, bias: Any = None, stride: Any = (1, 1), padding: Any = (0, 0), *_: Any
) -> Any:
    pads, steps = ([v[0], v[-1]] for v in (padding, stride))
    inputs = [x, weight] + ([] if bias is None else [bias])
    return t.emit("ConvTranspose", *inputs, pads=pads * 2, strides=steps)


def _upsample(t: Translation, x: Any, size: Any = None, *scales: Any) -> Any:
    factors = [factor for part in scales for factor in (part if isinstance(part, list) else [part])]
    array = torch.tensor([1.0, 1.0, *map(float, factors)])
    sizes = t.constant(array, f"scales_{'_'.join(map(str, factors))}")
    return t.emit("Resize", x, None, sizes, mode="nearest", coordinate_transformation_mode="asymmetric",
                  nearest_mode="floor")  # fmt: skip


def _layer(kind: str, *names: str) -> Callable[..., Any]:
    """A node of LAYERS: tensors are its inputs, other arguments its attributes by `names`."""

    def rule(t: Translation, *arguments: Any) -> Any:
        inputs = [x for x in arguments if isinstance(x, ir.Value)]
        others = [x for x in arguments if not isinstance(x, ir.Value)]
        attributes = {name: int(x) for name, x in zip(names, others, strict=True)}
        return t.emit(kind, *inputs, domain=LAYERS, **attributes)

    return rule


def _shape_of(t: Translation, like: Any) -> ir.Value:
    return t.step("Shape", like, like=torch.empty(4, dtype=torch.int64), suffix="shape")


def _distortion_map(t: Translation, like: Any, omitted: Any, reduction: int) -> Any:
    inputs = [_shape_of(t, like)] + ([] if omitted is None else [omitted])
    return t.emit("DistortionMap", *inputs, domain=LAYERS, reduction=reduction)


def _crop(t: Translation, x: Any, like: Any, factor: int, divisor: int, left: int) -> Any:
    return t.emit("Crop", x, _shape_of(t, like), domain=LAYERS, factor=factor, divisor=divisor, left=left)


def _spread(t: Translation, latitude: Any, like: Any) -> Any:
    return t.emit("Spread", latitude, _shape_of(t, like), domain=LAYERS)


def _zeros(t: Translation, like: Any, channels: int) -> Any:
    return t.emit("Zeros", _shape_of(t, like), domain=LAYERS, channels=channels)


def _deform_conv2d(
    t: Translation, x: Any, offset: Any, weight: Any, bias: Any, mask: Any, max_offset: float, wrap: bool
) -> Any:
    rows, columns = (int(size) for size in weight.shape[2:])
    inputs = [x, offset, weight, bias] + ([] if mask is None else [mask])
    return t.emit(
        DEFORM_CONV_2D.name,
        *inputs,
        domain=DOMAIN,
        strides=[1, 1],
        pads=[rows // 2, columns // 2],
        dilations=[1, 1],
        group=1,
        offset_group=int(offset.shape[1]) // (2 * rows * columns),
        max_offset=float(max_offset),
        wrap=int(wrap),
        **PLUGIN,
    )


def _dst_attention(
    t: Translation, q: Any, k: Any, v: Any, scale: Any, offset: Any, bias: Any, window: int, shift: int, wrap: bool
) -> Any:
    inputs = [q, k, v, bias] + ([] if scale is None else [scale, offset])
    numbers = {"heads": int(bias.shape[0]), "window": window, "shift": shift, "wrap": int(wrap)}
    return t.emit(DST_ATTENTION.name, *inputs, domain=DOMAIN, **numbers, **PLUGIN)


RULES: dict[Any, Callable[..., Any]] = {
    **{
        getattr(aten, name).Tensor: _elementwise(kind)
        for name, kind in {"add": "Add", "sub": "Sub", "mul": "Mul", "div": "Div"}.items()
    },
    **{
        getattr(aten, name).default: _elementwise(kind)
        for name, kind in {
            "neg": "Neg",
            "exp": "Exp",
            "atan": "Atan",
            "sigmoid": "Sigmoid",
            "tanh": "Tanh",
            "relu": "Relu",
            "maximum": "Max",
            "minimum": "Min",
            "abs": "Abs",
        }.items()
    },  # fmt: skip
    aten.rsub.Scalar: _reversed_sub,
    aten.leaky_relu.default: lambda t, x, slope=0.01: t.emit("LeakyRelu", x, alpha=float(slope)),
    aten.gelu.default: _gelu,
    aten.clamp.default: _clamp,
    aten.conv2d.default: _convolution,
    aten.conv_transpose2d.input: _transposed_convolution,
    aten.cat.default: lambda t, parts, axis=0: t.emit("Concat", *parts, axis=axis),
    aten.slice.Tensor: _slice,
    aten.chunk.default: _split,
    aten.split.Tensor: _split,
    aten.split_with_sizes.default: _split,
    aten.pixel_shuffle.default: lambda t, x, size: t.emit("DepthToSpace", x, blocksize=size, mode="CRD"),
    aten.pixel_unshuffle.default: lambda t, x, size: t.emit("PixelUnshuffle", x, domain=LAYERS, blocksize=size),
    aten.upsample_nearest2d.vec: _upsample,
    aten.upsample_nearest2d.default: _upsample,
    aten.to.dtype: _same,
    aten.to.device: _same,
    aten._assert_tensor_metadata.default: lambda t, *_, **__: None,
    ours.sphere_conv2d.default: _layer("SphereConv2d", "wrap"),
    ours.haar.default: lambda t, x: t.emit("Haar", x, domain=LAYERS, inverse=0),
    ours.haar_inverse.default: lambda t, x: t.emit("Haar", x, domain=LAYERS, inverse=1),
    ours.channel_norm.default: lambda t, *inputs: t.emit("ChannelNorm", *inputs, domain=LAYERS, epsilon=1e-5),
    ours.window_mean.default: _layer("WindowMean", "window", "shift", "wrap"),
    ours.pad_to_multiple.default: _layer("PadToMultiple", "multiple", "margin"),
    ours.crop.default: _crop,
    ours.spread.default: _spread,
    ours.zeros.default: _zeros,
    ours.distortion_map.default: _distortion_map,
    ours.deform_conv2d.default: _deform_conv2d,
    ours.dst_attention.default: _dst_attention,
}


def translate(
    program: ExportedProgram, opset: int, inputs: Sequence[str], outputs: Sequence[str], lr_size: tuple[int, int]
) -> ir.Model:
    """The traced program as an ONNX graph, its inputs and outputs under these names.

    lr_size: rows and columns of the LR image in the trace. Raises NotImplementedError for an operator that the table
    does not have.
    """
    return Translation(program, opset, lr_size).run(inputs, outputs)
