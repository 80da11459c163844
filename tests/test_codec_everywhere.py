"""A model for a codec goes where the others go: every lowering, half precision, tiles, batch, report and web.

Its weights are seeded, not trained: what is tested is that its files and graphs are taken for what they are.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from exported import kept_trace
from networks import randomise, tiny_flat
from PIL import Image
from test_rescale_commands import done, samples

from dinn360.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from dinn360.codec.coders import Coder
from dinn360.codec.layer import Plan
from dinn360.evaluation.metrics import luma, ws_psnr
from dinn360.evaluation.validate import downscaled, upscaled
from dinn360.networks import RescalingNetwork, build_network
from dinn360.tiling import tiling
from engines.panorama.coding import Survives
from engines.panorama.sources import open_source
from engines.session import open_session
from engines.support.arrays import Image8
from engines.support.files import sha256_of
from export.cli import main
from export.config import LOWERINGS, ExportConfig
from export.onnx import export_checkpoint, metadata, write_graph
from export.report.contents import gather
from export.web import site as sites
from export.web.site import write_site

PLAN = Plan("jpeg", 50, 95, "mixed")
SURVIVES = Survives("jpeg", 50, 95, ("4:2:0", "4:4:4"), known=True)


@pytest.fixture(scope="module")
def network() -> RescalingNetwork:
    torch.manual_seed(1)
    config = tiny_flat(
        2, untie=True, dst=False, deform=False, luma_details=True, reads_coarseness=True, knows_file=True
    )
    return randomise(build_network(config), 1, 0.02)


@pytest.fixture(scope="module")
def ckpt(network: RescalingNetwork, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("aware") / "x2-codec.pth"
    save_checkpoint(path, Checkpoint(network.config, network.state_dict(), {"codec": PLAN.metadata()}))
    return path


@pytest.fixture(scope="module")
def graphs(network: RescalingNetwork, ckpt: Path) -> dict[str, Path]:
    """The model's folders by kind: each lowering, and the standard one in half precision."""
    folders = {}
    content, digest = load_checkpoint(ckpt), sha256_of(ckpt)
    kinds = {name: ExportConfig(name) for name in LOWERINGS} | {"fp16": ExportConfig("standard", precision="fp16")}
    for name, form in kinds.items():
        folders[name] = ckpt.parent / name
        folders[name].mkdir()
        for direction in ("down", "up"):
            told = metadata(content, digest, direction, form) | tiling(network, direction).metadata()
            write_graph(kept_trace(network, direction, form.opset), direction, form, told, folders[name])
    return folders


@pytest.fixture(scope="module")
def picture(courtyard: Image8) -> Image8:
    return np.asarray(Image.fromarray(courtyard).resize((204, 102), Image.Resampling.LANCZOS))


@pytest.fixture(scope="module")
def panorama(picture: Image8, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("hr") / "court.png"
    Image.fromarray(picture).save(path)
    return path


@pytest.mark.parametrize("kind", [*LOWERINGS, "fp16"])
def test_every_graph_says_what_it_survives(graphs: dict[str, Path], kind: str) -> None:
    for direction in ("down", "up"):
        told = json.loads((graphs[kind] / f"{direction}.json").read_text())
        assert Survives.of(told, "a.json") == SURVIVES


@pytest.mark.parametrize("kind", ["standard", "primitive", "fp16"])
def test_through_jpeg_4_2_0_and_back(
    graphs: dict[str, Path], kind: str, network: RescalingNetwork, picture: Image8, panorama: Path, tmp_path: Path
) -> None:
    """The commands' files are those of PyTorch: the same LR picture, the same JPEG, the same reconstruction."""
    lr, hr = tmp_path / "lr.jpg", tmp_path / "hr.png"
    assert done("downscale", panorama, lr, "--model", graphs[kind] / "down.onnx", "--quality", 75).stderr == ""
    assert str(open_source(lr).coding) == "JPEG 4:2:0 of quality 75"
    assert done("upscale", lr, hr, "--model", graphs[kind] / "up.onnx").stderr == ""
    small = downscaled(network, picture, Coder("jpeg").coarseness(75), halved=True)
    assert np.abs(small.astype(int) - downscaled(network, picture)).mean() > 1  # the file matters
    seen, size = Coder("jpeg").round_trip(small, 75)
    if kind != "fp16":
        assert abs(samples(lr).astype(int) - seen).mean() < 0.2
        assert size == pytest.approx(lr.stat().st_size, rel=0.5)  # which has a record, too
    expected = upscaled(network, samples(lr), (102, 204), Coder("jpeg").coarseness(75))
    assert np.abs(expected.astype(int) - upscaled(network, samples(lr), (102, 204))).mean() > 1  # it matters
    apart = np.abs(samples(hr).astype(int) - expected)
    assert apart.max() <= (3 if kind == "fp16" else 1) and apart.mean() < 0.3


def test_in_tiles_and_in_a_batch(graphs: dict[str, Path], panorama: Path, tmp_path: Path) -> None:
    down, up = (graphs["standard"] / f"{direction}.onnx" for direction in ("down", "up"))
    (tmp_path / "in").mkdir()
    for name in ("a.png", "b.png"):
        (tmp_path / "in" / name).write_bytes(panorama.read_bytes())
    done("batch", tmp_path / "in", tmp_path / "lr", "--model", down, "--format", "jpg", "--quality", 80)
    done("batch", tmp_path / "lr", tmp_path / "hr", "--model", up)
    for folder in ("lr", "hr"):
        rows = [json.loads(row) for row in (tmp_path / folder / "manifest.jsonl").read_text().splitlines()]
        outcomes = [row for row in rows if row.get("status") == "done"]
        assert len(outcomes) == 2 and not any(row["notes"] for row in outcomes)
    lr = tmp_path / "lr" / "a.jpg"
    assert str(open_source(lr).coding) == "JPEG 4:2:0 of quality 80"
    done("upscale", lr, tmp_path / "tiled.png", "--model", up, "--tile", "32x64", "--exact")
    whole, tiled = samples(tmp_path / "hr" / "a.png").astype(int), samples(tmp_path / "tiled.png")
    assert np.abs(whole - tiled).max() <= 1


def test_the_report_shows_bytes_beside_quality(
    ckpt: Path, graphs: dict[str, Path], network: RescalingNetwork, picture: Image8, panorama: Path, tmp_path: Path
) -> None:
    contents = gather(ckpt, panorama, [graphs["standard"]])
    assert contents.stored == "as JPEG 4:2:0 of quality 90,"
    seen, size = Coder("jpeg").round_trip(downscaled(network, picture, Coder("jpeg").coarseness(90), halved=True), 90)
    assert np.array_equal(contents.pictures["lr"], seen)
    hr = upscaled(network, seen, (102, 204), Coder("jpeg").coarseness(90))
    assert np.array_equal(contents.pictures["reconstruction"], hr)
    title = network.config.title
    expected = [f"{size / 1000:.1f} kB", f"{8 * size / (102 * 204):.3f}", f"{ws_psnr(luma(hr), luma(picture)):.2f} dB"]
    assert [title, "JPEG 4:2:0, quality 90", *expected] in contents.files
    assert {row[0] for row in contents.files[1:]} == {title, "bicubic", "full picture"}
    page = tmp_path / "page.html"
    given = ["report", "--ckpt", ckpt, "--image", panorama, "--onnx", graphs["standard"], "--out", page]
    assert CliRunner().invoke(main, [*map(str, given)]).exit_code == 0
    text = page.read_text()
    assert "stored as JPEG 4:2:0 of quality 90, of 102×51" in text and f"<td>{expected[0]}</td>" in text


@pytest.mark.parametrize("known", [False, True])
def test_a_site_holds_files_of_the_codec(
    known: bool, network: RescalingNetwork, panorama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A JPEG stays as it is; one too low is told. A lossless LR picture becomes what `downscale` would have written,
    unless its encoder knew that it was to be lossless."""
    monkeypatch.setattr(sites, "PACKAGES", ())  # three megabytes of other people's code
    config = replace(network.config, knows_file=known)
    weights = {n: t for n, t in network.state_dict().items() if known or not re.match("encoder.*by_coarseness", n)}
    ckpt, down, lossless = tmp_path / "x2.pth", tmp_path / "graphs" / "down.onnx", tmp_path / "town.png"
    save_checkpoint(ckpt, Checkpoint(config, weights, {"codec": PLAN.metadata()}))
    export_checkpoint(ckpt, down.parent)
    done("downscale", panorama, lossless, "--model", down)
    for name, quality in (("court.jpg", 90), ("low.jpg", 60)):
        done("downscale", panorama, tmp_path / name, "--model", down, "--quality", quality)
    with Image.open(tmp_path / "low.jpg") as image:
        image.save(tmp_path / "low.jpg", quality=20, xmp=image.info["xmp"])
    pictures = [lossless, tmp_path / "court.jpg", tmp_path / "low.jpg"]
    with pytest.warns(UserWarning, match=r"low.jpg: is JPEG 4:2:0 of quality 20, below what the model"):
        write_site(ckpt, pictures, tmp_path / "site")
    site, town = tmp_path / "site", "town.png" if known else "town.jpg"
    assert sorted(p.name for p in site.glob("*.[jp][pn]g")) == ["court.jpg", "low.jpg", town]
    assert (site / "court.jpg").read_bytes() == (tmp_path / "court.jpg").read_bytes()
    if known:
        assert (site / town).read_bytes() == lossless.read_bytes()
    else:
        assert np.array_equal(samples(site / town), samples(site / "court.jpg"))
        made, written = open_source(site / town), open_source(site / "court.jpg")
        assert made.record == written.record and made.record is not None
    assert re.search(f'<dinn360-panorama [^>]*src="{town}"', (site / "index.html").read_text())
    assert json.loads((site / "up.json").read_text())["codec"] == "jpeg"
    with open_session(site / "up.onnx") as session:
        assert Survives.of(session.metadata, "up.onnx") == replace(SURVIVES, known=known)


def test_a_picture_that_was_made_for_another_file(graphs: dict[str, Path], panorama: Path, tmp_path: Path) -> None:
    """An encoder that knew its file made another picture: one line tells where people changed its kind."""
    down, up = (graphs["standard"] / f"{direction}.onnx" for direction in ("down", "up"))
    done("downscale", panorama, tmp_path / "lr.webp", "--model", down)
    done("downscale", panorama, tmp_path / "full.jpg", "--model", down, "--subsampling", "444", "--quality", 90)
    for name, about in (("lr.webp", "a lossless image"), ("full.jpg", "JPEG 4:4:4 of quality 90")):
        with Image.open(tmp_path / name) as image:
            image.save(tmp_path / "small.jpg", quality=90, subsampling=2, xmp=image.info["xmp"])
        told = done("upscale", tmp_path / "small.jpg", tmp_path / "hr.png", "--model", up, "--overwrite").stderr
        assert f"small.jpg: is JPEG 4:2:0 of quality 90, and was made for {about}: detail will be wrong" in told
