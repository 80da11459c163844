"""`python -m engines downscale | upscale`: files and folders, what travels with them, and what happens to mistakes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from conftest import GraphMaker
from exported import released
from PIL import Image, ImageCms

from engines.cli import main
from engines.panorama.metadata import read_metadata
from engines.panorama.png import PngWriter
from engines.panorama.sources import open_source
from engines.support.arrays import Image8

ROOT = Path(__file__).parents[1]
GPANO = """<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:GPano="http://ns.google.com/photos/1.0/panorama/"
 GPano:ProjectionType="equirectangular" GPano:FullPanoWidthPixels="{width}" GPano:CroppedAreaLeftPixels="6"
 GPano:PoseHeadingDegrees="87.5"><GPano:FullPanoHeightPixels>{height}</GPano:FullPanoHeightPixels>
</rdf:Description></rdf:RDF></x:xmpmeta>"""


@pytest.fixture
def models(make_graph: GraphMaker) -> dict[str, Path]:
    """Toy graphs of scale 2 that carry a checkpoint's hash."""
    metadata = {"scale": "2", "checkpoint_sha256": "ab" * 32}
    return {kind: make_graph(kind, metadata=metadata) for kind in ("down", "up")}


@pytest.fixture
def panorama(tmp_path: Path, forest: Image8) -> Path:
    path = tmp_path / "in.png"
    Image.fromarray(forest[200:217, :34]).save(path)  # 34 x 17: 2:1, and no multiple of the scale
    return path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def done(*arguments: object) -> Result:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result


def refused(*arguments: object) -> str:
    """The one line of the error."""
    result = run(*arguments)
    lines = result.stderr.splitlines()
    assert result.exit_code == 2 and lines[-1].startswith("error: "), result.output
    assert all(line.startswith("warning: ") for line in lines[:-1])
    return lines[-1]


def samples(path: Path) -> np.ndarray:
    source = open_source(path)
    try:
        return source.rows(0, source.height)
    finally:
        source.close()


def test_a_real_panorama_there_and_back(tmp_path: Path, courtyard: Image8) -> None:
    source, lr, hr = tmp_path / "in.png", tmp_path / "lr.png", tmp_path / "hr.png"
    original = np.asarray(Image.fromarray(courtyard).resize((387, 193), Image.Resampling.LANCZOS))
    Image.fromarray(original).save(source)
    graphs = released("x2")
    result = done("downscale", source, lr, "--model", graphs / "down.onnx", "--threads", 1, "--tile", "32x64")
    assert "1 panorama, 0.1 megapixels in" in result.stdout and "megapixels/s" in result.stdout
    assert Image.open(lr).size == (194, 97)
    assert done("upscale", lr, hr, "--model", graphs / "up.onnx", "--threads", 1, "--tile", "32x64").stderr == ""
    restored = samples(hr)
    assert restored.shape == original.shape
    bicubic = np.asarray(Image.fromarray(original).resize((194, 97), 3).resize((387, 193), 3))
    errors = [np.square(x.astype(float) - original).mean() for x in (restored, bicubic)]
    assert errors[0] < errors[1] / 2  # 3 dB better than interpolation


def test_the_file_says_what_it_is(tmp_path: Path, models: dict[str, Path], panorama: Path) -> None:
    lr, hr = tmp_path / "lr.png", tmp_path / "hr.png"
    done("downscale", panorama, lr, "--model", models["down"])
    record = open_source(lr).record
    assert record is not None
    assert (record.scale, record.model, record.width, record.height, record.bits) == (2, "ab" * 32, 34, 17, 8)
    assert done("upscale", lr, hr, "--model", models["up"]).stderr == ""
    assert Image.open(hr).size == (34, 17)
    assert open_source(hr).record is None


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif"])
def test_every_lossless_format_carries_the_record(
    tmp_path: Path, models: dict[str, Path], panorama: Path, suffix: str
) -> None:
    lr = tmp_path / f"lr{suffix}"
    done("downscale", panorama, lr, "--model", models["down"])
    assert done("upscale", lr, tmp_path / "hr.png", "--model", models["up"]).stderr == ""
    assert Image.open(tmp_path / "hr.png").size == (34, 17)


def test_another_model_is_refused(
    tmp_path: Path, models: dict[str, Path], panorama: Path, make_graph: GraphMaker
) -> None:
    lr, hr = tmp_path / "lr.png", tmp_path / "hr.png"
    done("downscale", panorama, lr, "--model", models["down"])
    other = make_graph("up", "other.onnx", {"scale": "2", "checkpoint_sha256": "cd" * 32})
    message = refused("upscale", lr, hr, "--model", other)
    assert "lr.png: was downscaled by the model abababababab, found the model cdcdcdcdcdcd" in message
    four = make_graph("up", "four.onnx", {"scale": "4", "checkpoint_sha256": "ab" * 32})
    assert "was downscaled by 2, the model upscales by 4" in refused("upscale", lr, hr, "--model", four)
    assert "expected an upscaling graph" in refused("upscale", lr, hr, "--model", models["down"])
    assert not hr.exists()
    assert done("upscale", lr, hr, "--model", other, "--foreign").stderr == ""


def test_foreign_edited_and_resized_images(tmp_path: Path, models: dict[str, Path], panorama: Path) -> None:
    lr, hr = tmp_path / "lr.png", tmp_path / "hr.png"
    upscale = ("--model", models["up"], "--overwrite")
    assert "downscale did not make this image" in done("upscale", panorama, hr, *upscale).stderr
    assert done("upscale", panorama, hr, *upscale, "--foreign").stderr == ""

    done("downscale", panorama, lr, "--model", models["down"])
    text = open_source(lr).record
    assert text is not None
    edited = samples(lr).copy()
    edited[3, 4, 1] ^= 1
    with lr.open("wb") as file:
        writer = PngWriter(file, edited.shape[:2], 3, 8, [])
        writer.write(edited)
        writer.finish([(b"tEXt", b"DINN360\0" + text.to_text().encode())])
    assert "recompressed or edited" in done("upscale", lr, hr, *upscale).stderr
    assert Image.open(hr).size == (34, 17)

    Image.open(panorama).resize((36, 18)).save(tmp_path / "b.png")
    done("downscale", tmp_path / "b.png", tmp_path / "b.webp", "--model", models["down"])
    with Image.open(tmp_path / "b.webp") as image:
        image.resize((8, 4)).save(tmp_path / "c.webp", lossless=True, xmp=image.info["xmp"])
    assert "was resized after downscale" in done("upscale", tmp_path / "c.webp", hr, *upscale).stderr
    assert Image.open(hr).size == (16, 8)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
def test_exif_photo_sphere_and_profile_travel(
    tmp_path: Path, models: dict[str, Path], forest: Image8, suffix: str
) -> None:
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "Maker", 1
    exif.get_ifd(0x8769).update({0xA002: 32, 0xA003: 16, 0x9003: "2026:11:24 12:00:00"})
    exif.get_ifd(0x8825).update({1: "N"})
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    source, lr, hr = tmp_path / "in.jpg", tmp_path / "lr.png", tmp_path / f"hr{suffix}"
    xmp = GPANO.format(width=32, height=16).encode()
    Image.fromarray(forest[:16, :32]).save(source, exif=exif, xmp=xmp, icc_profile=profile)
    done("downscale", source, lr, "--model", models["down"])
    done("upscale", lr, hr, "--model", models["up"])
    for path, (width, height) in ((lr, (16, 8)), (hr, (32, 16))):
        with Image.open(path) as image:
            found, tags = read_metadata(image), image.getexif()
        details = tags.get_ifd(0x8769)
        assert tags[0x010F] == "Maker" and tags.get_ifd(0x8825)[1] == "N"
        assert (details[0xA002], details[0xA003], details[0x9003]) == (width, height, "2026:11:24 12:00:00")
        assert found.icc == profile
        packet = (found.xmp or b"").decode()
        assert f'GPano:FullPanoWidthPixels="{width}"' in packet
        assert f"<GPano:FullPanoHeightPixels>{height}<" in packet
        assert 'GPano:PoseHeadingDegrees="87.5"' in packet
        assert f'GPano:CroppedAreaLeftPixels="{3 if path == lr else 6}"' in packet


def test_a_photograph_that_lies_on_its_side(tmp_path: Path, models: dict[str, Path], forest: Image8) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn it clockwise
    for name in ("in.png", "in.webp"):
        Image.fromarray(forest[:16, :32]).rotate(90, expand=True).save(tmp_path / name, exif=exif, lossless=True)
        done("downscale", tmp_path / name, tmp_path / "lr.png", "--model", models["down"], "--overwrite")
        means = forest[:16, :32].reshape(8, 2, 16, 2, 3).mean(axis=(1, 3))
        assert np.abs(samples(tmp_path / "lr.png") - means).max() <= 0.51
        with Image.open(tmp_path / "lr.png") as image:
            assert image.getexif()[0x0112] == 1


def test_alpha_and_16_bits(tmp_path: Path, models: dict[str, Path], forest: Image8) -> None:
    colour = forest[:32, :64].astype(np.uint16) * 257
    alpha = np.full((32, 64, 1), 65535, np.uint16)
    alpha[8:16, 10:30] = 0
    source, lr, hr = tmp_path / "in.png", tmp_path / "lr.png", tmp_path / "hr.tif"
    with source.open("wb") as file:
        writer = PngWriter(file, (32, 64), 4, 16, [])
        writer.write(np.concatenate([colour, alpha], axis=2))
        writer.finish([])
    done("downscale", source, lr, "--model", models["down"])
    small = samples(lr)
    assert small.dtype == np.uint16 and small.shape == (16, 32, 4)
    assert small[5, 8, 3] == 0 and small[0, 0, 3] == 65535
    done("upscale", lr, hr, "--model", models["up"])
    back = samples(hr)
    assert back.dtype == np.uint16 and back.shape == (32, 64, 4)
    assert back[12, 20, 3] == 0 and back[28, 40, 3] == 65535
    done("downscale", source, tmp_path / "eight.png", "--model", models["down"], "--bits", 8)
    assert samples(tmp_path / "eight.png").dtype == np.uint8
    assert "JPEG" in refused("upscale", lr, tmp_path / "hr.jpg", "--model", models["up"])


def test_folders_resume_and_report(tmp_path: Path, models: dict[str, Path], panorama: Path) -> None:
    folder, out = tmp_path / "photos", tmp_path / "photos" / "lr"
    (folder / "deep").mkdir(parents=True)
    for name in ("a.png", "deep/b.png"):
        (folder / name).write_bytes(panorama.read_bytes())
    (folder / "bad.png").write_bytes(panorama.read_bytes()[:200])
    (folder / "notes.txt").write_text("no image")
    result = run("downscale", folder, out, "--model", models["down"])
    assert result.exit_code == 1 and "2 panoramas" in result.stdout and "1 failed" in result.stdout
    assert result.stderr.count("error:") == 1 and "bad.png: the image is truncated or corrupt" in result.stderr
    assert {str(p.relative_to(out)) for p in out.rglob("*.png")} == {"a.png", "deep/b.png"}

    before = (out / "a.png").stat().st_mtime_ns
    (folder / "bad.png").write_bytes(panorama.read_bytes())
    again = done("downscale", folder, out, "--model", models["down"])
    assert "1 panorama," in again.stdout and "2 there already" in again.stdout
    assert (out / "a.png").stat().st_mtime_ns == before
    assert "3 panoramas" in done("downscale", folder, out, "--model", models["down"], "--overwrite").stdout
    assert "2 panoramas" in done("downscale", folder / "*.png", tmp_path / "glob", "--model", models["down"]).stdout


def test_names_that_would_collide(tmp_path: Path, models: dict[str, Path], panorama: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for suffix in (".png", ".jpg"):
        Image.open(panorama).save(folder / f"a{suffix}")
    message = refused("downscale", folder, tmp_path / "out", "--model", models["down"])
    assert "a.jpg and" in message and "would both become" in message and not (tmp_path / "out").exists()


def test_mistakes_end_in_one_line(tmp_path: Path, models: dict[str, Path], panorama: Path, forest: Image8) -> None:
    model = ("--model", models["down"])
    out = tmp_path / "out.png"
    bomb = tmp_path / "bomb.gif"
    bomb.write_bytes(b"GIF89a\xff\xff\xff\xff\x80\0\0\0\0\0\xff\xff\xff,\0\0\0\0\xff\xff\xff\xff\0\x02\x02D\x01\0;")
    before = set(tmp_path.rglob("*"))
    assert "none.png: expected an image, a folder or a glob pattern" in refused(
        "downscale", tmp_path / "none.png", out, *model
    )
    assert "*.tif: expected an image" in refused("downscale", tmp_path / "*.tif", tmp_path / "many", *model)
    assert "expected at most" in refused("downscale", bomb, out, *model)
    assert "does not exist" in refused("downscale", panorama, tmp_path / "none" / "out.png", *model)
    assert "cannot write" in refused("downscale", panorama, "/proc/out.png", *model)
    assert "out.txt: expected a folder or a name" in refused("downscale", panorama, tmp_path / "out.txt", *model)
    assert "is the source itself" in refused("downscale", panorama, panorama, *model, "--overwrite")
    assert "there already" in refused("downscale", panorama, panorama, *model)
    assert "--tile" in refused("downscale", panorama, out, *model, "--tile", "0x4")
    assert "has no tile data" in refused("downscale", panorama, out, *model, "--tile", "8x8")
    assert "found no such file" in refused("downscale", panorama, out, "--model", tmp_path / "none.onnx")
    assert set(tmp_path.rglob("*")) == before


def test_one_pixel(tmp_path: Path, models: dict[str, Path]) -> None:
    Image.new("RGB", (1, 1), (9, 8, 7)).save(tmp_path / "in.png")
    result = done("downscale", tmp_path / "in.png", tmp_path / "lr.png", "--model", models["down"])
    assert "expected a 2:1 equirectangular panorama, found 1 x 1" in result.stderr
    done("upscale", tmp_path / "lr.png", tmp_path / "hr.png", "--model", models["up"])
    assert samples(tmp_path / "hr.png").tolist() == [[[9, 8, 7]]]


def test_a_full_disk_leaves_nothing(tmp_path: Path, models: dict[str, Path]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (256, 512, 3)).astype(np.uint8)
    Image.fromarray(noise).save(tmp_path / "in.png")
    before = set(tmp_path.iterdir())
    limit = "import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000)); "
    command = ["downscale", str(tmp_path / "in.png"), str(tmp_path / "lr.png"), "--model", str(models["down"])]
    code = f"{limit}sys.argv = ['engines', *{command!r}]; runpy.run_module('engines', run_name='__main__')"
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 2 and ended.stderr.count("\n") == 1, ended.stderr
    assert "lr.png: cannot write: File too large" in ended.stderr
    assert set(tmp_path.iterdir()) == before


def test_a_file_that_vanishes(
    tmp_path: Path, models: dict[str, Path], panorama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("a.png", "b.png"):
        (folder / name).write_bytes(panorama.read_bytes())
    from engines.commands import images

    work = images.rescale_file

    def first_takes_the_second(*arguments: object) -> object:
        (folder / "b.png").unlink(missing_ok=True)
        return work(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(images, "rescale_file", first_takes_the_second)
    result = run("downscale", folder, tmp_path / "out", "--model", models["down"])
    assert result.exit_code == 1 and "b.png: cannot read: no such file" in result.stderr
    assert (tmp_path / "out" / "a.png").exists()
