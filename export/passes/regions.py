"""One extension around the circle for a run of convolutions, in place of one for each.

A convolution on the sphere needs columns of the other end of the circle on both sides of its input. A function of
several convolutions needs them once: its input is extended by as many columns as the whole function sees, its
convolutions then run with zeros beyond the columns, which spoil one column more on either side each, and its result is
cropped to what is right. That is exact, and the copies between the convolutions are gone.

Regions are found in the graph: what computes each pixel from those around it belongs to the region of what it reads.
The path of the invertible blocks, attention and whatever changes the size lie between regions.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from dinn360.tracing import ROLE
from export.fusion.pieces import attribute, constant, initializer
from export.operators import DEFORM_CONV_2D, DOMAIN, LAYERS

WIDEST = 16  # columns on either side: beyond, what is computed twice costs more than a copy
_POINTWISE = frozenset("Add Cast Clip Gelu LeakyRelu Mul Relu Sub".split())
_PATH = frozenset(("low path", "high path", "log scale"))  # where the functions of a block come together


@dataclass
class Region:
    """Nodes that work on columns extended by `radius` on both sides. depth: how far each value sees into the inputs."""

    nodes: list[ir.Node] = field(default_factory=list)
    depth: dict[ir.Value, int] = field(default_factory=dict)

    @property
    def radius(self) -> int:
        return max(self.depth.values())

    @property
    def entries(self) -> list[ir.Value]:
        """What comes in from outside."""
        return list(dict.fromkeys(v for node in self.nodes for v in _images(node) if v not in self.depth))

    def exits(self) -> list[ir.Value]:
        """What is read outside."""
        inside = set(self.nodes)
        return [v for v in self.depth if v.is_graph_output() or any(use.node not in inside for use in v.uses())]


def share_wraps(graph: ir.Graph, wrapping_deformation: bool) -> None:
    """Rewrites every region in which that spares a copy: crops are not counted, because builders make none of them.

    By TensorRT-RTX's plan (`export estimate --plan`, x4 in fp16, 3840x1920, plugins left out): plugin graphs from 13.96
    to 12.20 GB (down) and 23.06 to 18.88 (up). Were a crop counted as a wrap, 13.96 and 20.95; primitive operators 18.7
    and 25.9 in place of 18.1 and 24.9. The estimate counts each crop as a copy, which hides that.

    wrapping_deformation: whether a DeformConv2d costs a copy, too; else it reads around the circle by itself.
    """
    for region in _regions(graph):
        _give_up_tail(region)
        wraps = {
            _images(node)[0]
            for node in region.nodes
            if _radius(node) and (wrapping_deformation or node.op_type != DEFORM_CONV_2D.name)
        }
        if len(wraps) > len(region.entries):
            _rewrite(graph, region)


def _images(node: ir.Node) -> list[ir.Value]:
    """The inputs that have columns: all but weights, numbers and what is the same in every column."""
    return [v for v in node.inputs if v is not None and constant(v) is None and not _is_column(v)]


def _radius(node: ir.Node) -> int | None:
    """How far a node sees along a row; None: it cannot be in a region."""
    if (node.domain, node.op_type) == (LAYERS, "SphereConv2d"):
        weight = constant(node.inputs[1])
        if weight is None or weight.shape[2] == 1:
            return None if weight is None else 0
        return weight.shape[2] // 2 if attribute(node, "wrap", 0) else None
    if (node.domain, node.op_type) == (DOMAIN, DEFORM_CONV_2D.name):
        strides, dilations = attribute(node, "strides"), attribute(node, "dilations")
        plain = list(strides) == [1, 1] and list(dilations) == [1, 1] and attribute(node, "wrap", 0)
        return attribute(node, "pads")[1] + math.ceil(attribute(node, "max_offset")) if plain else None
    if node.domain == LAYERS and node.op_type != "Gelu":
        return None
    whole = node.op_type == "Split" and attribute(node, "axis", 0) == 1
    of_path = node.metadata_props.get(ROLE) in _PATH
    return 0 if (whole or node.op_type in _POINTWISE) and not of_path else None


def _is_image(value: ir.Value) -> bool:
    """Whether it is (B,C,H,W)."""
    return value.shape is not None and len(value.shape) == 4


def _is_column(value: ir.Value) -> bool:
    """Whether it is (B,C,H,1)."""
    return value.shape is not None and len(value.shape) == 4 and value.shape[3] == 1


def _regions(graph: ir.Graph) -> list[Region]:
    """The regions in the order of the graph, none of them wider than WIDEST."""
    of: dict[ir.Value, Region] = {}
    found: list[Region] = []
    for node in graph:
        radius, images = _radius(node), _images(node)
        if radius is None or not images or not all(map(_is_image, images)):
            continue
        given = list({id(of[v]): of[v] for v in images if v in of}.values())
        convolves = radius > 0 or node.op_type == "SphereConv2d"
        depth = max((of[v].depth[v] for v in images if v in of), default=0) + radius
        if depth > WIDEST or not given:
            if not convolves:
                continue
            given, depth = [], radius
        elif not all(v in of for v in images):
            continue  # a sum with what is not extended
        region = given[0] if given else Region()
        if not given:
            found.append(region)
        for other in given[1:]:
            region.nodes += other.nodes
            region.depth |= other.depth
            found.remove(other)
            of.update(dict.fromkeys(other.depth, region))
        region.nodes.append(node)
        for value in node.outputs:
            region.depth[value], of[value] = depth, region
    return found


def _give_up_tail(region: Region) -> None:
    """Crops as early as it can: what comes behind the last convolutions and reads one value leaves the region."""
    inside = set(region.nodes)
    for node in reversed(_sorted(region.nodes)):
        read_inside = any(use.node in inside for value in node.outputs for use in value.uses())
        if _radius(node) == 0 and len(_images(node)) == 1 and not read_inside and _images(node)[0] in region.depth:
            inside.remove(node)
            for value in node.outputs:
                del region.depth[value]
    region.nodes = [node for node in region.nodes if node in inside]


def _sorted(nodes: Iterable[ir.Node]) -> list[ir.Node]:
    """In the order of the graph."""
    wanted = set(nodes)
    graph = next(iter(wanted)).graph
    assert graph is not None
    return [node for node in graph if node in wanted]


def _rewrite(graph: ir.Graph, region: Region) -> None:
    """Extends the entries, takes the wraps away, crops the exits."""
    radius, exits, inside = region.radius, region.exits(), set(region.nodes)
    for value in region.entries:
        first = next(node for node in _sorted(use.node for use in value.uses()) if node in inside)
        wide = _extended(graph, value, radius, first)
        for use in list(value.uses()):
            if use.node in inside:
                use.node.replace_input_with(use.idx, wide)
    for value in exits:
        ends = [initializer(graph, f"{value.name}_crop_{i}", np.array([v])) for i, v in enumerate((radius, -radius, 3))]
        crop = ir.node("Slice", [value, *ends], name=f"{value.name}_cropped")
        result = crop.outputs[0]
        result.name = f"{value.name}_cropped"
        result.type, result.shape = value.type, value.shape
        maker = value.producer()
        assert maker is not None
        graph.insert_after(maker, crop)
        for use in list(value.uses()):
            if use.node is not crop and use.node not in inside:
                use.node.replace_input_with(use.idx, result)
        for index, output in enumerate(graph.outputs):
            if output is value:
                graph.outputs[index] = result
                result.name, value.name = value.name, f"{value.name}_wide"
    for node in region.nodes:
        if "wrap" in node.attributes:
            node.attributes["wrap"] = ir.AttrInt64("wrap", 0)
        for value in node.outputs:
            value.shape = _wider(value, radius)


def _extended(graph: ir.Graph, like: ir.Value, margin: int, node: ir.Node) -> ir.Value:
    """A value with `margin` columns of the other end of the circle on both sides, made in front of `node`."""
    name = f"{node.outputs[0].name}_wide"
    attributes = {"margin": margin, "least": least_width(like)}
    made = ir.node("WrapColumns", [like], attributes, domain=LAYERS, name=name)
    result = made.outputs[0]
    result.name, result.type = name, like.type
    result.shape = _wider(like, margin)
    graph.insert_before(node, made)
    return result


def _wider(value: ir.Value, margin: int) -> ir.Shape | None:
    """The shape of `value` with `margin` columns more on both sides."""
    if value.shape is None:
        return None
    width = value.shape[3]
    name = width.value if isinstance(width, ir.SymbolicDim) else None
    return ir.Shape([*list(value.shape)[:3], f"{name} + {2 * margin}" if name else None])


def least_width(value: ir.Value) -> int:
    """Columns that a value has at least, whatever the image: what the graph is padded to, less what Haar steps take.

    Slices are those of channels and the crops of other regions, which stand behind extensions by as much.
    """
    numerator = denominator = 1
    while (node := value.producer()) is not None:
        if (node.domain, node.op_type) == (LAYERS, "PadToMultiple"):
            return max(1, attribute(node, "multiple") * numerator // denominator)
        if node.op_type == "Haar":
            inverse = attribute(node, "inverse")
            numerator, denominator = (2 * numerator, denominator) if inverse else (numerator, 2 * denominator)
        elif node.op_type in ("DepthToSpace", "Resize", "PixelUnshuffle", "WindowMean", "Crop"):
            return 1
        images = _images(node)
        if not images:
            return 1
        value = images[0]
    return 1
