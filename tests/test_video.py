"""`python -m engines downscale-video | upscale-video` on small clips with sound, made here from real panoramas."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from conftest import GraphMaker

from engines.cli import main
from engines.support.arrays import Image8

av = pytest.importorskip("av", reason="needs the package av (PyAV)")
ROOT = Path(__file__).parents[1]
TIMES = [0, 40, 80, 200, 240, 300]  # milliseconds: a variable frame rate


@pytest.fixture
def models(make_graph: GraphMaker) -> dict[str, Path]:
    """Toy graphs of scale 2 that carry a checkpoint's hash."""
    metadata = {"scale": "2", "checkpoint_sha256": "ab" * 32}
    return {kind: make_graph(kind, metadata=metadata) for kind in ("down", "up")}


def write_clip(path: Path, image: Image8, times: list[int], size: tuple[int, int] = (64, 128)) -> Path:
    """A turning panorama with a tone, lossless."""
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264rgb", rate=25, options={"qp": "0"})
        video.height, video.width, video.pix_fmt = *size, "bgr24"
        video.codec_context.time_base = video.time_base = Fraction(1, 1000)
        sound = out.add_stream("pcm_s16le", rate=8000)
        for number, at in enumerate(times):
            turned = np.roll(image, 16 * number, axis=1)[100 : 100 + size[0], : size[1]]
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(turned), format="rgb24").reformat(format="bgr24")
            frame.pts, frame.time_base = at, Fraction(1, 1000)
            out.mux(video.encode(frame))
        tone = (8000 * np.sin(np.arange(2400) / 5)).astype(np.int16)[None]
        samples = av.AudioFrame.from_ndarray(tone, format="s16", layout="mono")
        samples.sample_rate, samples.pts = 8000, 0
        out.mux(sound.encode(samples))
        out.mux(video.encode(None))
        out.mux(sound.encode(None))
    return path


def read_clip(path: Path) -> tuple[list[int], np.ndarray, bytes]:
    """Times in milliseconds, frames (n, H, W, 3), and the sound's samples."""
    with av.open(str(path)) as clip:
        frames = [(round(1000 * frame.time), frame.to_ndarray(format="rgb24")) for frame in clip.decode(video=0)]
    with av.open(str(path)) as clip:
        sound = b"".join(bytes(frame.to_ndarray()) for frame in clip.decode(audio=0))
    return [at for at, _ in frames], np.stack([frame for _, frame in frames]), sound


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.mark.parametrize("codec", ["ffv1", "x264"])
def test_there_and_back(tmp_path: Path, models: dict[str, Path], forest: Image8, codec: str) -> None:
    clip = write_clip(tmp_path / "in.mkv", forest, TIMES)
    lr, hr = tmp_path / "lr.mkv", tmp_path / "hr.mkv"
    result = run("downscale-video", clip, lr, "--model", models["down"], "--codec", codec)
    assert result.exit_code == 0 and "6 frames of 128x64" in result.stdout, result.output
    times, frames, sound = read_clip(lr)
    _, original, tone = read_clip(clip)
    assert times == TIMES and sound == tone and len(tone) > 4000
    means = original.reshape(6, 32, 2, 64, 2, 3).mean(axis=(2, 4))
    assert np.abs(frames - means).max() <= 0.51  # lossless: rounded, and nothing else
    result = run("upscale-video", lr, hr, "--model", models["up"], "--crf", 1)
    assert result.exit_code == 0 and result.stderr == "", result.output
    times, restored, sound = read_clip(hr)
    assert times == TIMES and sound == tone and restored.shape == original.shape
    assert np.abs(restored - frames.repeat(2, 1).repeat(2, 2).astype(int)).mean() < 3  # H.264, 4:2:0


@pytest.mark.parametrize("space", [1, 5])
def test_colours_of_a_tagged_video(tmp_path: Path, models: dict[str, Path], space: int) -> None:
    """4:2:0 video as cameras write it, BT.709 or BT.601: both matrices are undone, and BT.709 is written."""
    orange = np.broadcast_to(np.array([250, 100, 10], np.uint8), (64, 128, 3))
    clip, lr, hr = tmp_path / "in.mp4", tmp_path / "lr.mkv", tmp_path / "hr.mp4"
    with av.open(str(clip), "w") as out:
        video = out.add_stream("libx264", rate=25, options={"crf": "0"})
        video.height, video.width, video.pix_fmt = 64, 128, "yuv420p"
        video.codec_context.colorspace, video.codec_context.color_range = space, 1
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(orange), format="rgb24")
        out.mux(video.encode(frame.reformat(format="yuv420p", dst_colorspace=space)))
        out.mux(video.encode(None))
    assert run("downscale-video", clip, lr, "--model", models["down"]).exit_code == 0
    assert run("upscale-video", lr, hr, "--model", models["up"], "--crf", 1).exit_code == 0
    for path, matrix in ((lr, None), (hr, 1)):
        with av.open(str(path)) as result:
            frame = next(result.decode(video=0))
        assert matrix is None or int(frame.colorspace) == matrix
        found = frame.reformat(format="rgb24", src_colorspace=matrix).to_ndarray().reshape(-1, 3).mean(axis=0)
        assert np.abs(found - orange[0, 0]).max() < 4


def test_foreign_and_wrong_models(
    tmp_path: Path, models: dict[str, Path], forest: Image8, make_graph: GraphMaker
) -> None:
    clip = write_clip(tmp_path / "in.mkv", forest, TIMES[:2])
    lr, hr = tmp_path / "lr.mkv", tmp_path / "hr.mp4"
    result = run("upscale-video", clip, tmp_path / "hr.mkv", "--model", models["up"])
    assert result.exit_code == 0 and "was not made by downscale-video" in result.stderr
    run("downscale-video", clip, lr, "--model", models["down"])
    other = make_graph("up", "other.onnx", {"scale": "2", "checkpoint_sha256": "cd" * 32})
    result = run("upscale-video", lr, hr, "--model", other)
    assert result.exit_code == 2 and "found the model cdcdcdcdcdcd" in result.stderr and not hr.exists()


def test_mistakes_end_in_one_line(tmp_path: Path, models: dict[str, Path], forest: Image8) -> None:
    clip = write_clip(tmp_path / "in.mkv", forest, TIMES[:2])
    (tmp_path / "text.mkv").write_text("hello")
    (tmp_path / "cut.mkv").write_bytes(clip.read_bytes()[:300])
    before = set(tmp_path.iterdir())
    for source, target, message in (
        (
            tmp_path / "none.mkv",
            tmp_path / "lr.mkv",
            "none.mkv: expected a video, a folder or a glob pattern, found no such file",
        ),
        (tmp_path / "text.mkv", tmp_path / "lr.mkv", "text.mkv: cannot be read or written as video"),
        (tmp_path / "cut.mkv", tmp_path / "lr.mkv", "cut.mkv: "),
        (clip, tmp_path / "lr.mp4", "lr.mp4: .mp4 does not hold ffv1"),
        (clip, tmp_path / "lr.gif", "expected a folder or a name that ends in .mkv, .mp4, .mov, found .gif"),
        (clip, clip, "is there already"),
    ):
        result = run("downscale-video", source, target, "--model", models["down"])
        assert result.exit_code == 2 and result.stderr.count("\n") == 1, result.output
        assert message in result.stderr
    assert set(tmp_path.iterdir()) == before


def test_several_videos_go_into_a_folder(tmp_path: Path, models: dict[str, Path], forest: Image8) -> None:
    """A bad one does not stop the others; a second run does what is left; --json says what became of each."""
    clips = [write_clip(tmp_path / name, forest, TIMES[:2]) for name in ("a.mkv", "b.mkv")]
    bad = tmp_path / "bad.mp4"
    bad.write_text("hello")
    out = tmp_path / "lr"
    result = run("downscale-video", *clips, bad, "-o", out, "--model", models["down"])
    assert result.exit_code == 1 and result.stdout.startswith("2 videos, "), result.output
    assert result.stderr.startswith(f"error: {bad}: ") and result.stderr.count("\n") == 1
    assert sorted(path.name for path in out.iterdir()) == ["a.mkv", "b.mkv"]
    bad.unlink()
    write_clip(tmp_path / "c.mkv", forest, TIMES[:1])
    result = run("downscale-video", tmp_path / "*.mkv", out, "--model", models["down"], "--json")
    told = json.loads(result.stdout)
    assert (told["done"], told["skipped"], told["failed"], told["files"][0]["frames"]) == (1, 2, [], 1), result.output
    result = run("upscale-video", out, tmp_path / "hr", "--model", models["up"])
    assert result.exit_code == 0 and len(list((tmp_path / "hr").glob("*.mp4"))) == 3, result.output


def test_a_forgotten_target_overwrites_no_video(tmp_path: Path, models: dict[str, Path], forest: Image8) -> None:
    clips = [write_clip(tmp_path / name, forest, TIMES[:1]) for name in ("a.mkv", "b.mkv")]
    before = clips[1].read_bytes()
    for given in (clips, clips[:1]):
        result = run("downscale-video", *given, "--model", models["down"])
        assert result.exit_code == 2 and result.stderr.count("\n") == 1, result.output
    assert clips[1].read_bytes() == before


def test_an_interrupted_run_leaves_nothing(tmp_path: Path, models: dict[str, Path], forest: Image8) -> None:
    clip = write_clip(tmp_path / "in.mkv", forest, list(range(0, 24000, 40)), (128, 256))
    before = set(tmp_path.iterdir())
    command = [sys.executable, "-m", "engines", "downscale-video", clip, tmp_path / "lr.mkv", "--model", models["down"]]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"}) as job:
        while set(tmp_path.iterdir()) == before and job.poll() is None:
            time.sleep(0.02)
        job.send_signal(signal.SIGINT)
        assert job.wait(60) == 1
    assert set(tmp_path.iterdir()) == before


def seconds_of(path: Path) -> list[Fraction]:
    with av.open(str(path)) as clip:
        return [frame.pts * frame.time_base for frame in clip.decode(video=0)]


def write_film(path: Path, image: Image8, frames: int = 10, times: list[int] | None = None) -> Path:
    """A clip of 24 frames a second whose AAC sound begins before its first frame, as encoders write it."""
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=24, options={"bf": "0"})
        video.height, video.width, video.pix_fmt = 64, 128, "yuv420p"
        if times is not None:
            video.codec_context.time_base = Fraction(1, 24000)
        sound = out.add_stream("aac", rate=48000)
        for number in range(frames):
            turned = np.ascontiguousarray(np.roll(image, 16 * number, axis=1)[100:164, :128])
            frame = av.VideoFrame.from_ndarray(turned, format="rgb24").reformat(format="yuv420p")
            if times is not None:
                frame.pts, frame.time_base = times[number], Fraction(1, 24000)
            out.mux(video.encode(frame))
        for number in range(12):
            samples = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            samples.sample_rate, samples.pts = 48000, 1024 * number
            out.mux(sound.encode(samples))
        out.mux(video.encode(None))
        out.mux(sound.encode(None))
    return path


def test_times_are_kept_to_the_tick(tmp_path: Path, models: dict[str, Path], forest: Image8) -> None:
    """24 frames a second do not fit into Matroska's milliseconds, and the sound begins before the first frame."""
    film = write_film(tmp_path / "in.mp4", forest)
    lr, hr = tmp_path / "lr.mkv", tmp_path / "hr.mp4"
    assert run("downscale-video", film, lr, "--model", models["down"]).stderr == ""
    small = seconds_of(lr)
    assert small[0] == 0 and [round(1000 * at) for at in seconds_of(film)] == [1000 * at for at in small]
    assert run("upscale-video", lr, hr, "--model", models["up"]).stderr == ""
    assert seconds_of(hr) == seconds_of(film) == [Fraction(n, 24) for n in range(10)]
    with av.open(str(hr)) as clip:
        assert clip.streams.video[0].average_rate == 24


def test_times_that_cannot_be_kept_are_told(tmp_path: Path, models: dict[str, Path], forest: Image8) -> None:
    uneven = write_film(tmp_path / "in.mp4", forest, 4, [0, 1007, 2500, 3011])
    result = run("downscale-video", uneven, tmp_path / "lr.mkv", "--model", models["down"])
    assert result.exit_code == 0 and ".mkv counts milliseconds: frames move by up to 0." in result.stderr


def test_two_frames_at_one_time_are_one_line() -> None:
    from engines.panorama.video_times import Clock
    from engines.support.errors import UserError

    class Stream:
        time_base, average_rate, guessed_rate = Fraction(1, 1000), Fraction(25), None

    class Frame:
        def __init__(self, pts: int | None) -> None:
            self.pts, self.time_base = pts, Fraction(1, 1000)

    clock = Clock(Path("in.mkv"), Stream(), None)
    assert [clock.time_of(Frame(pts)) for pts in (0, 40)] == [0, 40]
    with pytest.raises(UserError, match=r"in\.mkv: frame 2: expected a time after .* 0\.0400 s, found 0\.0400 s"):
        clock.time_of(Frame(40))
    untold = Clock(Path("in.h264"), Stream(), None)
    assert [untold.time_of(Frame(None)) for _ in range(3)] == [0, 40, 80]


def packets_of(path: Path) -> list[bytes]:
    """The coded frames, as they are shown one after the other."""
    with av.open(str(path)) as video:
        packets = [(packet.pts, bytes(packet)) for packet in video.demux(video=0) if packet.size]
    return [data for _, data in sorted(packets)]


@pytest.mark.parametrize(("codec", "suffix"), [("ffv1", ".mkv"), ("x264", ".mkv"), ("h264", ".mp4"), ("hevc", ".mov")])
def test_a_damaged_lr_video_is_refused_and_the_frames_named(
    tmp_path: Path, models: dict[str, Path], forest: Image8, codec: str, suffix: str
) -> None:
    clip = write_film(tmp_path / "in.mp4", forest, 6)
    lr, hr = tmp_path / f"lr{suffix}", tmp_path / "hr.mkv"
    assert run("downscale-video", clip, lr, "--model", models["down"], "--codec", codec).exit_code == 0
    packets, whole = packets_of(lr), bytearray(lr.read_bytes())
    assert len(packets) == 6
    if suffix == ".mkv":  # nothing lies behind the Segment, which players would complain of
        at = whole.index(b"\x18\x53\x80\x67") + 12
        assert at + int.from_bytes(whole[at - 7 : at], "big") == len(whole)
    for number in (1, 4):
        whole[whole.index(packets[number]) + len(packets[number]) // 2] ^= 8
    (tmp_path / f"bad{suffix}").write_bytes(whole)
    before = set(tmp_path.iterdir())
    result = run("upscale-video", tmp_path / f"bad{suffix}", hr, "--model", models["up"])
    assert result.exit_code == 2 and f"bad{suffix}: frames 1, 4 are damaged (checksums)" in result.stderr, result.output
    assert result.stderr.count("\n") == 1 and set(tmp_path.iterdir()) == before
    result = run("upscale-video", lr, hr, "--model", models["up"])
    assert result.exit_code == 0 and "checksums" not in result.stderr, result.output


@pytest.mark.parametrize(("codec", "suffix"), [("ffv1", ".mkv"), ("h264", ".mp4")])
def test_checksums_of_an_lr_video_that_are_lost_are_told(
    tmp_path: Path, models: dict[str, Path], forest: Image8, codec: str, suffix: str
) -> None:
    """Frames that are missing, and a file that another program has written anew; FFV1 is checked all the same."""
    clip = write_film(tmp_path / "in.mp4", forest, 6)
    lr, copy = tmp_path / f"lr{suffix}", tmp_path / f"copy{suffix}"
    assert run("downscale-video", clip, lr, "--model", models["down"], "--codec", codec).exit_code == 0
    with av.open(str(lr)) as reading, av.open(str(copy), "w", options={"movflags": "use_metadata_tags"}) as writing:
        writing.metadata.update(reading.metadata)
        stream = writing.add_stream_from_template(reading.streams.video[0])
        for packet in [packet for packet in reading.demux(video=0) if packet.size][:-1]:
            packet.stream = stream
            writing.mux(packet)
    result = run("upscale-video", copy, tmp_path / "hr.mkv", "--model", models["up"])
    assert result.exit_code == 0 and "has lost the checksums at its end" in result.stderr, result.output
    with copy.open("ab") as file:  # those of the whole video
        file.write(lr.read_bytes()[-(8 + 4 + 4 * 6 + 4 + 12) :])
    result = run("upscale-video", copy, tmp_path / "hr2.mkv", "--model", models["up"])
    assert result.exit_code == 2 and "expected 6 frames as written, found 5" in result.stderr, result.output
    if codec == "ffv1":
        packets, whole = packets_of(lr), bytearray(lr.read_bytes())
        whole[whole.index(packets[2]) + len(packets[2]) // 2] ^= 8
        lr.write_bytes(whole[:-4])
        result = run("upscale-video", lr, tmp_path / "hr3.mkv", "--model", models["up"])
        assert result.exit_code == 2 and "frame 2 is damaged (checksums of FFV1)" in result.stderr, result.output


def test_a_video_without_frames_leaves_nothing(tmp_path: Path, models: dict[str, Path], forest: Image8) -> None:
    film = write_film(tmp_path / "in.mp4", forest)
    with av.open(str(film)) as video:
        packets = [bytes(packet) for packet in video.demux(video=0) if packet.size]
    data = film.read_bytes()
    for packet in packets:
        data = data.replace(packet, bytes(len(packet)))
    film.write_bytes(data)
    before = set(tmp_path.iterdir())
    result = run("downscale-video", film, tmp_path / "lr.mkv", "--model", models["down"])
    assert result.exit_code == 2 and result.stderr.count("error: ") == 1
    assert set(tmp_path.iterdir()) == before
