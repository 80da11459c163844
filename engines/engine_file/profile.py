"""Optimization profiles: the range of shapes that an engine takes, from sizes in HR pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from engines.engine_file.label import direction_in, scale_in
from engines.onnx_file import OnnxFile, OnnxTensor
from engines.support.errors import UserError
from engines.support.reading import from_table
from engines.targets import MINIMUM, Size, Target

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Profile:
    """Shapes of the graph's one input: the smallest and the largest that run, and the one that is tuned for."""

    input: str
    minimum: Shape
    optimum: Shape
    maximum: Shape

    def __str__(self) -> str:
        return f"{self.input} {text(self.minimum)} to {text(self.maximum)}, tuned for {text(self.optimum)}"

    @property
    def fixed(self) -> bool:
        """Whether one shape is all that runs."""
        return self.minimum == self.maximum

    def admits(self, shape: Shape) -> bool:
        """Whether an array of this shape can be given to the engine."""
        ranges = zip(self.minimum, shape, self.maximum, strict=True)
        return len(shape) == len(self.minimum) and all(low <= size <= high for low, size, high in ranges)


@dataclass(frozen=True)
class Sizes:
    """(height, width) in HR pixels of the smallest, the tuned and the largest image, and the largest batch.

    fixed: whether that is one size, and every batch the largest.
    """

    minimum: Size
    optimum: Size
    maximum: Size
    batch: int
    fixed: bool = False


def sizes_for(
    target: Target,
    opt: Size | None = None,
    maximum: Size | None = None,
    batch: int = 1,
    only: Size | None = None,
) -> Sizes:
    """The sizes of a target, with the user's in their place.

    A maximum without a tuned size lowers that to itself; a tuned size without a maximum raises that to itself.
    only: the one size that runs, in place of all others, which lets a builder choose kernels for it alone.

    Raises:
        UserError: the batch is no number of at least 1, or a size is smaller than the smallest or larger than
            the largest.
    """
    if batch < 1:
        raise UserError(f"expected a number of at least 1, found {batch}", "batch")
    if only is not None:
        for about, size in (("opt", opt), ("maximum", maximum)):
            if size is not None:
                raise UserError(f"expected none beside the one size {_size(only)}, found {_size(size)}", about)
        if only[0] < MINIMUM[0] or only[1] < MINIMUM[1]:
            raise UserError(f"expected at least {_size(MINIMUM)} (width x height), found {_size(only)}", "size")
        return Sizes(only, only, only, batch, fixed=True)
    top = maximum or _larger(target.tile, opt or target.opt)
    tuned = opt or _smaller(target.opt, top)
    for about, size, low, high in (("maximum", top, MINIMUM, top), ("opt", tuned, MINIMUM, top)):
        if not all(a <= b <= c for a, b, c in zip(low, size, high, strict=True)):
            raise UserError(f"expected {_size(low)} to {_size(high)} (width x height), found {_size(size)}", about)
    return Sizes(MINIMUM, tuned, top, batch)


def profile_for(graph: OnnxFile, sizes: Sizes) -> Profile:
    """The profile of a graph: `down.onnx` takes HR images, `up.onnx` images `scale` times smaller.

    Raises:
        UserError: the graph is none of ours: several inputs, free dimensions other than batch, height and width,
            or no usable entries `direction` and `scale`.
    """
    if len(graph.inputs) != 1:
        names = ", ".join(tensor.name for tensor in graph.inputs) or "none"
        raise UserError(f"{graph.path}: expected a graph with one input, found {names}")
    (tensor,) = graph.inputs
    factor = factor_of(graph)
    least = sizes.batch if sizes.fixed else 1
    shapes = [
        _shape(graph, tensor, batch, size, factor)
        for batch, size in ((least, sizes.minimum), (least, sizes.optimum), (sizes.batch, sizes.maximum))
    ]
    return Profile(tensor.name, *shapes)


def to_json(profile: Profile) -> dict[str, Any]:
    return {
        "input": profile.input,
        "min": list(profile.minimum),
        "opt": list(profile.optimum),
        "max": list(profile.maximum),
    }


@dataclass(frozen=True)
class _Table:
    """A profile as it stands in a file."""

    input: str
    min: Shape
    opt: Shape
    max: Shape


def from_json(where: str, value: Any) -> Profile:
    """The inverse of `to_json`. Raises UserError, whose message begins with `where`, for anything else."""
    table = from_table(where, _Table, value)
    ranges = list(zip(table.min, table.opt, table.max, strict=False))
    same = len(table.min) == len(table.opt) == len(table.max) == len(ranges) > 0
    if not same or not all(1 <= low <= tuned <= high < 2**31 for low, tuned, high in ranges):
        found = f"{text(table.min)}, {text(table.opt)} and {text(table.max)}"
        raise UserError(f"{where}: expected shapes that grow from min over opt to max, found {found}")
    return Profile(table.input, table.min, table.opt, table.max)


def text(shape: Shape) -> str:
    """As trtexec writes it: 1x3x64x128."""
    return "x".join(map(str, shape))


def factor_of(graph: OnnxFile) -> int:
    """HR pixels for each pixel of the input, along one side.

    Raises:
        UserError: the graph is none of ours.
    """
    where = f"{graph.path}: expected a graph of python -m export onnx"
    return 1 if direction_in(where, graph.metadata) == "down" else scale_in(where, graph.metadata)


def _shape(graph: OnnxFile, tensor: OnnxTensor, batch: int, size: Size, factor: int) -> Shape:
    free = {"batch": batch, "height": -(-size[0] // factor), "width": -(-size[1] // factor)}
    shape = []
    for dimension in tensor.shape:
        if isinstance(dimension, int):
            shape.append(dimension)
        elif dimension in free:
            shape.append(free[dimension])
        else:
            expected = "batch, height and width"
            raise UserError(f"{graph.path}: input {tensor.name}: expected {expected} to be free, found {dimension!r}")
    return tuple(shape)


def _larger(first: Size, second: Size) -> Size:
    return max(first[0], second[0]), max(first[1], second[1])


def _smaller(first: Size, second: Size) -> Size:
    return min(first[0], second[0]), min(first[1], second[1])


def _size(size: Size) -> str:
    return f"{size[1]}x{size[0]}"
