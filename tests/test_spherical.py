"""Video that stays 360: Google's boxes, V1 and V2, survive both directions, and ffmpeg finds them in the result."""

from __future__ import annotations

import base64
import json
import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import GraphMaker
from exported import released

from engines.cli import main
from engines.panorama.layout import Layout
from engines.panorama.matroska import placeholder, read_projection, write_projection
from engines.panorama.spherical import Boxes, read_boxes, write_boxes
from engines.support.arrays import Image8
from engines.support.errors import UserError

av = pytest.importorskip("av", reason="needs the package av (PyAV)")

XML = (
    b'<?xml version="1.0"?><rdf:SphericalVideo xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" '
    b'xmlns:GSpherical="http://ns.google.com/videos/1.0/spherical/"><GSpherical:Spherical>true</GSpherical:Spherical>'
    b"<GSpherical:Stitched>true</GSpherical:Stitched><GSpherical:ProjectionType>equirectangular"
    b"</GSpherical:ProjectionType><GSpherical:FullPanoWidthPixels>128</GSpherical:FullPanoWidthPixels>"
    b"</rdf:SphericalVideo>"
)


def box(kind: bytes, *bodies: bytes) -> bytes:
    body = b"".join(bodies)
    return struct.pack(">I4s", 8 + len(body), kind) + body


ZERO = bytes(4)  # version and flags


def v2(tool: bytes) -> bytes:
    """A pair, the left eye on top, turned by 90 degrees."""
    projection = box(b"proj", box(b"prhd", ZERO, struct.pack(">3i", 90 << 16, 0, 0)), box(b"equi", ZERO, bytes(16)))
    return box(b"st3d", ZERO, b"\x01") + box(b"sv3d", box(b"svhd", ZERO, tool + b"\0"), projection)


V2 = v2(b"test")
BOXES = Boxes(box(b"uuid", bytes.fromhex("ffcc8263f8554a938814587a02521fdd"), XML), V2)


def write_clip(path: Path, image: Image8) -> Path:
    with av.open(str(path), "w") as out:
        sound = out.add_stream("aac", rate=8000)
        video = out.add_stream("libx264", rate=25, options={"crf": "10"})
        video.height, video.width, video.pix_fmt = 64, 128, "yuv420p"
        for number in range(4):
            turned = np.ascontiguousarray(np.roll(image, 16 * number, axis=1)[100:164, :128])
            out.mux(video.encode(av.VideoFrame.from_ndarray(turned, format="rgb24").reformat(format="yuv420p")))
        samples = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        samples.sample_rate = 8000
        out.mux(sound.encode(samples))
        out.mux(video.encode(None))
        out.mux(sound.encode(None))
    return path


def frames(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as clip:
        return [frame.to_ndarray(format="rgb24") for frame in clip.decode(video=0)]


def seen_by_ffmpeg(path: Path) -> set[str]:
    """What ffmpeg's demuxer hands on with a frame."""
    with av.open(str(path)) as clip:
        return {data.type.name for data in next(clip.decode(video=0)).side_data.keys()}  # noqa: SIM118


@pytest.mark.parametrize("suffix", ["mp4", "mov"])
def test_boxes_come_and_go_and_the_video_stays(tmp_path: Path, forest: Image8, suffix: str) -> None:
    clip = write_clip(tmp_path / f"clip.{suffix}", forest)
    before = frames(clip)
    assert read_boxes(clip) == Boxes()
    write_boxes(clip, BOXES)
    assert read_boxes(clip) == BOXES
    assert all(np.array_equal(one, other) for one, other in zip(before, frames(clip), strict=True))
    with av.open(str(clip)) as opened:
        assert len(opened.streams.audio) == 1 and len(opened.streams.video) == 1


def test_there_and_back(tmp_path: Path, forest: Image8, make_graph: GraphMaker) -> None:
    metadata = {"scale": "2", "checkpoint_sha256": "ab" * 32}
    models = {kind: str(make_graph(kind, metadata=metadata)) for kind in ("down", "up")}
    clip = write_clip(tmp_path / "clip.mp4", forest)
    write_boxes(clip, BOXES)
    for lr, hr in (("lr.mkv", "hr-mkv.mp4"), ("lr.mp4", "hr-mp4.mp4"), ("lr.mkv", "hr.mkv")):
        codec = ["--codec", "x264"] if lr.endswith("mp4") else []
        for command, source, target, more in (
            ("downscale-video", "clip.mp4", lr, ["--model", models["down"], *codec]),
            ("upscale-video", lr, hr, ["--model", models["up"]]),
        ):
            words = [command, str(tmp_path / source), str(tmp_path / target), "--overwrite", *more]
            result = CliRunner().invoke(main, words)
            assert result.exit_code == 0, result.output
    assert read_boxes(tmp_path / "hr-mp4.mp4") == BOXES  # sizes in pixels, too, are those of the original
    assert b"FullPanoWidthPixels>64<" in read_boxes(tmp_path / "lr.mp4").uuid
    through = read_boxes(tmp_path / "hr-mkv.mp4")
    assert through == Boxes(BOXES.uuid, v2(b"dinn360"))  # what Matroska does not say is the tool
    for name in ("lr.mkv", "hr-mkv.mp4", "hr.mkv"):
        assert {"SPHERICAL", "STEREO3D"} <= seen_by_ffmpeg(tmp_path / name)


@pytest.mark.parametrize("stereo", [1, 2, 4])
def test_matroska_says_what_mp4_says(tmp_path: Path, forest: Image8, stereo: int) -> None:
    """Projection and StereoMode are written into a file in which nothing else moves; a checker of ffmpeg's agrees."""
    boxes, clip = half(stereo), tmp_path / "clip.mkv"
    with av.open(str(clip), "w") as out:
        video = out.add_stream("ffv1", rate=25)
        video.height, video.width, video.pix_fmt = 60, 60, "bgr0"
        video.metadata["title"] = placeholder(boxes)
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(forest[:60, :60]), format="rgb24")
        out.mux([*video.encode(frame.reformat(format="bgr0")), *video.encode(None)])
    before, size = frames(clip), clip.stat().st_size
    assert read_projection(clip) == Boxes()
    write_projection(clip, boxes)
    assert clip.stat().st_size == size and np.array_equal(before, frames(clip))
    found = read_projection(clip)
    assert found.layout() == boxes.layout() and found.entry[:13] == boxes.entry[:13]
    assert {"SPHERICAL", "STEREO3D"} <= seen_by_ffmpeg(clip)
    with av.open(str(clip), options={"err_detect": "crccheck+explode"}) as opened:
        assert "title" not in opened.streams.video[0].metadata
    with pytest.raises(UserError, match="room for its projection"):
        write_projection(clip, boxes)
    if shutil.which("ffprobe"):
        command = ["ffprobe", "-v", "error", "-show_streams", "-of", "json", str(clip)]
        told = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)["streams"][0][
            "side_data_list"
        ]
        spherical = next(one for one in told if one["side_data_type"] == "Spherical Mapping")
        assert spherical["projection"] in ("equirectangular", "tiled equirectangular")
    for wrong in (b"", b"hello", clip.read_bytes()[:40], b"\x1aE\xdf\xa3" + bytes(20)):
        (tmp_path / "wrong.mkv").write_bytes(wrong)
        assert read_projection(tmp_path / "wrong.mkv") == Boxes()


def test_the_tag_of_older_files_is_read(tmp_path: Path, forest: Image8, make_graph: GraphMaker) -> None:
    tag = ":".join(base64.b64encode(part).decode() for part in (BOXES.uuid, BOXES.entry))
    assert Boxes.from_text(tag) == BOXES
    with av.open(str(tmp_path / "old.mkv"), "w") as out:
        out.metadata["DINN360_SPHERICAL"] = tag
        video = out.add_stream("ffv1", rate=25)
        video.height, video.width, video.pix_fmt = 64, 64, "bgr0"
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(forest[:64, :64]), format="rgb24")
        out.mux([*video.encode(frame.reformat(format="bgr0")), *video.encode(None)])
    model = str(make_graph("up"))
    words = ["upscale-video", str(tmp_path / "old.mkv"), str(tmp_path / "new.mp4"), "--model", model, "--foreign"]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0 and read_boxes(tmp_path / "new.mp4").entry == BOXES.entry, result.output


def half(stereo: int) -> Boxes:
    """VR180, or an equirectangular pair all around, by V2; V1 says something else and does not count."""
    quarter = 0 if stereo == 1 else 2**30
    projection = box(b"equi", ZERO, struct.pack(">4I", 0, 0, quarter, quarter))
    sv3d = box(b"sv3d", box(b"svhd", ZERO, b"\0"), box(b"proj", box(b"prhd", ZERO, bytes(12)), projection))
    return Boxes(BOXES.uuid, box(b"st3d", ZERO, bytes([stereo])) + sv3d)


def write_lossless(path: Path, pictures: list[Image8]) -> Path:
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264rgb", rate=25, options={"qp": "0"})
        video.height, video.width, video.pix_fmt = *pictures[0].shape[:2], "bgr24"
        for picture in pictures:
            out.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        out.mux(video.encode(None))
    return path


@pytest.mark.parametrize("stereo, axis, span", [(1, 0, 360), (2, 1, 180)])
def test_each_eye_is_what_it_is_alone(
    tmp_path: Path, forest: Image8, courtyard: Image8, stereo: int, axis: int, span: int
) -> None:
    """Down and back, told by the boxes; alone by the option."""
    models = {kind: str(released("x2") / f"{kind}.onnx") for kind in ("down", "up")}
    eyes = [[np.ascontiguousarray(image[a : a + 62, 40:100]) for a in (100, 101)] for image in (courtyard, forest)]

    def there_and_back(name: str, pictures: list[Image8], boxes: Boxes, more: list[str]) -> tuple[list, list]:
        clip, lr, hr = (tmp_path / f"{name}{suffix}" for suffix in (".mp4", "-lr.mkv", "-hr.mp4"))
        write_boxes(write_lossless(clip, pictures), boxes)
        for command, source, target, model in (("downscale-video", clip, lr, "down"), ("upscale-video", lr, hr, "up")):
            words = [command, str(source), str(target), "--model", models[model], "--threads", "1", *more]
            result = CliRunner().invoke(main, [*words, *(["--crf", "0"] if model == "up" else [])])
            assert result.exit_code == 0, result.output
        assert read_boxes(hr).layout() == boxes.layout()
        return frames(lr), frames(hr)

    pairs = [np.concatenate(both, axis) for both in zip(*eyes, strict=True)]
    lr, hr = there_and_back("pair", pairs, half(stereo), [])
    alone = [there_and_back(str(n), eye, Boxes(), ["--span", str(span)]) for n, eye in enumerate(eyes)]
    for frame in range(2):
        assert np.array_equal(lr[frame], np.concatenate([one[0][frame] for one in alone], axis))
        apart = np.abs(hr[frame].astype(int) - np.concatenate([one[1][frame] for one in alone], axis))
        assert hr[frame].shape == pairs[0].shape
        beside = slice(apart.shape[axis] // 2 - 4, apart.shape[axis] // 2 + 4)  # 4:2:0 blurs colours across the border
        assert not np.delete(apart, beside, axis).any()


def test_what_boxes_say() -> None:
    assert BOXES.layout() == half(1).layout() == Layout("top-bottom")
    assert half(2).layout() == half(4).layout() == Layout("side-by-side", 180)
    crop = XML.replace(
        b"<GSpherical:Full", b"<GSpherical:StereoMode>left-right</GSpherical:StereoMode><GSpherical:Full"
    )
    crop += b"<GSpherical:CroppedAreaImageWidthPixels> 32 </GSpherical:CroppedAreaImageWidthPixels>"
    assert Boxes(box(b"uuid", BOXES.uuid[8:24], crop)).layout() == Layout("side-by-side", 90)
    assert Boxes().layout() is None and Boxes().projection == "" and BOXES.projection == "equirectangular"
    mesh = box(b"sv3d", box(b"svhd", ZERO, b"\0"), box(b"proj", box(b"prhd", ZERO, bytes(12)), box(b"mshp", bytes(12))))
    assert Boxes(b"", mesh).projection == "mesh" and not Boxes(b"", mesh).layout().wraps  # type: ignore[union-attr]


def test_files_that_are_none(tmp_path: Path, forest: Image8) -> None:
    (tmp_path / "text.mp4").write_bytes(b"hello")
    (tmp_path / "moov.mp4").write_bytes(box(b"ftyp", b"isom") + box(b"moov", box(b"mvhd", ZERO)))
    clip = write_clip(tmp_path / "clip.mp4", forest)
    whole = clip.read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) - 100])
    (tmp_path / "behind.mp4").write_bytes(whole + box(b"free", ZERO))
    for name, message in (
        ("text.mp4", "found no moov box"),
        ("cut.mp4", "found no moov box"),
        ("moov.mp4", "expected a video track"),
        ("behind.mp4", "found data behind it"),
    ):
        content = (tmp_path / name).read_bytes()
        assert read_boxes(tmp_path / name) == Boxes() == Boxes.from_text("no boxes")
        with pytest.raises(UserError, match=message):
            write_boxes(tmp_path / name, BOXES)
        assert (tmp_path / name).read_bytes() == content
