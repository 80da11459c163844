"""Convolutions with what stands around them: SphereConv2d."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from export.fusion.operators import DOMAIN, MOST_OUTPUTS, MOST_SOURCES, SPHERE_CONV_2D
from export.fusion.pieces import (
    Array,
    Channels,
    attribute,
    channel_count,
    constant,
    few_pieces,
    initializer,
    number,
    only_user,
    other_input,
    pieces,
    producer,
    replace,
)
from export.operators import LAYERS


@dataclass
class Convolution:
    """One convolution and what it has taken in so far. `last` is the node that it stands for, `outputs` its results."""

    sources: list[Channels]
    weight: Array
    bias: Array
    wrap: bool
    last: ir.Node
    outputs: list[ir.Value]
    addend: ir.Value | None = None
    input_slope: float = 1.0
    activation: str = "none"
    slope: float = 0.0
    limit: float = 0.0
    residual: Channels | None = None
    coupling: str = "none"
    bound: float = 0.0
    taken: list[ir.Node] = field(default_factory=list)

    @property
    def plain(self) -> bool:
        """Whether its result is still linear in its weight."""
        return self.activation == "none" and self.residual is None

    def take(self, node: ir.Node, *outputs: ir.Value) -> None:
        self.last, self.outputs = node, list(outputs)


def fuse_convolutions(graph: ir.Graph) -> None:
    """Every SphereConv2d, and every plain 1x1 convolution."""
    kinds = {("", "Conv"), (LAYERS, "SphereConv2d")}
    for node in [node for node in graph if (node.domain, node.op_type) in kinds]:
        convolution = _of(node)
        if convolution is None:
            continue
        while _take_user(convolution):
            pass
        _emit(graph, convolution)


def _of(node: ir.Node) -> Convolution | None:
    """A convolution, with its input's leaky_relu or relu, sum and concatenation."""
    weight, x = constant(node.inputs[1]), node.inputs[0]
    if weight is None or x is None or weight.shape[2:] not in ((1, 1), (3, 3)):
        return None
    if node.op_type == "Conv" and not _is_pointwise(node, weight):
        return None
    bias = constant(node.inputs[2]) if len(node.inputs) > 2 else np.zeros(weight.shape[0], weight.dtype)
    if bias is None:
        return None
    convolution = Convolution([], weight, bias, bool(attribute(node, "wrap", 0)), node, [node.outputs[0]])
    relu = producer(x, "LeakyRelu") or producer(x, "Relu")
    if relu is not None and only_user(x) is node and relu.inputs[0] is not None:
        convolution.input_slope, x = attribute(relu, "alpha", 0.0), relu.inputs[0]
        total = producer(x, "Add")
        if total is not None and only_user(x) is relu:
            a, b = total.inputs
            if a is not None and b is not None and _same_size(a, b) and channel_count(x) is not None:
                x, convolution.addend = a, b
    found = pieces(x)
    plain = convolution.addend is None and len(found) <= MOST_SOURCES
    count = channel_count(x)
    convolution.sources = found if plain else [Channels(x, 0, count or 0)]
    return convolution if sum(c.count for c in convolution.sources) == weight.shape[1] else None


def _is_pointwise(node: ir.Node, weight: Array) -> bool:
    plain = {"strides": [1, 1], "dilations": [1, 1], "pads": [0] * 4, "group": 1}
    found = {name: attribute(node, name, value) for name, value in plain.items()}
    found = {name: value if isinstance(value, int) else list(value) for name, value in found.items()}
    return weight.shape[2:] == (1, 1) and found == plain


def _take_user(c: Convolution) -> bool:
    """Takes in what comes next, if it can. False when there is nothing more to take."""
    if len(c.outputs) != 1 or c.coupling != "none":
        return False
    y = c.outputs[0]
    user = only_user(y)
    if user is None or user.domain not in ("", LAYERS):
        return False
    if c.residual is not None:
        return _take_rectifier_of_sum(c, user)
    takers = {
        "LeakyRelu": _take_activation,
        "Relu": _take_activation,
        "Clip": _take_activation,
        "Gelu": _take_activation,
        "Mul": _take_scale,
        "Add": _take_sum,
        "Sub": _take_sum,
        "Split": _take_split,
    }
    taker = takers.get(user.op_type)
    return taker is not None and taker(c, y, user)


def _take_activation(c: Convolution, y: ir.Value, user: ir.Node) -> bool:
    if not c.plain:
        return False
    if user.op_type == "Clip":
        low, high = (number(value) for value in (*user.inputs[1:], None, None)[:2])
        if low is None or high is None or low != -high:
            return False
        c.activation, c.limit = "clip", high
    elif user.op_type == "Relu":
        c.activation = "relu"
    elif user.op_type == "Gelu":
        if attribute(user, "approximate") != "none":
            return False
        c.activation = "gelu"
    else:
        c.activation, c.slope = "leaky_relu", attribute(user, "alpha")
    c.take(user, user.outputs[0])
    return True


def _take_rectifier_of_sum(c: Convolution, user: ir.Node) -> bool:
    """Of the sum with the residual: here it costs nothing, in front of the next convolution it is a pass of its own."""
    if c.activation != "none" or (user.domain, user.op_type) not in (("", "LeakyRelu"), ("", "Relu")):
        return False
    c.activation, c.slope = "leaky_relu_of_sum", attribute(user, "alpha", 0.0)
    c.take(user, user.outputs[0])
    return True


def _per_channel(value: ir.Value | None, channels: int) -> Array | None:
    """A constant that multiplies or moves whole channels, as (channels,)."""
    array = constant(value)
    if array is None or array.size not in (1, channels) or (array.size > 1 and array.shape != (1, channels, 1, 1)):
        return None
    return np.broadcast_to(array.reshape(-1), channels)


def _take_scale(c: Convolution, y: ir.Value, user: ir.Node) -> bool:
    factor = _per_channel(other_input(user, y), len(c.bias))
    if factor is None or not c.plain:
        return False
    c.weight, c.bias = c.weight * factor[:, None, None, None], c.bias * factor
    c.take(user, user.outputs[0])
    return True


def _take_sum(c: Convolution, y: ir.Value, user: ir.Node) -> bool:
    """A constant, or a residual: y + r, r + y, r - y."""
    other = other_input(user, y)
    minus, second = user.op_type == "Sub", user.inputs[1] is y
    if other is None:
        return False
    move = _per_channel(other, len(c.bias))
    if move is not None and c.plain and not (minus and second):
        c.bias = c.bias - move if minus else c.bias + move
        c.take(user, user.outputs[0])
        return True
    if constant(other) is not None or not _same_size(other, y) or (minus and not (second and c.plain)):
        return False
    if minus:
        c.weight, c.bias = -c.weight, -c.bias
    c.residual = _single(other)
    c.take(user, user.outputs[0])
    return True


def _same_size(a: ir.Value, b: ir.Value) -> bool:
    """Whether nothing has to be repeated to add them, as a latitude is for all columns."""
    return a.shape is not None and b.shape is not None and list(a.shape) == list(b.shape)


def _single(value: ir.Value) -> Channels:
    """The channels of `value` as those of one tensor."""
    return few_pieces(value, 1)[0]


def _take_split(c: Convolution, y: ir.Value, user: ir.Node) -> bool:
    """Halves that are coupled; parts that nobody reads; or equal parts as outputs of their own."""
    sizes = {channel_count(output) for output in user.outputs}
    if not c.plain or attribute(user, "axis", 0) != 1 or len(sizes) != 1 or None in sizes:
        return False
    parts = list(user.outputs)
    if len(parts) == 2 and (_take_affine(c, *parts) or _take_projection(c, *parts)):
        return True
    used = [part.is_graph_output() or bool(part.uses()) for part in parts]
    if len(parts) > MOST_OUTPUTS or not used[0]:
        return False
    if not any(used[1:]):
        count = len(c.bias) // len(parts)
        c.weight, c.bias, parts = c.weight[:count], c.bias[:count], parts[:1]
    c.take(user, *parts)
    return True


def _chain(value: ir.Value, *operators: str) -> tuple[ir.Value, list[float]] | None:
    """Follows the only users of `value` through `operators`; the result, and the constants met on the way.

    "Mul?" is a product that may be missing.
    """
    numbers: list[float] = []
    for operator in operators:
        user = only_user(value)
        optional = operator.endswith("?")
        if user is None or user.op_type != operator.rstrip("?"):
            if optional:
                continue
            return None
        if len(user.inputs) == 2:
            met = number(other_input(user, value))
            if met is None:
                return None
            numbers.append(met)
        value = user.outputs[0]
    return value, numbers


def _couple(c: Convolution, kind: str, bound: float, high: ir.Value | None, last: ir.Node) -> bool:
    if high is None or channel_count(high) != len(c.bias) // 2:
        return False
    c.coupling, c.bound, c.residual = kind, bound, _single(high)
    c.take(last, last.outputs[0])
    return True


def _take_affine(c: Convolution, rho: ir.Value, eta: ir.Value) -> bool:
    """high * exp(s) + eta, or (high - eta) * exp(-s), with s = bound * (2 sigmoid(rho) - 1)."""
    log_scale = _chain(rho, "Sigmoid", "Mul", "Sub", "Mul?")
    if log_scale is None or log_scale[1][:2] != [2.0, 1.0]:
        return False
    bound = log_scale[1][2] if len(log_scale[1]) > 2 else 1.0
    if (scale := _chain(log_scale[0], "Exp")) is not None:
        product = only_user(scale[0])
        total = None if product is None or product.op_type != "Mul" else only_user(product.outputs[0])
        if product is None or total is None or total.op_type != "Add" or only_user(eta) is not total:
            return False
        return _couple(c, "affine", bound, other_input(product, scale[0]), total)
    if (scale := _chain(log_scale[0], "Neg", "Exp")) is not None:
        product = only_user(scale[0])
        if product is None or product.op_type != "Mul":
            return False
        apart = producer(other_input(product, scale[0]), "Sub")
        if apart is None or apart.inputs[1] is not eta or only_user(eta) is not apart:
            return False
        return only_user(apart.outputs[0]) is product and _couple(c, "affine_inverse", bound, apart.inputs[0], product)
    return False


def _take_projection(c: Convolution, shift: ir.Value, scale: ir.Value) -> bool:
    """moved * exp(-bound * atan(2 scale)) - shift."""
    factor = _chain(scale, "Mul", "Atan", "Mul", "Neg", "Exp")
    if factor is None or factor[1][0] != 2.0:
        return False
    product = only_user(factor[0])
    total = None if product is None or product.op_type != "Mul" else only_user(product.outputs[0])
    if product is None or total is None or total.op_type != "Sub" or total.inputs[1] is not shift:
        return False
    if only_user(shift) is not total:
        return False
    return _couple(c, "projection_inverse", factor[1][1], other_input(product, factor[0]), total)


def _emit(graph: ir.Graph, c: Convolution) -> None:
    name = c.outputs[0].name
    first, *others = c.sources
    inputs = [
        first.value,
        initializer(graph, f"{name}_weight", c.weight),
        initializer(graph, f"{name}_bias", c.bias),
        None if c.residual is None else c.residual.value,
        c.addend,
        *(source.value for source in others),
    ]
    while inputs[-1] is None:
        inputs.pop()
    node = ir.node(
        SPHERE_CONV_2D.name,
        inputs,
        {
            "first_channels": [source.first for source in c.sources],
            "channel_counts": [source.count for source in c.sources],
            "wrap": int(c.wrap),
            "input_slope": float(c.input_slope),
            "activation": c.activation,
            "slope": float(c.slope),
            "limit": float(c.limit),
            "residual_first": 0 if c.residual is None else c.residual.first,
            "coupling": c.coupling,
            "bound": float(c.bound),
        },
        domain=DOMAIN,
        num_outputs=len(c.outputs),
        name=f"{name}_conv",
    )
    replace(graph, c.last, node, c.outputs)
