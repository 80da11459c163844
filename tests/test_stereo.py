"""Stereo panoramas and VR180: each eye is what it is alone, its sides meet only where the world does."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from conftest import GraphMaker
from exported import released
from onnx import TensorProto, helper
from PIL import Image
from test_viewport import expected

from engines.cli import main
from engines.panorama.camera import View
from engines.panorama.layout import Layout, recorded
from engines.panorama.metadata import Metadata, read_metadata
from engines.panorama.rescaler import Rescaler
from engines.panorama.sources import WholeSource, open_source
from engines.panorama.stereo import rescale_eyes
from engines.panorama.xmp import GIMAGE, GPANO, decode, value
from engines.session import open_session
from engines.support.arrays import Image8

PACKET = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description rdf:about="" xmlns:GPano="{namespace}" {attributes}><GPano:UsePanoramaViewer>True'
    "</GPano:UsePanoramaViewer></rdf:Description></rdf:RDF></x:xmpmeta>"
)
TILES = {"scale": "2", "tile_align": "8", "tile_halo": "8", "bytes_per_pixel": "100"}


def gpano(**properties: str | int) -> bytes:
    attributes = " ".join(f'GPano:{name}="{text}"' for name, text in properties.items())
    return PACKET.format(namespace=GPANO, attributes=attributes).encode()


@pytest.fixture
def graphs(make_graph: GraphMaker) -> dict[str, tuple[str, str]]:
    """--model of graphs that take means and repeat pixels, and that work in tiles."""
    made = {kind: make_graph(kind, metadata=TILES) for kind in ("down", "up")}
    model = onnx.load(made["up"])  # one more input, which tells nothing new
    model.graph.node[-1].output[0] = "plain"
    model.graph.node.extend(
        [
            helper.make_node("ReduceSum", ["omitted"], ["rows"], keepdims=0),
            helper.make_node("Cast", ["rows"], ["number"], to=TensorProto.FLOAT),
            helper.make_node("Sub", ["number", "number"], ["nothing"]),
            helper.make_node("Add", ["plain", "nothing"], ["hr"]),
        ]
    )
    model.graph.input.append(helper.make_tensor_value_info("omitted", TensorProto.INT64, [4]))
    model.graph.initializer.append(helper.make_tensor("omitted", TensorProto.INT64, [4], [0] * 4))
    onnx.save(model, made["up"])
    return {kind: ("--model", str(path)) for kind, path in made.items()}


def run(command: str, source: Path, target: Path, *more: str) -> None:
    result = CliRunner().invoke(main, [command, str(source), str(target), "--threads", "1", *more])
    assert result.exit_code == 0, result.output


def pixels(path: Path) -> Image8:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def layout_of(path: Path) -> Layout | None:
    source = open_source(path)
    source.close()
    assert source.record is not None
    return recorded(source.record, (source.height, source.width))


@pytest.fixture(scope="module")
def eyes(courtyard: Image8, forest: Image8) -> list[Image8]:
    """Two panoramas whose sides are no multiple of anything, 62 x 126."""
    return [np.ascontiguousarray(image[100:162, 40:166]) for image in (courtyard, forest)]


@pytest.fixture(scope="module")
def models() -> dict[str, str]:
    return {kind: str(released("x2") / f"{kind}.onnx") for kind in ("down", "up")}


@pytest.mark.parametrize(
    "stereo, axis, span", [("top-bottom", 0, 360), ("side-by-side", 1, 360), ("side-by-side", 1, 180)]
)
def test_each_eye_is_what_it_is_alone(
    tmp_path: Path, eyes: list[Image8], models: dict[str, str], stereo: str, axis: int, span: int
) -> None:
    """Down and back, told by the file's Photo Sphere properties; alone by the option."""
    mode = {0: "Top-Bottom", 1: "left-right"}[axis]
    crop = {"FullPanoWidthPixels": 126 * 360 // span, "CroppedAreaImageWidthPixels": 126, "CroppedAreaLeftPixels": 0}
    pair = tmp_path / "pair.png"
    xmp = gpano(StereoMode=mode, **crop)
    joined = Image.fromarray(np.concatenate(eyes, axis))
    joined.save(tmp_path / "pair.webp", lossless=True, exact=True, xmp=xmp)
    run("downscale", tmp_path / "pair.webp", pair, "--model", models["down"])  # the LR picture, streamed
    run("upscale", pair, tmp_path / "back.webp", "--model", models["up"])
    lr, hr = [], []
    for number, eye in enumerate(eyes):
        alone = tmp_path / f"{number}.png"
        Image.fromarray(eye).save(alone)
        told = ["--span", str(span)]
        run("downscale", alone, tmp_path / f"lr{number}.png", "--model", models["down"], *told)
        run("upscale", tmp_path / f"lr{number}.png", tmp_path / f"hr{number}.png", "--model", models["up"])
        lr.append(pixels(tmp_path / f"lr{number}.png"))
        hr.append(pixels(tmp_path / f"hr{number}.png"))
    assert np.array_equal(pixels(pair), np.concatenate(lr, axis))
    assert np.array_equal(pixels(tmp_path / "back.webp"), np.concatenate(hr, axis)) and hr[0].shape == eyes[0].shape
    assert layout_of(pair) == Layout(stereo, span)  # type: ignore[arg-type]
    with Image.open(tmp_path / "back.webp") as image:
        packet = decode(read_metadata(image).xmp or b"")
    assert value(packet, GPANO, "StereoMode") == mode
    assert {name: int(value(packet, GPANO, name) or -1) for name in crop} == crop


def test_the_sides_of_half_a_sphere_do_not_meet(eyes: list[Image8], models: dict[str, str]) -> None:
    """What happens at one side changes the other of a panorama, and nothing of a VR180 eye. Nor does an eye see the
    other one. Tiles change nothing."""
    other = eyes[0].copy()
    other[:, -3:] = 255 - other[:, -3:]
    for direction in ("down", "up"):
        with open_session(models[direction], threads=1) as session:
            rescaler = Rescaler(session, direction, exact=True)  # type: ignore[arg-type]

            def result(image: Image8, layout: Layout, tile: object = "auto", rescaler: Rescaler = rescaler) -> Image8:
                source = WholeSource(Path("eye"), image, Metadata())
                height, width = image.shape[:2]
                size = layout.reduced((height, width), 2) if rescaler.direction == "down" else (2 * height, 2 * width)
                return np.concatenate(list(rescale_eyes(rescaler, source, layout, tile, 8, size)))  # type: ignore[arg-type]

            half, around = Layout(span=180), Layout()
            first = result(eyes[0], half)
            assert np.array_equal(first[:, :5], result(other, half)[:, :5])
            assert not np.array_equal(result(eyes[0], around)[:, :5], result(other, around)[:, :5])
            assert not np.array_equal(first[:, -5:], result(other, half)[:, -5:])
            tiled = result(eyes[0], half, (16, 32)).astype(int)
            assert np.abs(tiled - first).max() <= 1 and np.mean(tiled != first) < 1e-3
            pair = np.concatenate([eyes[1], eyes[0]], axis=1), np.concatenate([eyes[1], other], axis=1)
            both = [result(image, Layout("side-by-side", 180)) for image in pair]
            middle = both[0].shape[1] // 2
            assert np.array_equal(both[0][:, :middle], both[1][:, :middle])


def test_a_vr_photo_keeps_both_eyes(
    tmp_path: Path, graphs: dict[str, tuple[str, str]], courtyard: Image8, forest: Image8
) -> None:
    """The right eye lies in the XMP packet, beyond what one JPEG segment holds: there and back, and looked at."""
    left, right = courtyard[:256, :512], forest[:256, :512]
    for name, eye in (("left", left), ("right", right)):
        Image.fromarray(eye).save(tmp_path / f"{name}.png")
        run("downscale", tmp_path / f"{name}.png", tmp_path / f"lr-{name}.png", *graphs["down"])
    coded = io.BytesIO()
    Image.fromarray(right).save(coded, "PNG")
    metadata = Metadata(xmp=gpano(FullPanoWidthPixels=512)).with_other_eye(coded.getvalue(), "image/png")
    photo, small, back = tmp_path / "photo.webp", tmp_path / "small.png", tmp_path / "back.vr.jpg"
    Image.fromarray(left).save(photo, lossless=True, exact=True, xmp=metadata.xmp)
    run("downscale", photo, small, *graphs["down"])
    run("upscale", small, back, *graphs["up"], "--quality", "100")
    with Image.open(small) as image:
        found = read_metadata(image)
    assert np.array_equal(pixels(small), pixels(tmp_path / "lr-left.png"))
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(found.other_eye or b""))), pixels(tmp_path / "lr-right.png"))
    assert b'GPano:FullPanoWidthPixels="256"' in (found.xmp or b"")
    with Image.open(back) as image:
        assert image.format == "JPEG" and len(image.info["xmp"]) < 2000 and image.size == (512, 256)
        extended = sum(b"/xmp/extension/" in data[:40] for _, data in image.applist)
        found = read_metadata(image)
    assert extended >= 2 and value(decode(found.xmp or b""), GIMAGE, "Mime") == "image/jpeg"
    twice = np.repeat(np.repeat(pixels(tmp_path / "lr-right.png"), 2, 0), 2, 1).astype(int)
    eye = np.asarray(Image.open(io.BytesIO(found.other_eye or b""))).astype(int)
    assert np.abs(eye - twice).mean() < 2
    for name in ("left", "right"):
        camera = ["--size", "64x48", "--yaw", "170", "--overwrite"]
        run("view", small, tmp_path / "seen.png", *graphs["up"], "--eye", name, *camera)
        run("view", tmp_path / f"lr-{name}.png", tmp_path / "alone.png", *graphs["up"], *camera)
        assert np.array_equal(pixels(tmp_path / "seen.png"), pixels(tmp_path / "alone.png"))


def test_a_view_of_half_a_sphere(tmp_path: Path, graphs: dict[str, tuple[str, str]], courtyard: Image8) -> None:
    """What the panorama does not show is black; what it shows is the view of the whole around it."""
    half = courtyard[100:160, 40:100]
    Image.fromarray(np.concatenate([half[::-1], half], axis=1)).save(tmp_path / "lr.png")
    whole = np.zeros((120, 240, 3), np.uint8)
    whole[:, 60:180] = np.repeat(np.repeat(half, 2, 0), 2, 1)
    for view in (View(20, 10, 0, 90, 96, 64), View(180, 0, 0, 90, 96, 64), View(0, 80, 0, 100, 96, 64)):
        more = ["--yaw", str(view.yaw), "--pitch", str(view.pitch), "--fov", str(view.fov), "--size", "96x64"]
        layout = ["--stereo", "side-by-side", "--span", "180", "--eye", "right"]
        run(
            "view",
            tmp_path / "lr.png",
            tmp_path / "v.png",
            *graphs["up"],
            *layout,
            *more,
            "--foreign",
            "--tile",
            "8",
            "--overwrite",
        )
        found, wanted = pixels(tmp_path / "v.png"), expected(whole, view)
        apart = np.abs(found - wanted).max(axis=2)
        assert np.mean(apart > 1.51) <= 0.03  # pixels at the edge blend with black there and repeat here
        assert (found.max() == 0) == (view.yaw == 180)


def test_mistakes_end_in_one_line(
    tmp_path: Path, graphs: dict[str, tuple[str, str]], make_graph: GraphMaker, eyes: list[Image8]
) -> None:
    blind = str(make_graph("down", name="blind.onnx"))
    odd, pair, lr = tmp_path / "odd.png", tmp_path / "pair.png", tmp_path / "lr.png"
    Image.fromarray(eyes[0][:61]).save(odd)
    Image.fromarray(np.concatenate(eyes)).save(pair)
    run("downscale", pair, lr, *graphs["down"], "--stereo", "top-bottom")
    for command, source, more, message in (
        (
            "downscale",
            odd,
            ["--stereo", "top-bottom"],
            "--stereo: a top-bottom pair has two eyes of one size, found 126 x 61",
        ),
        ("downscale", pair, ["--span", "0"], "'--span': 0.0 is not in the range"),
        ("downscale", pair, ["--span", "180", "--model", blind], "does not say how far it sees"),
        ("upscale", lr, ["--stereo", "side-by-side"], "--stereo: expected top-bottom, as which"),
        ("upscale", lr, ["--span", "180"], "--span: expected 360, as which"),
        ("upscale", lr, ["--size", "126x121"], "--size: expected 125x122 to 126x124 (width x height), found 126x121"),
        (
            "view",
            pair,
            ["--eye", "right", "--foreign"],
            "--eye: expected a stereo pair, found mono, 360 degrees across",
        ),
    ):
        model = graphs["down" if command == "downscale" else "up"]
        result = CliRunner().invoke(main, [command, str(source), str(tmp_path / "x.png"), *model, *more])
        assert result.exit_code == 2 and message in result.stderr, result.output
        assert result.stderr.count("error:") == 1 and not (tmp_path / "x.png").exists()
    wrong = tmp_path / "wrong.webp"
    Image.fromarray(eyes[0][:61]).save(wrong, lossless=True, xmp=gpano(StereoMode="top-bottom"))
    result = CliRunner().invoke(main, ["downscale", str(wrong), str(tmp_path / "x.png"), *graphs["down"]])
    assert result.exit_code == 0 and "its metadata are wrong: a top-bottom pair" in result.stderr
