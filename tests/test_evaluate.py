"""`python -m dinn360 evaluate`: every kind of system, the table, the files, and what happens to mistakes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from conftest import GraphMaker
from networks import build, tiny, tiny_hcflow, tiny_irn
from PIL import Image

from dinn360.checkpoint import Checkpoint, save_checkpoint
from dinn360.cli import main
from dinn360.evaluation.evaluate import BANDS, by_latitude, high_frequency, markdown, score
from dinn360.evaluation.evaluate import Result as Evaluation
from dinn360.evaluation.metrics import luma, ws_psnr
from dinn360.evaluation.published import SETS, published
from dinn360.evaluation.systems import BASELINES, Interpolation
from engines.support.arrays import Image8
from engines.support.images import write_png


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, forest: Image8, courtyard: Image8) -> Path:
    """Two small panoramas, one of odd size, and a file that is no image."""
    folder = tmp_path_factory.mktemp("panoramas")
    write_png(folder / "a.png", np.ascontiguousarray(forest[200:264, :128]))
    write_png(folder / "b.png", np.ascontiguousarray(courtyard[200:263, 100:226]))
    (folder / "broken.png").write_bytes(b"no image")
    return folder


@pytest.fixture(scope="module")
def ckpt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    network = build(tiny(2), std=0.01)
    path = tmp_path_factory.mktemp("weights") / "x2.pth"
    save_checkpoint(path, Checkpoint(network.config, network.state_dict(), {}))
    return path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["evaluate", *map(str, arguments)])


def refused(*arguments: object) -> str:
    result = run(*arguments)
    assert result.exit_code == 2 and result.stderr.splitlines()[-1].startswith("error: "), result.output
    return result.stderr.splitlines()[-1]


def test_every_kind_of_system_is_a_row(tmp_path: Path, data: Path, ckpt: Path, make_graph: GraphMaker) -> None:
    down, up = make_graph("down"), make_graph("up")
    systems = ["--baselines", "all", "--ckpt", ckpt, "--rescaler", down, up, "--upscaler", up]
    done = run("--data", data, *systems, "--out", tmp_path / "out", "--published", "SUN360", "--per-panorama")
    assert done.exit_code == 0, done.output
    rows = [line.split("|")[1].strip() for line in done.stdout.splitlines() if line.startswith("|")]
    assert all(name in rows for name in (*BASELINES, "bicubic & up", "down.onnx + up.onnx", "DINN360 custom (x2.pth)"))
    assert "*published:* IRN" in rows and "42.72 ± 2.73" in done.stdout and "a.png" in rows
    assert "broken.png" in done.stderr

    values = json.loads((tmp_path / "out" / "results.json").read_text())["systems"]
    # `up` repeats pixels after bicubic or after its own box mean; both are exact definitions, so all figures agree
    image = np.asarray(Image.open(data / "a.png"))
    lr = Interpolation("bicubic", 2).shrink(image)
    expected = ws_psnr(luma(lr.repeat(2, 0).repeat(2, 1)), luma(image))
    assert values["bicubic & up"]["panoramas"]["a.png"]["psnr_y"] == pytest.approx(expected, abs=1e-9)
    assert values["bicubic"]["mean"]["lr_psnr"] is None and values["down.onnx + up.onnx"]["mean"]["lr_psnr"] > 20
    both = [values["bicubic"]["panoramas"][name]["psnr_rgb"] for name in ("a.png", "b.png")]
    assert values["bicubic"]["mean"]["psnr_rgb"] == pytest.approx(np.mean(both))
    assert values["bicubic"]["std"]["psnr_rgb"] == pytest.approx(np.std(both))
    assert (tmp_path / "out" / "results.md").read_text().strip() in done.stdout
    for name in ("latitude.png", "closeups.png"):
        picture = np.asarray(Image.open(tmp_path / "out" / name).convert("L"))
        assert picture.shape[1] > 400 and picture.std() > 10


def test_json_is_json_with_a_row_for_every_architecture(data: Path, ckpt: Path, tmp_path: Path) -> None:
    options: list[object] = []
    for config in (tiny_irn(2), tiny_hcflow(2)):
        path = tmp_path / f"{config.architecture}.pth"
        save_checkpoint(path, Checkpoint(config, build(config).state_dict()))
        options += ["--ckpt", path]
    done = run("--data", data, "--ckpt", ckpt, *options, "--json")
    rows = {"bicubic", "DINN360 custom (x2.pth)", "IRN custom (irn.pth)", "HCFlow custom (hcflow.pth)"}
    assert set(json.loads(done.stdout)["systems"]) == rows


def test_mistakes_end_in_one_line(tmp_path: Path, data: Path, ckpt: Path, make_graph: GraphMaker) -> None:
    up = make_graph("up")
    assert "--scale: expected one scale" in refused("--data", data)
    assert "scales 2, 4" in refused("--data", data, "--ckpt", ckpt, "--scale", 4)
    assert "found 'cubic'" in refused("--data", data, "--ckpt", ckpt, "--baselines", "cubic")
    assert "at least one system" in refused("--data", data, "--scale", 2, "--baselines", "none")
    assert "none.onnx" in refused("--data", data, "--scale", 2, "--upscaler", tmp_path / "none.onnx")
    assert "expected an output of (1, 3, 64, 128), found (1, 3, 32, 64)" in refused(
        "--data", data, "--scale", 4, "--upscaler", up
    )
    assert "scale 4" in refused("--data", data, "--scale", 4, "--rescaler", make_graph("down"), up)
    assert "bicubic among" in refused("--data", data, "--ckpt", ckpt, "--baselines", "none", "--per-panorama")
    assert "expected a folder" in refused("--data", tmp_path / "none", "--ckpt", ckpt)
    (tmp_path / "file").touch()
    assert "found a file" in refused("--data", data, "--ckpt", ckpt, "--out", tmp_path / "file")


def test_bands_partition_the_sphere(forest: Image8) -> None:
    y = luma(forest)
    squares = (y - y.mean()) ** 2
    # each band alone: pixels outside it are zero, so the other bands are, and weights add up to WS-PSNR's
    for band in (0, 4, BANDS - 1):
        rows = np.arange(len(y)) * BANDS // len(y) == band
        only = by_latitude(squares * rows[:, None])
        assert only[band] > 0 and np.count_nonzero(only) == 1
        assert only[band] == pytest.approx(by_latitude(squares)[band])
    assert by_latitude(np.full((64, 8), 3.0)) == pytest.approx(np.full(BANDS, 3.0))


def test_detail_is_what_a_block_mean_loses() -> None:
    flat = np.full((36, 16, 3), 90, np.uint8)
    assert high_frequency(flat, 2) == pytest.approx(np.zeros(BANDS), abs=1e-18)
    stripes = flat.copy()
    stripes[16:20, ::2] += 60  # on the equator only
    detail = high_frequency(stripes, 2)
    assert detail.argmax() == BANDS // 2 and np.count_nonzero(detail > 1e-9) == 1


def test_a_perfect_system_and_the_table() -> None:
    image = np.random.default_rng(0).integers(0, 256, (32, 64, 3), dtype=np.uint8)
    lr = Interpolation("bicubic", 2).shrink(image)
    perfect = score(image, lr, image, 2, True)
    assert perfect.psnr_y == np.inf and perfect.ssim_rgb == pytest.approx(1) and perfect.lr_psnr == np.inf
    finite = replace(perfect, psnr_y=40.0, psnr_rgb=38.0, lr_psnr=50.0)
    other = replace(finite, psnr_y=42.0)
    text = markdown([Evaluation("ours", {"a": finite, "b": other}, np.ones(BANDS))], 2)
    assert text.splitlines()[-1] == (
        "| ours | 41.00 ± 1.00 | 100.00 ± 0.00 | 38.00 ± 0.00 | 100.00 ± 0.00 | 50.00 ± 0.00 | 100.00 ± 0.00 |"
    )


def test_published_rows_keep_the_slides_gains() -> None:
    """The slides print DINN360's gain over HCFlow beside the table; our copy of the table gives the same."""
    for scale, least, most in ((2, 0.19, 0.67), (4, 0.24, 0.57), (8, 0.35, 0.74)):
        gains = [published(scale, s)["DINN360"].psnr - published(scale, s)["HCFlow"].psnr for s in SETS]
        assert (min(gains), max(gains)) == (pytest.approx(least), pytest.approx(most))
    assert [len(published(scale, "ODISR")) for scale in (2, 4, 8, 3)] == [10, 10, 11, 0]
