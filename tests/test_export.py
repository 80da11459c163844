"""What is in the exported files, and what the export commands print and refuse."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner
from exported import kept_trace
from lowered import run_lowered
from networks import build, tiny

import export.onnx
from dinn360.checkpoint import Checkpoint, save_checkpoint
from dinn360.evaluation.interpolation import resize
from dinn360.ops import deform_conv, deform_conv2d, dst_attention
from engines.session import open_session
from engines.support.arrays import Image8
from engines.support.errors import UserError
from engines.support.files import sha256_of
from engines.support.images import read_panorama, write_png
from export.cli import main
from export.config import Lowering
from export.lowering import lower
from export.onnx import check
from export.operators import DOMAIN, SCHEMAS

ROOT = Path(__file__).parents[1]
ELEMENTARY = set(
    "Add Atan AveragePool Cast Clip Concat Conv ConvTranspose Cos DepthToSpace Div Equal Erf Exp Expand "
    "Floor Gather Greater Identity LayerNormalization LeakyRelu MatMul Max Min Mod Mul Neg Not Pad Range Reciprocal "
    "Relu Reshape Shape Sigmoid Slice Softmax Split Sqrt Squeeze Sub Transpose Unsqueeze Where".split()
)


@pytest.fixture(scope="module")
def ckpt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small x2 network with DConv and DST in every function."""
    path = tmp_path_factory.mktemp("ckpt") / "tiny.pth"
    network = build(tiny(2))
    save_checkpoint(path, Checkpoint(network.config, network.state_dict(), {"data": "none"}))
    return path


@pytest.fixture(scope="module", autouse=True)
def traced_once() -> Iterator[None]:
    """The commands trace the network of `ckpt` once, not once each."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(export.onnx, "trace", kept_trace)
        yield


@pytest.fixture(scope="module")
def folders(ckpt: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Every lowering, made by the command line."""
    out = {}
    for ops in ("standard", "primitive", "plugin"):
        out[ops] = tmp_path_factory.mktemp(ops) / "deep" / "x2"
        result = CliRunner().invoke(main, ["onnx", "--ckpt", str(ckpt), "--out", str(out[ops]), "--ops", ops])
        assert result.exit_code == 0, result.output
        assert str(out[ops] / "down.onnx") in result.output and f"ops {ops}" in result.output
    return out


def operators(path: Path) -> list[tuple[str, str]]:
    return [(node.domain, node.op_type) for node in onnx.load(path).graph.node]


@pytest.mark.parametrize("direction", ["down", "up"])
def test_each_lowering_holds_the_operators_it_promises(folders: dict[str, Path], direction: str) -> None:
    found = {ops: operators(folder / f"{direction}.onnx") for ops, folder in folders.items()}
    assert {name for _, name in found["primitive"]} <= ELEMENTARY
    assert {domain for domain, _ in found["primitive"] + found["standard"]} == {""}
    custom = [name for domain, name in found["plugin"] if domain == DOMAIN]
    assert set(custom) == {"DeformConv2d", "DSTAttention"}
    assert found["standard"].count(("", "DeformConv")) == custom.count("DeformConv2d") > 0
    assert "GridSample" not in {name for ops in found.values() for _, name in ops}


def test_the_command_offers_every_lowering() -> None:
    from export import cli, config

    assert cli.LOWERINGS == config.LOWERINGS


def test_plugin_nodes_follow_their_schema(folders: dict[str, Path]) -> None:
    schemas = {schema.name: schema for schema in SCHEMAS}
    model = onnx.load(folders["plugin"] / "up.onnx")
    assert not model.functions, "old TensorRT parsers would expand them instead of using the plugin"
    for node in (node for node in model.graph.node if node.domain == DOMAIN):
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        assert set(attributes) == set(schemas[node.op_type].attributes)
        assert (attributes["plugin_namespace"], attributes["plugin_version"]) == (b"", b"1")


def test_schema_document_names_every_input_and_attribute() -> None:
    text = (ROOT / "plugins" / "README.md").read_text()
    for schema in SCHEMAS:
        section = text.split(f"## {schema.name}")[1].split("\n## ")[0]
        for name in [*(i.name for i in schema.inputs), *schema.attributes]:
            assert f"`{name}`" in section, (schema.name, name)


def test_names_dimensions_and_metadata(folders: dict[str, Path], ckpt: Path) -> None:
    with open_session(folders["standard"] / "down.onnx") as down:
        assert [(spec.name, spec.shape) for spec in down.inputs] == [("hr", ("batch", 3, "height", "width"))]
        assert [(s.name, s.shape) for s in down.outputs] == [("lr", ("batch", 3, "ceil(height/2)", "ceil(width/2)"))]
        found = down.metadata
    assert (found["scale"], found["direction"], found["ops"], found["preset"]) == ("2", "down", "standard", "custom")
    assert found["checkpoint_sha256"] == sha256_of(ckpt)
    assert json.loads(found["config"])["window"] == 4
    with open_session(folders["primitive"] / "up.onnx") as up:
        assert [spec.name for spec in (*up.inputs, *up.outputs)] == ["lr", "hr"]
        assert (up.metadata["direction"], up.metadata["ops"]) == ("up", "primitive")


def test_the_downscale_graph_carries_no_decoder(folders: dict[str, Path]) -> None:
    network = build(tiny(2))
    encoder = sum(p.numel() for p in network.deformable.parameters())
    # the relative position bias is a table of (2w-1)^2 in the network and a matrix of w^4 in the graph
    allowed = 1.5 * encoder
    size = {d: _weights(folders["plugin"] / f"{d}.onnx") for d in ("down", "up")}
    assert size["down"] < allowed < size["up"]


def _weights(path: Path) -> int:
    return sum(int(np.prod(t.dims)) for t in onnx.load(path).graph.initializer)


def test_other_opsets() -> None:
    level = replace(tiny(2).levels[0], blocks=1)
    network = build(tiny(2, levels=(level,)))
    for opset in (20, 22):
        model = lower(kept_trace(network, "down", opset), "primitive")
        check(model)
        assert [o.version for o in model.opset_import if o.domain == ""] == [opset]


def deform_conv_attributes(**others: object) -> dict[str, object]:
    plain = {"strides": [1, 1], "pads": [1, 1], "dilations": [1, 1], "group": 1, "offset_group": 1, "max_offset": 3.0}
    return plain | others


@pytest.mark.parametrize("ops", ["standard", "primitive"])
@pytest.mark.parametrize("wrap", [0, 1])
@pytest.mark.parametrize(
    ("kernel", "stride", "pad", "dilation", "group", "fields"),
    [
        ((3, 3), (2, 2), (1, 1), (1, 1), 1, 1),
        ((3, 5), (1, 3), (2, 0), (2, 1), 2, 4),
        ((2, 2), (2, 1), (0, 3), (1, 3), 4, 2),
    ],
)
def test_every_geometry_of_the_schema_lowers(
    kernel: tuple[int, int],
    stride: tuple[int, int],
    pad: tuple[int, int],
    dilation: tuple[int, int],
    group: int,
    fields: int,
    wrap: int,
    ops: Lowering,
) -> None:
    size, channels, taps = (9, 13), 8, kernel[0] * kernel[1]
    height, width = (
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, p, d, k, s in zip(size, pad, dilation, kernel, stride, strict=True)
    )
    torch.manual_seed(0)
    x, bias = torch.randn(2, channels, *size), torch.randn(4)
    weight = torch.randn(4, channels // group, *kernel) / taps
    offset = 3 * torch.randn(2, 2 * fields * taps, height, width).clamp(-1, 1)
    expected = deform_conv.reference(
        x, offset, weight, bias, None, 3.0, bool(wrap), stride=stride, dilation=dilation, pad=pad, groups=group
    )
    attributes = deform_conv_attributes(
        strides=stride, pads=pad, dilations=dilation, group=group, offset_group=fields, wrap=wrap
    )
    found = run_lowered("DeformConv2d", {"x": x, "offset": offset, "weight": weight, "bias": bias}, attributes, ops)
    assert np.abs(found - expected.numpy()).max() < 1e-5


def test_masked_and_unwrapped_operators_lower_too() -> None:
    """The schema allows more than our network uses: DCNv2 masks, two offset groups, crops (wrap=0), plain queries."""
    torch.manual_seed(0)
    x, weight, bias = torch.rand(2, 4, 9, 13), torch.randn(3, 4, 3, 3), torch.randn(3)
    offset, mask = 3 * torch.randn(2, 36, 9, 13).clamp(-1, 1), torch.rand(2, 18, 9, 13)
    for wrap in (True, False):
        expected = deform_conv2d(x, offset, weight, bias, mask, 3.0, wrap)
        inputs = {"x": x, "offset": offset, "weight": weight, "bias": bias, "mask": mask}
        for ops in ("standard", "primitive"):
            found = run_lowered("DeformConv2d", inputs, deform_conv_attributes(offset_group=2, wrap=int(wrap)), ops)
            assert np.abs(found - expected.numpy()).max() < 1e-5, (wrap, ops)
    q, k, v = (torch.randn(2, 4, 10, 13) for _ in range(3))
    scale, far = torch.randn(2, 4, 3, 4), 6 * torch.randn(2, 4, 3, 4)
    bias = torch.randn(2, 16, 16)
    for wrap in (True, False):
        for shift in (0, 2):
            for deform in (True, False):
                pair = (scale, far) if deform else (None, None)
                expected = dst_attention(q, k, v, *pair, bias, 4, shift, wrap)
                inputs = {"q": q, "k": k, "v": v, "bias": bias}
                if deform:
                    inputs |= {"scale": scale, "offset": far}
                attributes = {"heads": 2, "window": 4, "shift": shift, "wrap": int(wrap)}
                found = run_lowered("DSTAttention", inputs, attributes, "primitive")
                assert np.abs(found - expected.numpy()).max() < 1e-5, (wrap, shift, deform)


def test_check_compares_and_judges(folders: dict[str, Path], ckpt: Path, forest: Image8, tmp_path: Path) -> None:
    image = tmp_path / "small.png"
    write_png(image, resize(forest, (50, 99)))
    arguments = ["check", "--ckpt", str(ckpt), "--onnx", str(folders["primitive"]), "--image", str(image)]
    with pytest.warns(UserWarning, match="2:1"):
        read_panorama(image)
    good = CliRunner().invoke(main, arguments)
    assert good.exit_code == 0, good.output
    assert good.output.count(" ok") == 2 and "onnxruntime" in good.output and "WS-PSNR" in good.output
    strict = CliRunner().invoke(main, [*arguments, "--tolerance", "1e-12"])
    assert strict.exit_code == 1 and "beyond 1e-12" in strict.output


def test_demo_shows_and_saves(ckpt: Path, forest: Image8, tmp_path: Path) -> None:
    image, out = tmp_path / "small.png", tmp_path / "out"
    write_png(image, resize(forest, (64, 128)))
    result = CliRunner().invoke(main, ["demo", "--ckpt", str(ckpt), "--image", str(image), "--out", str(out)])
    assert result.exit_code == 0, result.output
    for words in ("bicubic x2", "DINN360 x2", "Parity with PyTorch", str(out / "reconstruction.png")):
        assert words in result.output
    assert read_panorama(out / "lr.png").shape == (32, 64, 3)
    assert read_panorama(out / "reconstruction.png").shape == (64, 128, 3)
    site = {"small.png", "site"}  # where the browser's packages can be had
    assert {p.name for p in out.iterdir()} - site == {
        "down.onnx", "down.json", "up.onnx", "up.json", "lr.png", "reconstruction.png", "error.png", "closeup.png"
    }  # fmt: skip


def test_demo_falls_back_where_no_library_was_built(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from export import demo

    monkeypatch.setattr(demo.library, "FOLDER", tmp_path)
    missing = "no libdinn360_ort.so on this machine; `python -m plugins build --onnxruntime` makes it"
    assert demo.best_lowering() == ("standard", f"{missing}; meanwhile the graphs are of ops standard")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["onnx", "--ckpt", "absent.pth"], "absent.pth: no such checkpoint"),
        (["onnx", "--ckpt", "{text}"], "not a readable checkpoint"),
        (["onnx", "--ckpt", "{ckpt}", "--opset", "18"], "--opset: expected one of (19, 20, 21, 22), found 18"),
        (["onnx", "--ckpt", "{ckpt}", "--ops", "magic"], "--ops"),
        (
            ["onnx", "--ckpt", "{ckpt}", "--ops", "cpu", "--precision", "fp16"],
            "--precision: expected fp32 in graphs for CPU cores",
        ),
        (["onnx", "--ckpt", "{ckpt}", "--out", "{text}"], "expected a folder, found a file"),
        (["check", "--ckpt", "{ckpt}", "--onnx", "absent", "--image", "{image}"], "absent/down.onnx"),
        (
            ["check", "--ckpt", "{other}", "--onnx", "{standard}", "--image", "{image}"],
            "expected a graph exported from",
        ),
        (["check", "--ckpt", "{ckpt}", "--onnx", "{standard}", "--image", "{text}"], "expected an image"),
        (["demo", "--ckpt", "{ckpt}", "--image", "absent.png"], "absent.png"),
    ],
)
def test_a_mistake_ends_in_one_line(
    arguments: list[str], words: str, folders: dict[str, Path], ckpt: Path, forest: Image8, tmp_path: Path
) -> None:
    other = tmp_path / "other.pth"
    network = build(tiny(2), seed=7)
    save_checkpoint(other, Checkpoint(network.config, network.state_dict(), {}))
    (tmp_path / "text.txt").write_text("hello")
    write_png(tmp_path / "image.png", np.ascontiguousarray(forest[200:232, :64]))
    places = {
        "ckpt": ckpt,
        "other": other,
        "text": tmp_path / "text.txt",
        "image": tmp_path / "image.png",
        **folders,
    }
    result = CliRunner().invoke(main, [a.format(**places) for a in arguments])
    assert result.exit_code == 2, result.output
    assert result.stderr.count("\n") == 1 and words in result.stderr, result.stderr
    assert "Traceback" not in result.output


def test_a_failed_export_leaves_the_old_file(ckpt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = tmp_path / "down.onnx"
    old.write_text("old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", str(old))

    monkeypatch.setattr(export.onnx.onnx, "save", full)
    with pytest.raises(UserError, match="no space left"):
        export.onnx.export_checkpoint(ckpt, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["down.onnx"] and old.read_text() == "old"
