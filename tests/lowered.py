"""One custom operator in a graph of its own, lowered and run in ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import ModelProto, TensorProto, helper, numpy_helper
from torch import Tensor

from export.config import Lowering
from export.lowering import lower
from export.operators import DOMAIN, PLUGIN


def lowered(operator: str, inputs: dict[str, Tensor], attributes: dict[str, Any], ops: Lowering) -> ModelProto:
    """A graph of one operator. Weight and bias become initialisers, as in an exported graph; the rest are inputs."""
    fixed = {"weight", "bias"}
    node = helper.make_node(operator, list(inputs), ["y"], "node", domain=DOMAIN, **attributes, **PLUGIN)
    free = {name: value for name, value in inputs.items() if name not in fixed}
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, list(v.shape)) for n, v in free.items()]
    graph = helper.make_graph(
        [node],
        operator,
        values,
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * 4)],
        [numpy_helper.from_array(inputs[n].numpy(), n) for n in inputs if n in fixed],
        value_info=values,
    )
    imports = [helper.make_opsetid("", 19), helper.make_opsetid(DOMAIN, 1)]
    model = lower(helper.make_model(graph, opset_imports=imports, ir_version=10), ops)
    onnx.checker.check_model(model, full_check=True)
    return model


def run_lowered(operator: str, inputs: dict[str, Tensor], attributes: dict[str, Any], ops: Lowering) -> np.ndarray:
    """The output of `lowered`."""
    model = lowered(operator, inputs, attributes, ops)
    free = {value.name: inputs[value.name].numpy() for value in model.graph.input}
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, free)[0]
