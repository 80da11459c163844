"""SphereSqueeze and SphereUnsqueeze of CPU graphs against PyTorch, and how graphs come to have them."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnx_ir.passes.common as passes
import pytest
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper, numpy_helper
from ort_library import Array, needs_library, node_session, run_node

from dinn360.networks.flat import haar_bands
from dinn360.ops import pad_to_multiple
from export.fusion import fuse
from export.fusion.operators import DOMAIN
from export.operators import LAYERS

CHANNELS = 3


def functions(factor: int) -> Array:
    """The Walsh functions of all channels as weights of a convolution (3 f^2,3,f,f), by Kronecker powers."""
    sides = np.ones((1, 1), np.float32)
    while len(sides) < factor:
        sides = np.kron(sides, np.array([[1, 1], [1, -1]], np.float32))
    one = np.einsum("ui,vj->uvij", sides, sides).reshape(factor**2, factor, factor)
    return np.einsum("cd,fij->cfdij", np.eye(CHANNELS, dtype=np.float32), one).reshape(-1, CHANNELS, factor, factor)


def order_of(factor: int) -> list[int]:
    return list(map(int, np.random.default_rng(factor).permutation(CHANNELS * factor**2)))


def image(height: int, width: int) -> Array:
    return np.random.default_rng(height).normal(0.5, 1, size=(2, CHANNELS, height, width)).astype(np.float32)


def extended_blocks(x: Array, factor: int, multiple: int, margin: int) -> torch.Tensor:
    weight = torch.from_numpy(functions(factor)[order_of(factor)] / factor**2)
    return F.conv2d(pad_to_multiple(torch.from_numpy(x), multiple, margin), weight, stride=factor)


def apart(found: Array, expected: torch.Tensor) -> float:
    assert found.shape == expected.shape
    return float(np.abs(found - expected.numpy()).max())


SIZES = [(1, 1), (3, 5), (16, 64), (17, 333)]  # smaller than the margin, whole blocks, none of it
LARGE = [(602, 1168), (602, 1170)]  # that no cache holds, in rows of whole cache lines and of none


@needs_library
@pytest.mark.parametrize("factor", [1, 2, 4, 8])
@pytest.mark.parametrize("size", SIZES)
def test_squeeze(factor: int, size: tuple[int, int]) -> None:
    x, order = image(*size), order_of(factor)
    for multiple, margin in ((factor, 0), (2 * factor, 16 * factor)):
        numbers = {"factor": factor, "multiple": multiple, "margin": margin, "order": order}
        counts = [1, len(order) - 1]
        session = node_session(
            "SphereSqueeze", {"x": x}, numbers | {"channel_counts": counts}, domain=DOMAIN, outputs=len(counts)
        )
        expected = extended_blocks(x, factor, multiple, margin).split(counts, dim=1)
        assert all(apart(y, part) < 2e-6 for y, part in zip(session.run(None, {"x": x}), expected, strict=True))


@needs_library
@pytest.mark.parametrize(("factor", "size"), [*itertools.product([1, 2, 4, 8], SIZES), *itertools.product([4], LARGE)])
def test_unsqueeze(factor: int, size: tuple[int, int]) -> None:
    """The image comes back, cropped to a size by its shape; without a shape all but the margin does; clamped."""
    x, order, margin = image(*size), order_of(factor), 3
    blocks = extended_blocks(x, factor, factor, margin * factor).numpy()
    first = 1 + len(order) // 2
    parts = {"x": blocks[:, :first], "x1": np.concatenate([blocks[:, :1], blocks[:, first:]], axis=1)}
    numbers: dict[str, Any] = {
        "first_channels": [0, 1],
        "channel_counts": [first, len(order) - first],
        "factor": factor,
        "margin": margin,
        "order": order,
        "size_factor": 2,
        "size_divisor": 3,
    }
    like = np.array([1, 7, *(size_ * 3 // 2 for size_ in size)])  # ceil(2/3 of it) is the size
    shaped = {"x": np.ascontiguousarray(parts["x"]), "shape": like, "x1": parts["x1"]}
    back = run_node("SphereUnsqueeze", shaped, numbers | {"clamp": 0}, domain=DOMAIN)
    assert apart(back, torch.from_numpy(x)) < 1e-5
    whole = run_node("SphereUnsqueeze", shaped | {"shape": None}, numbers | {"clamp": 1}, domain=DOMAIN)
    assert apart(whole, pad_to_multiple(torch.from_numpy(x), factor).clamp(0, 1)) < 1e-5


@needs_library
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"factor": 3, "multiple": 3, "order": list(range(27)), "channel_counts": [27]}, "expected 1, 2, 4 or 8"),
        ({"multiple": 3}, "a positive factor that multiple and margin divide by, found 2, 3 and 0"),
        ({"order": [0] * 12}, "each function of each channel once"),
        ({"order": [*range(11), 12]}, "each function of each channel once"),
        ({"channel_counts": [11]}, "all functions of the image's channels"),
        ({"order": list(range(8)), "channel_counts": [8]}, "expected 2 channels, found 3"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, Any], words: str) -> None:
    plain = {"factor": 2, "multiple": 2, "margin": 0, "order": list(range(12)), "channel_counts": [12]}
    with pytest.raises(Exception, match=words):
        run_node("SphereSqueeze", {"x": image(6, 6)}, plain | change, domain=DOMAIN)


@needs_library
def test_a_size_that_the_blocks_do_not_cover_is_refused() -> None:
    numbers: dict[str, Any] = dict.fromkeys(("margin", "clamp"), 0) | dict.fromkeys(("size_factor", "size_divisor"), 1)
    numbers |= {"first_channels": [0], "channel_counts": [3], "factor": 1, "order": [0, 1, 2]}
    for shape in ([1, 3, 7, 6], [1, 3, 6, 7]):
        with pytest.raises(Exception, match="shape: expected a size that the blocks cover"):
            inputs = {"x": image(6, 6), "shape": np.array(shape)}
            run_node("SphereUnsqueeze", inputs, numbers, domain=DOMAIN)


def fused(text: str, **constants: Array) -> list[ir.Node]:
    """The nodes that are left of a traced graph."""
    imports = f'"" : 19, "{LAYERS}" : 1'
    model = onnx.parser.parse_model(f"<ir_version: 10, opset_import: [{imports}]> g {text}")
    model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    known = {"shape": (TensorProto.INT64, [4]), "high": (TensorProto.FLOAT, [1, 45, "h", "w"])}
    for name in (name for node in model.graph.node for name in node.output if name != "y"):
        element, shape = known.get(name, (TensorProto.FLOAT, [1, 3, "h", "w"]))
        model.graph.value_info.append(helper.make_tensor_value_info(name, element, shape))
    graph = ir.from_proto(model).graph
    fuse(graph)
    passes.RemoveUnusedNodesPass()(ir.Model(graph, ir_version=10))
    return list(graph)


PADDED = "padded = dinn360.layers.PadToMultiple <multiple = 4, margin = 64> (x)"
LOW, HIGH = (
    f"{name} = Conv <strides = [4, 4], pads = [0, 0, 0, 0]> (padded, {name}_bands)" for name in ("low", "high")
)
BANDS = {"low_bands": haar_bands(4, 4)[:3].numpy(), "high_bands": haar_bands(4, 4)[3:].numpy()}
TO_IMAGE = "image = ConvTranspose <strides = [4, 4], pads = [0, 64, 0, 64]> (x, bands)"
OF_BANDS = {"bands": 16 * haar_bands(4, 4).numpy(), "nought": np.float32(0), "one": np.float32(1)}


def test_an_extension_goes_into_the_squeeze_of_all_who_read_it() -> None:
    (squeeze,) = fused(
        f"(float[1,3,8,8] x) => (float[1,3,h,w] low, float[1,45,h,w] high) {{ {PADDED} {LOW} {HIGH} }}", **BANDS
    )
    found = {name: squeeze.attributes[name].value for name in ("factor", "multiple", "margin", "channel_counts")}
    assert found == {"factor": 4, "multiple": 4, "margin": 64, "channel_counts": (3, 45)}
    assert [output.name for output in squeeze.outputs] == ["low", "high"]


@pytest.mark.parametrize(
    "change", [{"high_bands": BANDS["high_bands"][::-1] * 1.5}, {"high_bands": BANDS["high_bands"][:44]}]
)
def test_other_weights_and_parts_of_the_blocks_stay_convolutions(change: dict[str, Array]) -> None:
    """Of the extension alone, which is an operator still."""
    text = f"(float[1,3,8,8] x) => (float[1,3,h,w] low, float[1,c,h,w] high) {{ {PADDED} {LOW} {HIGH} }}"
    squeeze, *others = fused(text, **BANDS | change)
    assert squeeze.attributes["factor"].value == 1 and [node.op_type for node in others] == ["Conv", "Conv"]


def test_an_extension_that_something_else_reads_stays_whole() -> None:
    results = "float[1,3,h,w] low, float[1,45,h,w] high, float[1,3,h,w] padded"
    text = f"(float[1,3,8,8] x) => ({results}) {{ {PADDED} {LOW} {HIGH} }}"
    assert [node.op_type for node in fused(text, **BANDS)] == ["SphereSqueeze", "Conv", "Conv"]


def test_crop_and_clip_go_into_the_unsqueeze() -> None:
    behind = """shape = Shape (x)
    cropped = dinn360.layers.Crop <factor = 2, divisor = 1, left = 0> (image, shape)
    y = Clip (cropped, nought, one)"""
    *_, unsqueeze = fused(f"(float[1,48,8,40] x) => (float[1,3,h,w] y) {{ {TO_IMAGE} {behind} }}", **OF_BANDS)
    names = ("factor", "margin", "size_factor", "size_divisor", "clamp")
    assert unsqueeze.op_type == "SphereUnsqueeze" and unsqueeze.inputs[1].name == "shape"
    assert [unsqueeze.attributes[name].value for name in names] == [4, 16, 2, 1, 1]


def test_other_clips_stay() -> None:
    text = f"(float[1,48,8,40] x) => (float[1,3,h,w] y) {{ {TO_IMAGE} y = Clip (image, nought, one) }}"
    nodes = fused(text, **OF_BANDS | {"one": np.float32(2)})
    assert [node.op_type for node in nodes] == ["SphereUnsqueeze", "Clip"]
    assert nodes[0].attributes["clamp"].value == 0 and len(nodes[0].inputs) == 1
