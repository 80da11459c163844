"""Layer normalisation without a change of layout, and the Haar transform as one node."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from export.fusion.operators import CHANNEL_NORM, DOMAIN, HAAR, MOST_SOURCES
from export.fusion.pieces import Array, Channels, attribute, number, only_user, pieces, producer, replace, slice_of

Form = tuple[ir.Value, Array]  # a value, and the factors of its four leaves in a sum

# Rows LL, LH, HL, HH; columns the pixels a b / c d of a block (dinn360.networks.invertible.Haar).
BANDS = np.array([[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]])


def fuse_channel_norms(graph: ir.Graph) -> None:
    """Transpose, LayerNormalization over the last axis, Transpose back."""
    for node in [node for node in graph if (node.domain, node.op_type) == ("", "LayerNormalization")]:
        turned, back = producer(node.inputs[0], "Transpose"), only_user(node.outputs[0])
        if turned is None or back is None or back.op_type != "Transpose" or len(node.inputs) != 3:
            continue
        orders = [list(attribute(turned, "perm")), list(attribute(back, "perm"))]
        if orders != [[0, 2, 3, 1], [0, 3, 1, 2]] or attribute(node, "axis", -1) not in (-1, 3):
            continue
        inputs = [turned.inputs[0], *node.inputs[1:]]
        epsilon = {"epsilon": float(attribute(node, "epsilon", 1e-5))}
        norm = ir.node(CHANNEL_NORM.name, inputs, epsilon, domain=DOMAIN, name=f"{back.outputs[0].name}_norm")
        replace(graph, back, norm, back.outputs)


def fuse_haar(graph: ir.Graph) -> None:
    """Both directions, recognised by their matrix: what each output is of the four inputs."""
    for node in list(graph):
        if (node.domain, node.op_type) == ("", "Mul"):
            _fuse_forward(graph, node)
        elif (node.domain, node.op_type) == ("", "DepthToSpace"):
            _fuse_inverse(graph, node)


def _fuse_forward(graph: ir.Graph, node: ir.Node) -> None:
    """Mul(Concat(bands), 0.25), where the bands are sums of x[..., r::2, c::2]."""
    joined = producer(node.inputs[0], "Concat")
    if joined is None or number(node.inputs[1]) != 0.25 or attribute(joined, "axis") != 1 or len(joined.inputs) != 4:
        return
    source = _haar_of([_form(value, _quarter) for value in joined.inputs])
    if source is not None:
        _emit(graph, node, source, inverse=False)


def _fuse_inverse(graph: ir.Graph, node: ir.Node) -> None:
    """DepthToSpace of the stacked sums of the four parts of a split."""
    shaped = producer(node.inputs[0], "Reshape")
    stacked = None if shaped is None else producer(shaped.inputs[0], "Concat")
    if stacked is None or attribute(stacked, "axis") != 2 or len(stacked.inputs) != 4:
        return
    if attribute(node, "blocksize") != 2 or attribute(node, "mode") != "CRD":
        return
    unsqueezed = [producer(value, "Unsqueeze") for value in stacked.inputs]
    source = _haar_of([None if u is None else _form(u.inputs[0], _part) for u in unsqueezed])
    if source is not None:
        _emit(graph, node, source, inverse=True)


def _haar_of(forms: list[Form | None]) -> ir.Value | None:
    """The value of which the four forms are the rows of the transform (its matrix is symmetric), or None."""
    known = [form for form in forms if form is not None]
    if len(known) != 4 or any(source is not known[0][0] for source, _ in known):
        return None
    return known[0][0] if np.array_equal(np.stack([row for _, row in known]), BANDS) else None


def _form(value: ir.Value | None, leaf: Callable[[ir.Value], tuple[ir.Value, int] | None]) -> Form | None:
    """`value` as a sum of the four leaves of one value: that value, and a factor for each leaf."""
    if value is None:
        return None
    node = value.producer()
    if node is not None and node.domain == "" and node.op_type in ("Add", "Sub"):
        left, right = (_form(part, leaf) for part in node.inputs)
        if left is None or right is None or left[0] is not right[0]:
            return None
        return left[0], left[1] + right[1] if node.op_type == "Add" else left[1] - right[1]
    found = leaf(value)
    return None if found is None else (found[0], np.eye(4, dtype=int)[found[1]])


def _quarter(value: ir.Value) -> tuple[ir.Value, int] | None:
    """x and 2*r + c, if the value is x[..., r::2, c::2]."""
    columns = producer(value, "Slice")
    rows = None if columns is None else producer(columns.inputs[0], "Slice")
    places = slice_of(rows, 2), slice_of(columns, 3)
    if rows is None or rows.inputs[0] is None or any(p is None or p[0] not in (0, 1) or p[2] != 2 for p in places):
        return None
    (row, *_), (column, *_) = (place for place in places if place is not None)
    return rows.inputs[0], 2 * row + column


def _part(value: ir.Value) -> tuple[ir.Value, int] | None:
    """x and the number of the part, if the value is one of four equal parts of x's channels."""
    split = producer(value, "Split")
    if split is None or len(split.outputs) != 4 or attribute(split, "axis", 0) != 1 or split.inputs[0] is None:
        return None
    return split.inputs[0], list(split.outputs).index(value)


def _emit(graph: ir.Graph, node: ir.Node, x: ir.Value, inverse: bool) -> None:
    sources: list[Channels] = pieces(x)
    if len(sources) > MOST_SOURCES:
        sources = [Channels(x, 0, sum(source.count for source in sources))]
    haar = ir.node(
        HAAR.name,
        [source.value for source in sources],
        {
            "first_channels": [source.first for source in sources],
            "channel_counts": [source.count for source in sources],
            "inverse": int(inverse),
        },
        domain=DOMAIN,
        name=f"{node.outputs[0].name}_haar",
    )
    replace(graph, node, haar, node.outputs)
