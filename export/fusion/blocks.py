"""The image taken apart into blocks of pixels, with its extension, and put together: SphereSqueeze, SphereUnsqueeze.

In a trace these are strided convolutions whose weights are Walsh functions (Haar steps of all bands are that), behind
the extension around the circle; and a transposed one, before a crop and a clip.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from export.fusion.operators import DOMAIN, MOST_OUTPUTS, MOST_SOURCES, SPHERE_SQUEEZE, SPHERE_UNSQUEEZE
from export.fusion.pieces import (
    Array,
    attribute,
    channel_count,
    constant,
    few_pieces,
    number,
    only_user,
    replace,
)
from export.operators import LAYERS

FACTORS = (2, 4, 8)


def fuse_squeezes(graph: ir.Graph) -> None:
    """Every extension to whole blocks, with the convolutions that take these apart where nothing else reads it."""
    for node in [node for node in graph if (node.domain, node.op_type) == (LAYERS, "PadToMultiple")]:
        x, padded = node.inputs[0], node.outputs[0]
        assert x is not None
        multiple, margin = (int(attribute(node, name)) for name in ("multiple", "margin"))
        users = list(dict.fromkeys(use.node for use in padded.uses()))
        found = None if padded.is_graph_output() else _blocks(users)
        if found is not None and multiple % found[0] == 0 and margin % found[0] == 0:
            factor, orders = found
            outputs = [user.outputs[0] for user in users]
        else:
            channels = channel_count(padded)
            assert channels is not None
            factor, orders, outputs = 1, [list(range(channels))], [padded]
        attributes: dict[str, Any] = {
            "factor": factor,
            "multiple": multiple,
            "margin": margin,
            "order": [function for order in orders for function in order],
            "channel_counts": [len(order) for order in orders],
        }
        name = f"{padded.name}_squeeze"
        squeeze = ir.node(SPHERE_SQUEEZE.name, [x], attributes, domain=DOMAIN, num_outputs=len(outputs), name=name)
        replace(graph, node, squeeze, outputs)


def fuse_unsqueezes(graph: ir.Graph) -> None:
    """Every transposed convolution that puts blocks together, with the concatenation, the crop and the clip around."""
    for node in [node for node in graph if (node.domain, node.op_type) == ("", "ConvTranspose")]:
        x, weight, factor = node.inputs[0], constant(node.inputs[1]), _stride(node)
        if x is None or weight is None or factor is None or len(node.inputs) > 2:
            continue
        order = _order(weight / factor**2, factor)
        top, left, bottom, right = attribute(node, "pads")
        if not _complete([order], weight.shape[1], factor) or top or bottom or left != right or left % factor:
            continue
        last, shape, factors = node, None, (1, 1)
        user = only_user(last.outputs[0])
        if user is not None and (user.domain, user.op_type) == (LAYERS, "Crop") and not attribute(user, "left"):
            last, shape = user, user.inputs[1]
            factors = (int(attribute(user, "factor")), int(attribute(user, "divisor")))
            user = only_user(last.outputs[0])
        clamp = user is not None and user.op_type == "Clip" and [number(v) for v in user.inputs[1:]] == [0, 1]
        if clamp and user is not None:
            last = user
        sources = few_pieces(x, MOST_SOURCES)
        attributes: dict[str, Any] = {
            "first_channels": [source.first for source in sources],
            "channel_counts": [source.count for source in sources],
            "factor": factor,
            "margin": left // factor,
            "order": order,
            "size_factor": factors[0],
            "size_divisor": factors[1],
            "clamp": int(clamp),
        }
        first, *others = (source.value for source in sources)
        inputs = [first, shape, *others] if shape is not None or others else [first]
        name = f"{last.outputs[0].name}_unsqueeze"
        replace(graph, last, ir.node(SPHERE_UNSQUEEZE.name, inputs, attributes, domain=DOMAIN, name=name), last.outputs)


def _blocks(users: Sequence[ir.Node]) -> tuple[int, list[list[int]]] | None:
    """Factor and orders of convolutions that together keep everything of their input's blocks, each function once."""
    factors = {_stride(user) for user in users}
    if len(factors) != 1 or not 1 <= len(users) <= MOST_OUTPUTS:
        return None
    (factor,) = factors
    if factor is None or any(user.op_type != "Conv" or len(user.inputs) > 2 for user in users):
        return None
    weights = [constant(user.inputs[1]) for user in users]
    if any(weight is None or any(attribute(user, "pads")) for weight, user in zip(weights, users, strict=True)):
        return None
    orders = [_order(weight, factor) for weight in weights if weight is not None]
    channels = 0 if weights[0] is None else weights[0].shape[1]
    return (factor, [order or [] for order in orders]) if _complete(orders, channels, factor) else None


def _stride(node: ir.Node) -> int | None:
    """f of a convolution of f x f pixels with stride f, or a transposed one."""
    if node.domain != "" or node.op_type not in ("Conv", "ConvTranspose"):
        return None
    weight = constant(node.inputs[1])
    plain = {"strides", "pads", "dilations", "group"}
    if weight is None or weight.ndim != 4 or not {"strides", "pads"} <= set(node.attributes) <= plain:
        return None
    factor = int(weight.shape[-1])
    dilations, group = list(attribute(node, "dilations", [1, 1])), attribute(node, "group", 1)
    whole = list(weight.shape[2:]) == list(attribute(node, "strides")) == [factor, factor]
    return factor if factor in FACTORS and whole and dilations == [1, 1] and group == 1 else None


def _order(weight: Array, factor: int) -> list[int] | None:
    """The function of each row of a weight (O,C,f,f), if each is the mean with one function of one channel."""
    sides = np.array([[(-1) ** (u & i).bit_count() for i in range(factor)] for u in range(factor)])
    functions = np.einsum("ui,vj->uvij", sides, sides).reshape(factor**2, factor, factor)
    shares = np.einsum("ocij,fij->ocf", weight.astype(np.float64), functions).reshape(len(weight), -1)
    alone = (np.count_nonzero(shares, axis=1) == 1) & (shares.max(axis=1) == 1)
    return [int(place) for place in shares.argmax(axis=1)] if alone.all() else None


def _complete(orders: Sequence[list[int] | None], channels: int, factor: int) -> bool:
    """Whether every function of every channel occurs once."""
    return sorted(place for order in orders for place in order or [-1]) == list(range(channels * factor**2))
