"""What several tests share: real panoramas and small ONNX graphs."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import settings
from onnx import TensorProto, helper

from engines.support.arrays import Image8
from engines.support.images import read_panorama
from plugins import build
from plugins.cpu.training import library as training
from plugins.onnxruntime import library as onnxruntime

# A busy machine is no bug, so no example has a deadline.
settings.register_profile("dinn360", deadline=None)
settings.load_profile("dinn360")

ASSETS = Path(__file__).parents[1] / "assets"

# In the order of the seconds that they take.
LONGEST = (
    "test_parity.py",
    "test_cuda_build.py",
    "test_engines.py",
    "test_train_distributed.py",
    "test_export.py",
    "test_kernels.py",
    "test_training_operators.py",
    "test_train_command.py",
    "test_ablation.py",
    "test_estimate.py",
    "test_train_runs.py",
    "test_architectures.py",
    "test_cpu_operators.py",
    "test_batch.py",
)


def pytest_sessionstart(session: pytest.Session) -> None:
    """Builds the operator libraries from the sources as they are, once and not in every worker: products only find one.

    Where a compiler is missing, tests skip what needs a library; what does not compile ends the run here.
    """
    if build.missing() is None and not hasattr(session.config, "workerinput"):
        onnxruntime.build()
        training.build()


@pytest.fixture(autouse=True)
def composed_operators() -> Iterator[None]:
    """A command chooses kernels for its whole process, which here is that of the next test, too."""
    yield
    if (kernels := sys.modules.get("dinn360.ops.cpu")) is not None:
        kernels.choose_kernels("composed")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest comes first (`make test` keeps the order), or one process would be alone with it in the end.

    A process takes whole files, so that a fixture of a file is made once.
    """
    place = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.name, len(place)))


@pytest.fixture(scope="session")
def forest() -> Image8:
    """Trees and gravel, 512 x 1024: the hardest of the shipped panoramas."""
    return read_panorama(ASSETS / "forest.png")


@pytest.fixture(scope="session")
def courtyard() -> Image8:
    """Brick and roof beams, 512 x 1024."""
    return read_panorama(ASSETS / "courtyard.png")


GraphMaker = Callable[..., Path]


def save_graph(path: Path, kind: str, metadata: dict[str, str]) -> Path:
    """Save a small graph with the contract of an exported one and return its path.

    `down` is a ceil-mode box mean rounded to the 8-bit grid, `up` repeats pixels; both by a factor of 2.
    """
    source, result = ("hr", "lr") if kind == "down" else ("lr", "hr")
    if kind == "down":
        pool = {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1}
        nodes = [
            helper.make_node("AveragePool", [source], ["mean"], **pool),
            helper.make_node("Mul", ["mean", "peak"], ["scaled"]),
            helper.make_node("Round", ["scaled"], ["rounded"]),
            helper.make_node("Div", ["rounded", "peak"], [result]),
        ]
    else:
        nodes = [helper.make_node("Resize", [source, "", "scales"], [result], mode="nearest")]
    weights = [
        helper.make_tensor("peak", TensorProto.FLOAT, [], [255.0]),
        helper.make_tensor("scales", TensorProto.FLOAT, [4], np.array([1, 1, 2, 2], np.float32)),
    ]
    graph = helper.make_graph(
        nodes,
        kind,
        [helper.make_tensor_value_info(source, TensorProto.FLOAT, ["batch", 3, "height", "width"])],
        [helper.make_tensor_value_info(result, TensorProto.FLOAT, ["batch", 3, None, None])],
        initializer=[weights[0] if kind == "down" else weights[1]],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=10)
    helper.set_model_props(model, metadata)
    onnx.save(model, path)
    return path


@pytest.fixture
def make_graph(tmp_path: Path) -> GraphMaker:
    """`save_graph` into the folder of the test, with scale 2."""

    def make(kind: str = "down", name: str | None = None, metadata: dict[str, str] | None = None) -> Path:
        return save_graph(tmp_path / (name or f"{kind}.onnx"), kind, {"scale": "2"} if metadata is None else metadata)

    return make
