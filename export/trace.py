"""The trace: one direction of a network as a graph of layers, whose sizes are free.

torch.export runs with fixed sizes: reasoning about symbolic ones takes most of a minute. That is sound because nothing
in the graph may depend on a size: operators that do, such as windows and latitudes, are single nodes that `lowering`
expands from Shape. It is proved, not hoped: a second trace, of another batch and other sizes, must give the same graph.
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator, Mapping

import numpy as np
import onnx_ir as ir
import torch
import torch.fx.config
import torch.fx.traceback
from onnx import ModelProto, numpy_helper

from dinn360.networks import RescalingNetwork
from engines.support.arrays import Array
from export.graphs import GRAPHS
from export.passes.seams import cancel_seams
from export.translate import translate

OMITTED = "omitted"
_LR_SIZES = ((2, 24, 40), (3, 16, 56))  # batch, rows, columns of the two traces


def trace(network: RescalingNetwork, direction: str, opset: int) -> ModelProto:
    """One direction ("down" or "up") as a graph that keeps the package's operators as nodes (`export.translate`).

    Batch, H and W are free. "up" has the further input `omitted` (see Upscale), whose default stands among the
    initializers; so has "down" where the encoder reads the latitude. `coarseness` is one, too, where the decoder reads
    it, or the encoder, which then has `halved` as well. `export.lowering` makes a graph of it that a runtime knows.

    Raises NotImplementedError when the network uses an operator that cannot be translated, or when a size is baked in.
    """
    module = GRAPHS[direction](network).eval()
    optional: dict[str, Array] = {}
    if direction == "up" or network.config.encoder_reads_latitude:
        optional[OMITTED] = np.zeros(4, np.int64)
    optional |= {name: np.zeros(1, np.float32) for name in network.config.told_of_file(direction)}
    first, second = (_traced(module, direction, network.config.scale, optional, size, opset) for size in _LR_SIZES)
    if first.graph.node != second.graph.node or first.graph.initializer != second.graph.initializer:
        raise NotImplementedError(f"{direction}: the graph depends on the size of the image that it was traced with")
    inputs = {value.name for value in first.graph.input}
    for name, default in optional.items():
        if name in inputs:
            first.graph.initializer.append(numpy_helper.from_array(default, name))
    _keep_apart(first, second)
    first = _without_seams(first)
    _name_dimensions(first, direction, network.config.scale)
    return first


def _traced(
    module: torch.nn.Module,
    direction: str,
    scale: int,
    optional: Mapping[str, Array],
    size: tuple[int, int, int],
    opset: int,
) -> ModelProto:
    batch, rows, columns = size
    if direction == "down":  # odd parts, so that padding shows
        inputs = {"hr": torch.rand(batch, 3, rows * scale - 1, columns * scale - 1)}
    else:
        inputs = {"lr": torch.rand(batch, 3, rows, columns)}
    inputs |= {name: torch.arange(len(default)).to(torch.from_numpy(default)) for name, default in optional.items()}
    with torch.no_grad(), quiet(), _without_stack_traces(), torch.fx.traceback.preserve_node_meta():
        image, *others = inputs.items()
        program = torch.export.export(module, (image[1],), kwargs=dict(others), strict=False)
    return ir.to_proto(translate(program, opset, list(inputs), [GRAPHS[direction].result], (rows, columns)))


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keeps the notes of tracer and passes off the terminal; errors still raise."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


@contextlib.contextmanager
def _without_stack_traces() -> Iterator[None]:
    """No note on every node of the lines of Python that made it: a third of a trace's time, and nobody reads them."""
    before = torch.fx.config.do_not_emit_stack_traces
    torch.fx.config.do_not_emit_stack_traces = True
    try:
        yield
    finally:
        torch.fx.config.do_not_emit_stack_traces = before


def _keep_apart(model: ModelProto, other: ModelProto) -> None:
    """Renames sizes that are called alike in the trace `model` by chance, as those of `other`, another trace, show.

    A runtime may keep two tensors in one place where their sizes have one name.
    """
    for value, beside in zip(model.graph.value_info, other.graph.value_info, strict=True):
        dims = (info.type.tensor_type.shape.dim for info in (value, beside))
        for dim, seen in zip(*dims, strict=True):
            if dim.dim_param != seen.dim_param:
                dim.dim_param = f"{dim.dim_param} or {seen.dim_param}"


def _without_seams(model: ModelProto) -> ModelProto:
    result = ir.from_proto(model)
    cancel_seams(result.graph)
    return ir.to_proto(result)


def _name_dimensions(model: ModelProto, direction: str, scale: int) -> None:
    """Gives the free dimensions readable names: batch, height, width; the other side's are expressions of them."""
    for dim, name in zip(model.graph.input[0].type.tensor_type.shape.dim, _NAMES, strict=True):
        if name != "channels":
            dim.dim_param = name
    for dim, name in zip(model.graph.output[0].type.tensor_type.shape.dim, _NAMES, strict=True):
        if name != "channels":
            size = f"ceil({name}/{scale})" if direction == "down" else f"{scale}*{name}"
            dim.dim_param = "batch" if name == "batch" else size


_NAMES = ("batch", "channels", "height", "width")
