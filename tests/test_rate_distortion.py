"""Quality at equal bytes: curves, gains and ranges by hand, and the commands on small panoramas and clips."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from networks import build, tiny, tiny_flat
from PIL import Image

from benchmarks import codec_release
from benchmarks import rate_distortion as benchmark
from dinn360.checkpoint import Checkpoint, save_checkpoint
from dinn360.cli import main
from dinn360.codec.coders import Coder
from dinn360.codec.layer import Plan
from dinn360.evaluation import equal_bytes
from dinn360.evaluation.clips import curves_of, flicker, measure_clips, turned, turning
from dinn360.evaluation.metrics import luma, psnr, ws_psnr
from dinn360.evaluation.rate_distortion import DIRECT, LOSSLESS, Curve, Point, gains, in_words, measure, winners
from dinn360.evaluation.systems import Decoder, Interpolation, Network, reference_lr
from engines.support.arrays import Image8

pytest.importorskip("bjontegaard")


def curve(system: str, *points: tuple[float, float]) -> Curve:
    return Curve(system, "JPEG 4:2:0", tuple(Point(50, bits, psnr, psnr, None, None) for bits, psnr in points))


@pytest.fixture
def small(courtyard: Image8) -> Image8:
    return np.asarray(Image.fromarray(courtyard).resize((256, 128), Image.Resampling.LANCZOS))


@pytest.fixture
def folder(tmp_path: Path, small: Image8) -> Path:
    (tmp_path / "data").mkdir()
    Image.fromarray(small).save(tmp_path / "data" / "courtyard.png")
    return tmp_path / "data"


STRAIGHT = curve("a", (0.1, 30.0), (0.2, 33.0), (0.4, 36.0), (0.8, 39.0))  # 3 dB an octave


def test_gains_by_hand() -> None:
    """A curve 1 dB higher needs 2^(-1/3) of the bytes; one shifted by an octave is 3 dB better."""
    higher = curve("b", *((p.bits, p.psnr_y + 1) for p in STRAIGHT.points))
    cheaper = curve("c", *((p.bits / 2, p.psnr_y) for p in STRAIGHT.points))
    found = {gain.system: gain for gain in gains([STRAIGHT, higher, cheaper], ["a"])}
    assert found["b"].psnr == pytest.approx(1, abs=1e-6) and found["b"].files == pytest.approx(1, abs=1e-6)
    assert found["b"].rate == pytest.approx(100 * (2 ** (-1 / 3) - 1), abs=1e-3)
    assert found["c"].psnr == pytest.approx(3, abs=1e-6) and found["c"].rate == pytest.approx(-50, abs=1e-3)
    assert found["c"].files == pytest.approx(3, abs=1e-6)


def test_the_full_picture_at_the_bytes_of_a_lossless_lr_file() -> None:
    """Between two files, below the smallest, beyond the largest, and the sentence that a reader takes away."""

    def stored(bits: float, psnr: float) -> Curve:
        return Curve("x4", LOSSLESS, (Point(100, bits, psnr, psnr, None, None),))

    jpeg = curve(DIRECT, (0.1, 30.0), (0.4, 36.0))
    small, middle, large = equal_bytes.compare([jpeg, stored(0.05, 35.0), stored(0.2, 31.7), stored(0.8, 36.5)])
    assert [full.psnr_y for full in (*small.full, *middle.full, *large.full)] == [None, pytest.approx(33.0), 36.0]
    assert (middle.full[0].share, large.full[0].share) == (1.0, 0.5)
    text = equal_bytes.markdown([small, middle, large], 8e6)
    assert "| x4, lossless WebP | 0.200 | 200 | 31.70 | 33.00 |" in text and "36.00 at 50% of them" in text
    assert "x4: at the bytes of its lossless LR file the full picture is better as JPEG 4:2:0." in text
    assert text.count("no codec here is better") == 2 and "nothing to compare" in equal_bytes.markdown([], 1e6)


def test_what_cannot_be_compared_is_left_open() -> None:
    apart = curve("b", (0.9, 50.0), (1.0, 51.0), (2.0, 52.0))
    short = curve("c", (0.1, 30.0), (0.2, 31.0))
    found = {gain.system: gain for gain in gains([STRAIGHT, apart, short], ["a"])}
    assert found["b"].rate is None and found["b"].files is None and found["c"].psnr is None


def test_points_that_cost_more_and_are_worse_do_not_count() -> None:
    bent = curve("b", (0.1, 30.0), (0.2, 29.0), (0.3, 31.0))
    assert bent.rising()[0].tolist() == [0.1, 0.3]
    assert bent.at(np.array([0.05, 0.1, 0.3]))[1:].tolist() == [30.0, 31.0] and math.isnan(bent.at(np.array([0.05]))[0])


def test_ranges_by_hand() -> None:
    """Two lines that cross at 0.2 bits."""
    direct = curve(DIRECT, (0.1, 29.0), (0.8, 29.0 + 3 * 4))
    ranges = winners([direct, STRAIGHT], "JPEG 4:2:0")
    assert [name for _, _, name in ranges] == ["a", DIRECT]
    assert ranges[0][0] == pytest.approx(0.1) and ranges[0][1] == pytest.approx(0.2, rel=0.02)
    assert ranges[1][1] == pytest.approx(0.8)
    longer = curve(DIRECT, (0.1, 29.0), (3.2, 29.0 + 5 * 4))
    assert winners([longer, STRAIGHT], "JPEG 4:2:0")[-1][1] == pytest.approx(0.8, rel=0.02)  # alone beyond: no winner
    assert in_words([STRAIGHT]) == []
    assert in_words([direct, STRAIGHT])[0].startswith("JPEG 4:2:0, bits per HR pixel: a from 0.1 to 0.")


def test_measured_files_are_real_files(small: Image8) -> None:
    coder, pair = Coder("jpeg"), Interpolation("bicubic", 2)
    curves = measure([pair], {"a": small}, [coder], [40, 90], ssim=False)
    assert [c.system for c in curves] == [DIRECT, "bicubic"]
    assert [p.quality for p in curves[0].points] == [5, 10, 20, 40, 90] and len(curves[1].points) == 2
    for found, system in zip(curves, (None, pair), strict=True):
        for point, quality in zip(found.points[-2:], (40, 90), strict=True):
            lr = small if system is None else system.shrink(small)
            seen, size = coder.round_trip(lr, quality)
            hr = seen if system is None else system.grow(seen, (128, 256))
            assert point.bits == 8 * size / (128 * 256) and point.psnr_y == ws_psnr(luma(hr), luma(small))
    assert curves[0].points[-2].bits > curves[1].points[0].bits


def test_a_turned_camera(small: Image8) -> None:
    columns = 8
    turn = turned(small, 360 * columns / 256, 0)
    assert np.abs(turn.astype(int) - np.roll(small, -columns, axis=1)).max() <= 1
    nodding = turned(turned(small, 0, 5), 0, -5)
    assert ws_psnr(nodding, small) > 25  # twice interpolated
    smooth = np.broadcast_to(np.linspace(255, 0, 128)[:, None, None], (128, 256, 3)).round().astype(np.uint8)
    up = turned(smooth, 0, 10)  # looking up by 10 degrees: the middle column shows what lay 10 degrees higher
    assert np.abs(up[40:90, 128, 0].astype(int) - smooth[40 - 7 : 90 - 7, 128, 0]).max() <= 3


def test_flicker_by_hand(small: Image8) -> None:
    grey = [np.full_like(small, 100)] * 3
    assert flicker(grey, [frame + 10 for frame in grey]) == 0  # wrong, but steadily
    blinking = [np.full_like(small, 100 + 10 * (n % 2)) for n in range(3)]
    assert flicker(grey, blinking) == pytest.approx(10 * 219 / 255, rel=1e-6)


def test_clips(small: Image8) -> None:
    pytest.importorskip("av")
    frames = turning(small, 4)
    found = measure_clips([Interpolation("bicubic", 2)], frames, [Coder("hevc")], [30, 60, 90], ssim=False)
    assert set(found) == {(DIRECT, "HEVC 4:2:0"), ("bicubic", "HEVC 4:2:0")}
    for clips in found.values():
        assert [c.point.quality for c in clips] == [30, 60, 90]
        assert clips[0].point.psnr_y < clips[2].point.psnr_y and clips[0].point.bits < clips[2].point.bits
        assert all(0 < c.flicker < 20 for c in clips)
    assert {c.system for c in curves_of(found)} == {DIRECT, "bicubic"}


def test_evaluate_through_a_codec(tmp_path: Path, folder: Path) -> None:
    out = tmp_path / "out"
    network = build(tiny())
    ckpt = tmp_path / "small.pth"
    save_checkpoint(ckpt, Checkpoint(network.config, network.state_dict()))
    given = ("--data", folder, "--ckpt", ckpt, "--baselines", "bicubic", "--codec", "jpeg-420,webp", "--quality")
    result = CliRunner().invoke(main, ["evaluate", *map(str, given), "40,60,80", "--no-ssim", "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert "| bicubic | JPEG 4:2:0 | full picture |" in result.stdout and "bits per HR pixel: " in result.stdout
    values = json.loads((out / "rate_distortion.json").read_text())
    assert values["panoramas"] == ["courtyard.png"] and len(values["curves"]) == 7
    (mine,) = values["at_lossless_bytes"]
    assert [full["codec"] for full in mine["full"]] == ["JPEG 4:2:0", "WebP 4:2:0"] and mine["bits"] > 1
    assert (
        f"| {mine['system']}, lossless WebP | {mine['bits']:.3f} | {mine['bits'] * 128 * 256 / 8e3:.0f} |"
        in result.stdout
    )
    assert Image.open(out / "rate_distortion.png").size[0] > 400
    for option, value, message in (
        ("--quality", "0,50", "--quality: expected whole"),
        ("--codec", "gif", "expected some"),
    ):
        arguments = ["evaluate", "--data", str(folder), "--scale", "2", "--codec", "jpeg", option, value]
        result = CliRunner().invoke(main, arguments)
        assert result.exit_code == 2 and message in result.stderr.splitlines()[-1]


def test_the_benchmark(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plot = tmp_path / "curves.png"
    given = [
        "--data",
        folder,
        "--scale",
        2,
        "--codec",
        "jpeg-444",
        "--quality",
        "50,70,90",
        "--no-ssim",
        "--plot",
        plot,
    ]
    monkeypatch.setattr(sys, "argv", ["rate_distortion", *map(str, given)])
    benchmark.main()
    told = capsys.readouterr().out
    assert "| lanczos | JPEG 4:4:4 | bicubic |" in told and "Panoramas: courtyard.png." in told and plot.exists()
    monkeypatch.setattr(sys, "argv", ["rate_distortion", "--data", str(folder), "--codec", "jpeg"])
    with pytest.raises(SystemExit, match="error: --scale: expected one scale for all systems, found none"):
        benchmark.main()


def test_goals_by_hand() -> None:
    """A curve 1 dB above the anchor leads by 1 dB; the least lead of one that crosses another lies at the end."""
    jpeg = codec_release.JPEG
    ours = curve("ours", *((p.bits, p.psnr_y + 1) for p in STRAIGHT.points))
    assert codec_release.mean_gain([STRAIGHT, ours], "ours", "a", jpeg) == pytest.approx(1)
    assert codec_release.mean_gain([STRAIGHT, ours], "ours", "b", jpeg) is None
    steeper = curve("b", (0.1, 29.0), (0.8, 29.0 + 3 * 4))
    lead, where = codec_release.least_gain(STRAIGHT, steeper, 0.4)
    assert lead == pytest.approx(-1, abs=0.03) and where == " from 0.10 to 0.40 bits"
    assert codec_release.least_gain(STRAIGHT, steeper, 0.05) == (None, "")
    assert codec_release.Goal("t", 1.5, 1.4).row() == ["t", "at least +1.50 dB", "+1.40 dB", "no"]
    assert codec_release.Goal("t", -2.0, -1.4).row()[3] == "yes" and codec_release.Goal("t", 1.0, None).row()[3] == "–"


def test_a_release_is_measured_by_one_command(
    tmp_path: Path, folder: Path, small: Image8, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("av")
    network = build(tiny_flat(2, untie=True, dst=False, deform=False), 1, 0.02)
    provenances = {
        "aware": {"codec": Plan("jpeg", 50, 95, "mixed").metadata()},
        "behind": {"training": {"downscaler": "bicubic"}},
        "plain": {},
    }
    for name, provenance in provenances.items():
        save_checkpoint(tmp_path / f"{name}.pth", Checkpoint(network.config, network.state_dict(), provenance))
    assert isinstance(Network.load(tmp_path / "behind.pth"), Decoder)
    assert not isinstance(Network.load(tmp_path / "aware.pth"), Decoder)
    sheet, plot = tmp_path / "sheet.png", tmp_path / "plot.png"
    given = ["codec_release", "--ckpt", tmp_path / "aware.pth", "--lossless", tmp_path / "plain.pth", "--data", folder]
    given += ["--rival", tmp_path / "aware.pth"]
    drawn = ["--decoder", tmp_path / "behind.pth", "--sheet", sheet, "--plot", plot, "--quality", "50,75,90"]
    monkeypatch.setattr(sys, "argv", [*map(str, given), *map(str, drawn)])
    codec_release.main()
    told = capsys.readouterr().out
    rows = {
        line.split(" | ")[0].removeprefix("| "): line.split(" | ")[1:] for line in told.splitlines() if " | " in line
    }
    system, pair = Network(network, "aware"), Interpolation("bicubic", 2)
    lr, hr = system(small)
    assert rows["LR image against bicubic, the least of three files"][1] == f"{psnr(lr, reference_lr(small, 2)):.2f} dB"
    assert rows[f"LR untouched ({ws_psnr(luma(hr), luma(small)):.2f} dB) over the lossless model"][1] == "+0.00 dB"
    curves = measure([pair, system], {"a": small}, [Coder("avif")], [20, 35, 50, 65, 75, 85, 90, 98], ssim=False)
    ladder = [p for c in curves if c.system == "bicubic" for p in c.points]
    files = [p for c in curves if c.codec == "AVIF 4:2:0" and c.system == "aware" for p in c.points]
    over = [
        p.psnr_y
        - np.interp(np.log(p.bits), np.log([a.bits for a in ladder]), np.maximum.accumulate([a.psnr_y for a in ladder]))
        for p in files
        if p.quality in (50, 75, 90)
    ]
    assert float(rows["AVIF 4:2:0, never trained on, over the bicubic pair"][1].split()[0]) == pytest.approx(
        np.mean(over), abs=0.1
    )
    assert rows["AVIF 4:4:4 over WebP of the full picture, least up to 0.6 bits"][0] == "at least +0.00 dB"
    files_of = {line.split(" | ")[0].removeprefix("| ") for line in told.splitlines() if "JPEG 4:2:0 | 75 |" in line}
    rival = f"{network.config.name} ({tmp_path.name})"
    assert {"aware", "plain.pth", "bicubic & decoder of behind.pth", rival, "bicubic", "lanczos"} < files_of
    assert Image.open(sheet).size[0] > 4 * 64 and plot.exists()
    given[2] = tmp_path / "plain.pth"
    monkeypatch.setattr(sys, "argv", list(map(str, given)))
    with pytest.raises(SystemExit, match="plain.pth: expected a checkpoint trained through a codec, found a lossless"):
        codec_release.main()
