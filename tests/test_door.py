"""One object for both directions: `engines.load` and `dinn360.load`, Pillow's images, arrays, files; the examples."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ASSETS, GraphMaker
from exported import checkpoint, released
from PIL import Image
from test_arrows import NOT_ON_A_DEVICE, run_blocked

import dinn360
import engines
from dinn360 import released as names
from dinn360.checkpoint import load_checkpoint
from dinn360.evaluation.validate import round_trip
from engines.support.arrays import Image8
from engines.support.errors import UserError
from engines.support.files import sha256_of

ROOT = Path(__file__).parents[1]


@pytest.fixture
def graphs(make_graph: GraphMaker) -> Path:
    """A folder with a pair of graphs of scale 2 that say which checkpoint they are of."""
    said = {"scale": "2", "checkpoint_sha256": "a" * 64}
    make_graph("down", metadata=said)
    return make_graph("up", metadata=said).parent


def repeated(lr: Image8, height: int, width: int) -> Image8:
    """What `up` of the small graphs makes."""
    return lr.repeat(2, axis=0).repeat(2, axis=1)[:height, :width]


def test_arrays_come_back_as_arrays(graphs: Path, forest: Image8) -> None:
    image = forest[:101, :203]
    with engines.load(graphs, threads=1) as model:
        lr = model.downscale(image)
        assert (model.scale, lr.shape, lr.dtype) == (2, (51, 102, 3), np.uint8)
        assert np.array_equal(model.upscale(lr), repeated(lr, 102, 204))
        assert np.array_equal(model.upscale(lr, size=(101, 203)), repeated(lr, 101, 203))
        with pytest.raises(UserError, match=r"^size: expected 203x101 to 204x102 .* found 203x99"):
            model.upscale(lr, size=(99, 203))


def test_sixteen_bits_and_alpha_stay(graphs: Path, forest: Image8) -> None:
    deep = np.concatenate([forest[:64, :128], forest[:64, :128, :1]], axis=2).astype(np.uint16) * 257
    with engines.load(graphs, threads=1) as model:
        lr = model.downscale(deep)
        assert lr.dtype == np.uint16 and lr.shape == (32, 64, 4)
        assert model.upscale(lr).shape == (64, 128, 4)


def test_a_pillow_image_knows_its_original(graphs: Path, forest: Image8, tmp_path: Path) -> None:
    image = Image.fromarray(forest[:101, :203])
    image.info["icc_profile"] = b"\0" * 16 + b"RGB " + b"\0" * 108
    with engines.load(graphs, threads=1) as model:
        lr = model.downscale(image)
        assert lr.size == (102, 51) and lr.info["icc_profile"] == image.info["icc_profile"]
        told = json.loads(lr.info["DINN360"])
        assert (told["width"], told["height"], told["scale"], told["model"]) == (203, 101, 2, "a" * 64)
        for name in ("lr.png", "lr.webp", "lr.tif"):
            engines.save(lr, tmp_path / name)
            with Image.open(tmp_path / name) as opened:
                hr = model.upscale(opened)
                assert np.array_equal(np.asarray(hr), repeated(np.asarray(lr), 101, 203)), name
                assert "DINN360" not in hr.info
        model.upscale_file(tmp_path / "lr.png", tmp_path / "hr.png")
        with Image.open(tmp_path / "hr.png") as written:
            assert np.array_equal(np.asarray(written), np.asarray(hr))


def test_a_picture_is_made_for_its_file(forest: Image8, tmp_path: Path) -> None:
    """In memory and then saved it is, to the byte, the file that `downscale_file` writes."""
    image = Image.fromarray(forest[:128, :256])
    image.save(tmp_path / "hr.png")
    with dinn360.load("x2-codec") as model, warnings.catch_warnings():
        warnings.simplefilter("error")
        lr = model.downscale(image, "lr.jpg", quality=75)
        engines.save(lr, tmp_path / "lr.jpg")
        model.downscale_file(tmp_path / "hr.png", tmp_path / "of_file.jpg", quality=75)
        assert (tmp_path / "lr.jpg").read_bytes() == (tmp_path / "of_file.jpg").read_bytes()
        with Image.open(tmp_path / "lr.jpg") as opened:
            model.upscale_file(tmp_path / "lr.jpg", tmp_path / "back.png")
            assert np.array_equal(np.asarray(model.upscale(opened)), np.asarray(Image.open(tmp_path / "back.png")))
        assert not np.array_equal(np.asarray(lr), np.asarray(model.downscale(image)))
        full = model.downscale(forest[:128, :256], "lr.avif", chroma="4:4:4")
        assert not np.array_equal(np.asarray(lr), full)
        with pytest.raises(UserError, match=r"lr.png: expected JPEG 4:2:0 of quality 75, .* found PNG"):
            engines.save(lr, tmp_path / "lr.png")
        with pytest.raises(UserError, match="JPEG holds 8 bits a channel, found 16"):
            model.downscale(forest[:64, :128].astype(np.uint16) * 257, "lr.jpg")
        with pytest.raises(TypeError, match="expected a file with quality"):
            model.downscale(image, quality=75)
        with pytest.warns(UserWarning, match="is lossless, and was made for JPEG 4:2:0 of quality 75"):
            model.upscale(lr)
    with dinn360.load("x2") as model, pytest.raises(UserError, match="4:2:0 destroys what the LR image"):
        model.downscale(image, "lr.jpg", chroma="4:2:0")


def test_grey_palette_and_turned_images(graphs: Path, forest: Image8) -> None:
    grey = Image.fromarray(forest[:64, :128]).convert("L")
    turned = grey.copy()
    turned.getexif()[0x0112] = 6  # to be turned by 90 degrees
    with engines.load(graphs, threads=1) as model:
        assert model.downscale(grey).mode == model.downscale(grey.convert("P")).mode == "RGB"
        assert model.downscale(turned).size == (32, 64)
        assert model.downscale(grey.convert("LA")).mode == "RGBA"


def test_another_model_is_refused(graphs: Path, make_graph: GraphMaker, forest: Image8) -> None:
    make_graph("up", name="other.onnx", metadata={"scale": "2", "checkpoint_sha256": "b" * 64})
    with engines.load(down=graphs / "down.onnx", up=graphs / "other.onnx") as model:
        lr = model.downscale(Image.fromarray(forest[:64, :128]))
        with pytest.raises(UserError, match="was downscaled by the model aaaaaaaaaaaa, found the model bbbbbbbbbbbb"):
            model.upscale(lr)


@pytest.mark.parametrize(
    ("picture", "error"),
    [
        (np.zeros((4, 8, 3), np.float32), "expected a non-empty uint8 or uint16 array .* found float32"),
        (np.zeros((4, 8), np.uint8), r"found uint8 \(4, 8\)"),
        (np.zeros((0, 8, 3), np.uint8), "found uint8"),
        (Image.new("F", (8, 4)), "expected a non-empty picture of 8 bits a channel, found mode F"),
        (Image.new("I;16", (8, 4)), "give 16 bits as a uint16 array"),
        ("in.png", "expected a Pillow image or a numpy array, found str"),
    ],
)
def test_what_is_no_picture(graphs: Path, picture: Any, error: str) -> None:
    with engines.load(graphs) as model, pytest.raises((ValueError, TypeError), match=error):
        model.downscale(picture)


def test_what_cannot_be_loaded(graphs: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="expected a folder with down.onnx and up.onnx"):
        engines.load(tmp_path / "empty")
    with pytest.raises(UserError, match=r"nothing.onnx: expected an ONNX file, found no such file"):
        engines.load(tmp_path / "nothing.onnx")
    one = engines.load(graphs / "down.onnx")
    assert one.downscale(np.zeros((4, 8, 3), np.uint8)).shape == (2, 4, 3)
    with pytest.raises(UserError, match=r"down.onnx: expected up.onnx beside it"):
        one.upscale(np.zeros((4, 8, 3), np.uint8))
    with pytest.raises(UserError, match="expected a lossless format .* found JPEG"):
        engines.save(Image.new("RGB", (4, 2)), tmp_path / "a.jpg")


def test_the_door_of_engines_needs_no_torch(graphs: Path) -> None:
    body = """
import engines, numpy
model = engines.load(sys.argv[2], threads=1)
assert model.upscale(model.downscale(numpy.zeros((6, 8, 3), numpy.uint8))).shape == (6, 8, 3)
"""
    done = run_blocked(NOT_ON_A_DEVICE | {"click", "tensorrt", "tensorrt_rtx"}, body, str(graphs))
    assert done.returncode == 0, done.stderr


def test_importing_dinn360_imports_no_torch() -> None:
    code = "import sys, dinn360; dinn360.__version__; assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=60).returncode == 0


def test_a_released_checkpoint_by_name(courtyard: Image8) -> None:
    image = courtyard[200:264, :128]
    model = dinn360.load("x2", device="cpu")
    lr = model.downscale(Image.fromarray(image))
    assert json.loads(lr.info["DINN360"])["model"] == sha256_of(checkpoint("x2"))
    expected_lr, expected_hr = round_trip(load_checkpoint(checkpoint("x2")).build(), image)
    assert np.array_equal(np.asarray(lr), expected_lr)
    assert np.array_equal(np.asarray(model.upscale(lr)), expected_hr)


def test_names_of_released_checkpoints() -> None:
    assert {"x2", "x4", "x8"} <= set(names.names())
    assert names.find("x4") == ROOT / "checkpoints" / "x4.pth"
    assert names.find("own/x4.pth") == Path("own/x4.pth")
    with pytest.raises(UserError, match="expected a checkpoint file or one of .*x2.*x4.*x8.*, found 'x3'"):
        dinn360.load("x3")
    with pytest.raises(UserError, match="^device: expected one that torch has here, found 'cuda:77'"):
        dinn360.load("x2", device="cuda:77")


EXAMPLES = {
    "pictures.py": (["{panorama}", "{out}"], "-> (64, 32) -> (256, 128)"),
    "graphs.py": (["{graphs}", "{panorama}", "{out}"], "x2: (128, 64) -> (256, 128)"),
    "files.py": (["{graphs}", "{panorama}", "{out}"], "256x128 in "),
    "before_after.py": (["{panorama}", "9", "7", "{out}.png"], ".png: 1362x358"),
    "arrays.py": (["{graphs}"], "uint16 (101, 203, 3) -> (51, 102, 3) -> (101, 203, 3)"),
}


def test_every_example_is_run() -> None:
    assert {path.name for path in (ROOT / "examples").glob("*.py")} == set(EXAMPLES)


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example(name: str, tmp_path: Path) -> None:
    arguments, expected = EXAMPLES[name]
    with Image.open(ASSETS / "courtyard.png") as image:
        image.convert("RGB").resize((256, 128)).save(tmp_path / "in.png")
    places = {"graphs": released("x2"), "panorama": tmp_path / "in.png", "out": tmp_path / "out"}
    command = [sys.executable, f"examples/{name}", *(word.format(**places) for word in arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert expected in done.stdout, done.stdout
