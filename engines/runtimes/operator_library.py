"""The library that computes the dinn360 nodes of `--ops plugin` and `cpu` graphs in ONNX Runtime: where it is found."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from engines.support.errors import UserError
from plugins.libraries import MissingLibraryError
from plugins.onnxruntime import library

VARIABLE = "DINN360_ORT_LIBRARY"


def missing_operator(message: str) -> str | None:
    """The dinn360 operator that ONNX Runtime's `message` says is unknown, or None."""
    operator = re.search(r"\b(dinn360(?:\.cpu)?:\w+)\(-?\d+\)", message)
    return operator[1] if operator else None


def register(options: Any, graph: Path, operator: str, gpu: bool) -> None:
    """Registers the library with ONNX Runtime's session options.

    gpu: the session is for an NVIDIA GPU, so a library that nobody named has to have the CUDA kernels.
    Raises UserError when there is no library, or it cannot be loaded.
    """
    path = find(graph, operator, gpu)
    try:
        options.register_custom_ops_library(str(path))
    except Exception as error:  # ONNX Runtime's errors share no base class of their own
        raise UserError(f"{path}: expected the operator library, found: {str(error).splitlines()[0]}") from error


def find(graph: Path, operator: str, gpu: bool = False) -> Path:
    """The library: the one that DINN360_ORT_LIBRARY names, one beside the graph, the wheel's, or the one that
    `python -m plugins build` made, in this order. Nothing is built. Raises UserError."""
    if named := os.environ.get(VARIABLE):
        if not os.path.isfile(named):
            raise UserError(f"{VARIABLE}: expected {library.NAME}, found no file {named}")
        return Path(named)
    beside = graph.resolve().parent / library.NAME
    if beside.is_file():
        return beside
    try:
        return library.find(cuda=gpu)
    except MissingLibraryError as error:
        raise UserError(
            f"{graph}: its operator {operator} needs the operator library: {error}, {VARIABLE} names another, "
            "and a graph of standard operators does without"
        ) from error
