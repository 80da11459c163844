"""The operator library of ONNX Runtime for tests (skipped where it cannot be built), and one node in a graph."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from export.fusion import operators as fusion_operators
from export.operators import DOMAIN, PLUGIN, register_schemas
from plugins.libraries import MissingLibraryError
from plugins.onnxruntime import library

Array = NDArray[Any]


def _why_not() -> str | None:
    try:
        library.find()  # conftest.py has built it
    except MissingLibraryError as error:
        return str(error)
    return None


WHY_NOT = _why_not()
needs_library = pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT))


def node_session(
    operator: str,
    inputs: Mapping[str, Array | None],
    attributes: dict[str, Any],
    threads: int = 2,
    domain: str = DOMAIN,
    outputs: int = 1,
    constants: Collection[str] = (),
) -> onnxruntime.InferenceSession:
    """A session over one node of the library. Every dimension is free; the node leaves out an input that is None.

    constants: the inputs that the graph holds itself.
    """
    register_schemas()
    fusion_operators.register_schemas()
    given = {name: array for name, array in inputs.items() if array is not None}
    names = [name if name in given else "" for name in inputs]
    results = [f"y{i}" for i in range(outputs)]
    plugin = PLUGIN if domain == DOMAIN else {}
    node = helper.make_node(operator, names, results, operator, domain=domain, **attributes, **plugin)
    elements = {name: helper.np_dtype_to_tensor_dtype(array.dtype) for name, array in given.items()}
    values = [
        helper.make_tensor_value_info(n, elements[n], [None] * a.ndim) for n, a in given.items() if n not in constants
    ]
    held = [numpy_helper.from_array(given[name], name) for name in constants]
    element = next(iter(elements.values()))
    ends = [helper.make_tensor_value_info(name, element, [None] * 4) for name in results]
    graph = helper.make_graph([node], operator, values, ends, held)
    imports = [helper.make_opsetid("", 19), helper.make_opsetid(domain, 1)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=10)
    onnx.checker.check_model(model)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 4
    options.register_custom_ops_library(str(library.find()))
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def run_node(
    operator: str,
    inputs: Mapping[str, Array | None],
    attributes: dict[str, Any],
    threads: int = 2,
    domain: str = DOMAIN,
) -> Array:
    """The node's output."""
    session = node_session(operator, inputs, attributes, threads, domain)
    return session.run(None, {name: array for name, array in inputs.items() if array is not None})[0]
