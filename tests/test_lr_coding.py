"""LR files with losses: what downscale writes and refuses, and what upscale says of the files people bring back."""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from conftest import GraphMaker
from PIL import Image, JpegImagePlugin
from test_rescale_commands import done, refused, samples

from dinn360.codec.coders import Coder
from dinn360.evaluation.metrics import luma
from engines.panorama.coding import UNKNOWN, Survives, coarseness_of, jpeg_quality, read_coding
from engines.panorama.sources import open_source
from engines.panorama.video import LOSSY
from engines.support.arrays import Image8
from engines.support.errors import UserError

HASH = "ab" * 32
PICTURE_JS = (Path(__file__).parents[1] / "export" / "web" / "module" / "picture.js").read_bytes()
CODEC = {"codec": "jpeg", "codec_quality": "50:95", "codec_chroma": "4:2:0,4:4:4"}


@pytest.fixture
def lossless(make_graph: GraphMaker) -> dict[str, Path]:
    """Toy graphs that stand for a model without a codec."""
    return {kind: make_graph(kind, None, {"scale": "2", "checkpoint_sha256": HASH}) for kind in ("down", "up")}


@pytest.fixture
def aware(make_graph: GraphMaker) -> dict[str, Path]:
    """Toy graphs that stand for a model trained through JPEG."""
    metadata = {"scale": "2", "checkpoint_sha256": HASH, **CODEC}
    return {kind: make_graph(kind, f"{kind}-jpeg.onnx", metadata) for kind in ("down", "up")}


@pytest.fixture
def panorama(tmp_path: Path, forest: Image8) -> Path:
    path = tmp_path / "in.png"
    Image.fromarray(forest[100:197, :194]).save(path)
    return path


def recode(path: Path, target: Path, **options: object) -> Path:
    """The file again as somebody's program would save it, metadata kept."""
    with Image.open(path) as image:
        image.save(target, xmp=image.info["xmp"], **options)
    return target


@pytest.mark.parametrize(
    ("name", "quality", "written"),
    [("lr.jpg", 90, "JPEG 4:4:4 of quality 90"), ("lr.jpg", None, "JPEG 4:4:4 of quality 95"), ("lr.avif", 80, "AVIF")],
)
def test_a_model_without_a_codec_writes_4_4_4_and_says_what_it_costs(
    tmp_path: Path, lossless: dict[str, Path], panorama: Path, name: str, quality: int | None, written: str
) -> None:
    lr, hr = tmp_path / name, tmp_path / "hr.png"
    given = ("--quality", quality) if quality else ()
    told = done("downscale", panorama, lr, "--model", lossless["down"], *given).stderr
    assert told.count("\n") == 1 and written in told and "costs" in told
    source = open_source(lr)
    assert source.coding.chroma == "4:4:4" and not source.coding.lossless
    assert source.record is not None and (source.record.width, source.record.height) == (194, 97)
    assert done("upscale", lr, hr, "--model", lossless["up"]).stderr == ""
    assert Image.open(hr).size == (194, 97)
    exact = tmp_path / "lr.png"
    done("downscale", panorama, exact, "--model", lossless["down"])
    assert 0 < np.abs(samples(lr).astype(int) - samples(exact)).mean() < 6


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("lr.jpg", ("--subsampling", "420"), "JPEG 4:2:0 destroys what the LR image of this model hides"),
        ("lr.avif", ("--subsampling", "420", "--lossy"), "AVIF 4:2:0 destroys"),
        ("lr.webp", ("--quality", "95", "--lossy"), "lossy WebP, which knows only 4:2:0 destroys"),
        ("lr.webp", ("--subsampling", "444"), "lossy WebP knows only 4:2:0"),
        ("lr.jpg", ("--quality", "89"), "--quality: "),
        ("lr.png", ("--subsampling", "420"), "expected a lossy format (JPEG, AVIF) for 4:2:0, found PNG"),
        ("lr.jpg", ("--quality", "101"), "101 is not in the range"),
        ("lr.jpg", ("--quality", "good"), "'good' is not a valid integer"),
    ],
)
def test_what_would_destroy_the_hidden_detail_is_refused(
    tmp_path: Path, lossless: dict[str, Path], panorama: Path, name: str, options: tuple[str, ...], message: str
) -> None:
    assert message in refused("downscale", panorama, tmp_path / name, "--model", lossless["down"], *options)
    assert not (tmp_path / name).exists()


def test_insisting_on_a_low_quality(tmp_path: Path, lossless: dict[str, Path], panorama: Path) -> None:
    lr = tmp_path / "lr.jpg"
    done("downscale", panorama, lr, "--model", lossless["down"], "--quality", 60, "--lossy")
    assert str(open_source(lr).coding) == "JPEG 4:4:4 of quality 60"
    told = done("upscale", lr, tmp_path / "hr.png", "--model", lossless["up"]).stderr
    assert told.count("\n") == 1 and "below the 90 that this model bears" in told


def test_a_recompressed_file_is_told_by_its_tables(tmp_path: Path, lossless: dict[str, Path], panorama: Path) -> None:
    lr, up = tmp_path / "lr.jpg", ("--model", lossless["up"], "--overwrite")
    done("downscale", panorama, lr, "--model", lossless["down"])
    for options, words in (
        ({"quality": 95, "subsampling": 2}, "JPEG 4:2:0 of quality 95: the halved colours have lost"),
        ({"quality": 91, "subsampling": 0}, "JPEG 4:4:4 of quality 91, and was written as JPEG 4:4:4 of quality 95"),
        ({"quality": 40, "subsampling": 0}, "JPEG 4:4:4 of quality 40, below the 90"),
    ):
        again = recode(lr, tmp_path / "again.jpg", **options)
        told = done("upscale", again, tmp_path / "hr.png", *up).stderr
        assert told.count("\n") == 1 and words in told
    with Image.open(lr) as image:
        image.save(tmp_path / "bare.jpg", quality=95, subsampling=0)
    told = done("upscale", tmp_path / "bare.jpg", tmp_path / "hr.png", *up).stderr
    assert "downscale did not make this image" in told.splitlines()[0]


def test_a_model_for_jpeg_writes_4_2_0(tmp_path: Path, aware: dict[str, Path], panorama: Path) -> None:
    lr, up = tmp_path / "lr.jpg", ("--model", aware["up"], "--overwrite")
    assert done("downscale", panorama, lr, "--model", aware["down"], "--quality", 75).stderr == ""
    assert str(open_source(lr).coding) == "JPEG 4:2:0 of quality 75"
    assert done("upscale", lr, tmp_path / "hr.png", *up).stderr == ""
    again = recode(lr, tmp_path / "again.jpg", quality=30)
    told = done("upscale", again, tmp_path / "hr.png", *up).stderr
    assert told.count("\n") == 1 and "below what the model was trained for (jpeg 4:2:0 and 4:4:4, quality 50" in told
    told = done("downscale", panorama, tmp_path / "low.jpg", "--model", aware["down"], "--quality", 20).stderr
    assert "below what the model was trained for" in told
    for name in ("lr.webp", "lr.avif"):
        done("downscale", panorama, tmp_path / name, "--model", aware["down"], "--quality", 70)
        assert open_source(tmp_path / name).coding.chroma == "4:2:0"
        assert done("upscale", tmp_path / name, tmp_path / "hr.png", *up).stderr == ""
        assert Image.open(tmp_path / "hr.png").size == (194, 97)


def test_cmyk(tmp_path: Path, lossless: dict[str, Path], panorama: Path) -> None:
    with Image.open(panorama) as image:
        image.convert("CMYK").save(tmp_path / "cmyk.jpg")
    told = done("upscale", tmp_path / "cmyk.jpg", tmp_path / "hr.png", "--model", lossless["up"], "--foreign").stderr
    assert told.count("\n") == 1 and "CMYK is converted to RGB" in told


@pytest.mark.parametrize("quality", [1, 49, 75, 95, 100])
def test_quality_from_tables(tmp_path: Path, forest: Image8, quality: int) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(forest[:64, :64]).save(path, quality=quality, subsampling=1)
    with Image.open(path) as image:
        assert isinstance(image, JpegImagePlugin.JpegImageFile)
        assert jpeg_quality(image.quantization) == quality
        found = read_coding(image, path)
        assert found.chroma == "4:2:2"
        assert found.coarseness == np.log2(np.mean(image.quantization[0])) == coarseness_of("JPEG", quality)
    assert web_coarseness(path) == pytest.approx(found.coarseness)


def web_coarseness(path: Path) -> float:
    """What the web page's module reads of a file."""
    if shutil.which("node") is None:
        pytest.skip("Node.js is not installed")
    script = (
        f"import {{ readCoarseness }} from 'data:text/javascript;base64,{base64.b64encode(PICTURE_JS).decode()}';"
        "import { readFileSync } from 'node:fs';"
        f"console.log(readCoarseness(new Uint8Array(readFileSync({str(path)!r}))));"
    )
    told = subprocess.run(["node", "--input-type=module", "-e", script], capture_output=True, text=True, check=True)
    return float(told.stdout)


def test_coarseness_of_other_codecs_is_what_the_record_tells(
    tmp_path: Path, aware: dict[str, Path], panorama: Path
) -> None:
    for name, quality in (("a.avif", 60), ("a.webp", 70)):
        done("downscale", panorama, tmp_path / name, "--model", aware["down"], "--quality", quality)
        found = open_source(tmp_path / name).coding.coarseness
        assert found == coarseness_of(name[2:].upper(), quality) != UNKNOWN
    with Image.open(tmp_path / "a.avif") as image:  # without the record
        image.save(tmp_path / "b.avif", quality=60)
    assert open_source(tmp_path / "b.avif").coding.coarseness == UNKNOWN
    assert open_source(panorama).coding.coarseness == 0


@pytest.mark.parametrize("codec", ["webp", "avif", "hevc", "h264", "av1"])
def test_equal_coarseness_is_an_equal_error_of_luma(codec: str, courtyard: Image8) -> None:
    """The figures of other codecs are fitted to four panoramas of another place; here they hold to a step of 1.7."""
    image = np.asarray(Image.fromarray(courtyard).resize((256, 128), Image.Resampling.BICUBIC))

    def error(coder: Coder, quality: int) -> float:
        return float(np.sqrt(np.mean((luma(coder.round_trip(image, quality)[0]) - luma(image)) ** 2)))

    jpeg = [(Coder("jpeg").coarseness(quality), error(Coder("jpeg"), quality)) for quality in (98, 95, 90, 75, 50, 30)]
    for quality in (60, 80):
        alike = np.interp(np.log(error(Coder(codec), quality)), np.log([e for _, e in jpeg]), [c for c, _ in jpeg])
        assert Coder(codec).coarseness(quality) == pytest.approx(alike, abs=0.75)


@pytest.mark.parametrize(
    ("kind", "options", "expected"),
    [
        ("webp", {"lossless": True}, "lossless WEBP"),
        ("webp", {"quality": 80}, "WEBP 4:2:0"),
        ("avif", {}, "AVIF 4:2:0"),
        ("avif", {"subsampling": "4:2:2"}, "AVIF 4:2:2"),
        ("avif", {"subsampling": "4:4:4"}, "AVIF 4:4:4"),
        ("png", {}, "lossless PNG"),
        ("tiff", {}, "lossless TIFF"),
    ],
)
def test_how_a_file_is_coded(tmp_path: Path, forest: Image8, kind: str, options: dict, expected: str) -> None:
    path = tmp_path / f"a.{kind}"
    Image.fromarray(forest[:64, :64]).save(path, xmp=b"<x>VP8L av1C</x>" if kind != "tiff" else None, **options)
    with Image.open(path) as image:
        assert str(read_coding(image, path)) == expected


@pytest.mark.parametrize("wrong", [{"codec_quality": "high"}, {"codec_chroma": "4:1:1"}, {"codec_chroma": ""}])
def test_broken_metadata_of_a_graph(wrong: dict[str, str]) -> None:
    with pytest.raises(UserError, match="a.onnx: expected the metadata codec_quality and codec_chroma"):
        Survives.of({**CODEC, **wrong}, "a.onnx")
    assert Survives.of({"scale": "2"}, "a.onnx") is None


av = pytest.importorskip("av", reason="needs the package av (PyAV)")


@pytest.fixture
def clip(tmp_path: Path, forest: Image8) -> Path:
    """Four frames of a turning panorama, 128 x 64, lossless."""
    with av.open(str(tmp_path / "in.mkv"), "w") as out:
        video = out.add_stream("ffv1", rate=25)
        video.height, video.width, video.pix_fmt = 64, 128, "bgr0"
        for number in range(4):
            turned = np.ascontiguousarray(np.roll(forest[100:164, :128], 8 * number, axis=1))
            out.mux(video.encode(av.VideoFrame.from_ndarray(turned, format="rgb24").reformat(format="bgr0")))
        out.mux(video.encode(None))
    return tmp_path / "in.mkv"


@pytest.mark.parametrize(("codec", "suffix"), [("h264", "mkv"), ("hevc", "mp4")])
def test_a_clip_with_losses_is_4_4_4(
    tmp_path: Path, lossless: dict[str, Path], clip: Path, codec: str, suffix: str
) -> None:
    lr, hr = tmp_path / f"lr.{suffix}", tmp_path / "hr.mkv"
    told = done("downscale-video", clip, lr, "--model", lossless["down"], "--codec", codec, "--crf", 10).stderr
    assert f"{codec} 4:4:4 of CRF 10 costs part" in told
    with av.open(str(lr)) as video:
        assert video.streams.video[0].codec_context.pix_fmt == "yuv444p"
    assert done("upscale-video", lr, hr, "--model", lossless["up"]).stderr == ""


@pytest.mark.parametrize("codec", ["h264", "hevc", "av1"])
def test_a_clip_of_a_model_for_a_codec_is_4_2_0(
    tmp_path: Path, aware: dict[str, Path], lossless: dict[str, Path], clip: Path, codec: str
) -> None:
    lr, hr = tmp_path / "lr.mkv", tmp_path / "hr.mkv"
    assert done("downscale-video", clip, lr, "--model", aware["down"], "--codec", codec).stderr == ""
    if hasattr(os, "sched_getscheduler"):
        assert os.sched_getscheduler(0) == os.SCHED_OTHER  # SVT-AV1 makes root's processes real-time ones
    with av.open(str(lr)) as video:
        assert video.streams.video[0].codec_context.pix_fmt == "yuv420p"
    assert done("upscale-video", lr, hr, "--model", aware["up"]).stderr == ""
    told = done("upscale-video", lr, hr, "--model", lossless["up"], "--overwrite").stderr
    assert "the halved colours have lost what the LR image hides" in told


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--codec", "h264", "--subsampling", "420"), "4:2:0 destroys what the LR video of this model hides"),
        (("--codec", "av1"), "av1 knows only 4:2:0 here"),
        (("--codec", "ffv1", "--crf", "5"), "--crf: expected the codec h264, hevc, av1, found ffv1"),
        (("--codec", "hevc", "--crf", "60"), "--crf: expected 0 to 51 with hevc, found 60"),
    ],
)
def test_mistakes_with_clips(
    tmp_path: Path, lossless: dict[str, Path], clip: Path, options: tuple[str, ...], message: str
) -> None:
    assert message in refused("downscale-video", clip, tmp_path / "lr.mkv", "--model", lossless["down"], *options)
    assert not (tmp_path / "lr.mkv").exists()


def test_an_encoder_that_is_missing(
    tmp_path: Path, lossless: dict[str, Path], clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(LOSSY, "hevc", ("libmissing", (1, 1), {}))
    options = ("--model", lossless["down"], "--codec", "hevc")
    assert "has no encoder libmissing" in refused("downscale-video", clip, tmp_path / "lr.mkv", *options)
    assert not (tmp_path / "lr.mkv").exists()


def test_a_clip_whose_codec_is_missing(tmp_path: Path, aware: dict[str, Path], clip: Path) -> None:
    content = clip.read_bytes()
    assert content.count(b"V_FFV1") == 1
    unknown = tmp_path / "unknown.mkv"
    unknown.write_bytes(content.replace(b"V_FFV1", b"V_ABC1"))
    for command, kind in (("downscale-video", "down"), ("upscale-video", "up")):
        told = refused(command, unknown, tmp_path / "out.mkv", "--model", aware[kind])
        assert "unknown.mkv: expected a video of a codec that PyAV decodes here, found another" in told
        assert not (tmp_path / "out.mkv").exists()


def test_files_that_no_model_made(tmp_path: Path, aware: dict[str, Path], panorama: Path) -> None:
    """A foreign JPEG and a CMYK one, for a model that was trained through JPEG: one line for each matter."""
    with Image.open(panorama) as image:
        image.save(tmp_path / "bare.jpg", quality=80)
        image.convert("CMYK").save(tmp_path / "cmyk.jpg")
    up = ("--model", aware["up"], "--overwrite")
    told = done("upscale", tmp_path / "bare.jpg", tmp_path / "hr.png", *up).stderr.splitlines()
    assert "downscale did not make this image" in told[0] and all(line.startswith("warning: ") for line in told)
    assert done("upscale", tmp_path / "bare.jpg", tmp_path / "hr.png", *up, "--foreign").stderr == ""
    told = done("upscale", tmp_path / "cmyk.jpg", tmp_path / "hr.png", *up, "--foreign").stderr.splitlines()
    assert len(told) == 1 and "CMYK is converted to RGB" in told[0]
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "bare.jpg").read_bytes()[:2000])
    assert "cut.jpg" in refused("upscale", tmp_path / "cut.jpg", tmp_path / "hr.png", *up)
