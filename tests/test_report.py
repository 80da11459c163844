"""The report page: complete in itself, and three views that turn together in a real browser."""

from __future__ import annotations

import io
import json
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from exported import checkpoint, released
from PIL import Image

from dinn360.evaluation.interpolation import resize
from engines.support.arrays import Image8
from engines.support.errors import UserError
from engines.support.images import write_png
from export.cli import main
from export.report.contents import Contents, gather
from export.report.page import WIDEST, html, write

BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")


@pytest.fixture(scope="module")
def panorama(courtyard: Image8, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "court <b>yard.png"
    write_png(path, resize(courtyard, (96, 192)))
    return path


@pytest.fixture(scope="module")
def page(panorama: Path) -> Path:
    """The page as the command writes it."""
    out = panorama.parent / "page.html"
    arguments = ["report", "--ckpt", checkpoint("x2"), "--image", panorama, "--onnx", released("x2"), "--out", out]
    done = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith(f"{out}  ")
    return out


def test_the_page_is_complete_in_itself(page: Path) -> None:
    text = page.read_text()
    assert not re.findall(r"""(?<![-\w])(?:src|href)=["'](?!data:|#)[^"']+""", text)
    imports = re.search(r'<script type="importmap">(.*?)</script>', text)
    if imports is None:
        assert "made without its 360-degree viewer" in text
    else:
        assert all(address.startswith("data:") for address in json.loads(imports[1])["imports"].values())
        assert text.count("Permission is hereby granted, free of charge") == 2
    assert text.count("data:image/png;base64,") == 6


def test_the_page_escapes_what_comes_from_files(page: Path) -> None:
    assert "court &lt;b&gt;yard.png" in page.read_text()
    assert "<b>yard" not in page.read_text()


def test_the_tables_say_what_was_measured(page: Path) -> None:
    cells = re.findall(r"<td>(.*?)</td>", page.read_text())
    systems = ("bicubic x2", "Flat DINN360 x2")
    bicubic, ours = (float(cells[cells.index(name) + 1].removesuffix(" dB")) for name in systems)
    assert ours > bicubic + 2
    assert cells.count("ok") == 2 and cells.count("reference") == 2


@pytest.fixture(scope="module")
def contents(panorama: Path) -> Contents:
    return gather(checkpoint("x2"), panorama, [released("x2")])


def test_wide_panoramas_are_reduced_for_the_viewer(contents: Contents) -> None:
    assert contents.stored == "as an ordinary 8-bit image"
    assert contents.files[1][1] == "lossless WebP" and contents.files[-1][1] == "JPEG 4:4:4, quality 95"
    wide = {name: np.zeros((8, 2 * WIDEST, 3), np.uint8) for name in contents.pictures}
    text = html(Contents(**{**vars(contents), "pictures": wide}), None)
    assert f"reduced to\n{WIDEST} columns" in text and f'"width": {WIDEST}' in text


def test_a_page_without_a_viewer(contents: Contents, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where npm is missing: one line, and the panoramas flat. A folder that was named has to be whole."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    with pytest.warns(UserWarning, match="npm: expected it on the path, found none.*shows its panoramas flat"):
        write(contents, tmp_path / "flat.html")
    text = (tmp_path / "flat.html").read_text()
    assert '"viewer": false' in text and "importmap" not in text and "made without its 360-degree viewer" in text
    with pytest.raises(UserError, match="runtime: expected three-.*tgz"):
        write(contents, tmp_path / "none.html", tmp_path)
    assert not (tmp_path / "none.html").exists()


def test_a_checkpoint_of_another_scale_ends_in_one_line(panorama: Path, tmp_path: Path) -> None:
    arguments = ["report", "--ckpt", checkpoint("x4"), "--image", panorama, "--onnx", released("x2")]
    done = CliRunner().invoke(main, [*map(str, arguments), "--out", str(tmp_path / "page.html")])
    assert done.exit_code == 2 and "expected a graph of scale 4" in done.output
    assert not (tmp_path / "page.html").exists()


@pytest.fixture(scope="module")
def browser(page: Path) -> Iterator[Any]:
    """Headless Chromium with the page open and its views drawn."""
    if not (BROWSER and DRIVER):
        pytest.skip("no chromium and chromedriver on this machine (Debian: chromium, chromium-driver)")
    if "importmap" not in page.read_text():
        pytest.skip("the npm packages of the viewer cannot be had")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for word in [
        "headless=new", "no-sandbox", "no-first-run", "window-size=1400,900", "use-angle=swiftshader",
        "enable-unsafe-swiftshader", "disable-background-networking", "disable-component-update", "disable-sync",
    ]:  # fmt: skip
        options.add_argument(f"--{word}")
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    try:
        driver.get(page.as_uri())
        wait(lambda: driver.execute_script("return document.body.dataset.ready") == "true")
        wait(lambda: brightness(driver, 0) > 20)
        yield driver
    finally:
        driver.quit()


def wait(condition: Callable[[], bool], seconds: float = 60) -> None:
    stop = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < stop, "the page did not get there"
        time.sleep(0.1)


def views(driver: Any) -> list[Any]:
    return driver.find_elements("css selector", ".view")


def shot(driver: Any, view: int) -> Image8:
    return np.asarray(Image.open(io.BytesIO(views(driver)[view].screenshot_as_png)).convert("RGB"))


def brightness(driver: Any, view: int) -> float:
    return float(shot(driver, view)[50:-50, 50:-50].mean())


def headings(driver: Any) -> list[tuple[str, str, str]]:
    script = "return [...document.querySelectorAll('.pane')].map(p => [p.dataset.yaw, p.dataset.pitch, p.dataset.hfov])"
    return [tuple(heading) for heading in driver.execute_script(script)]


def settled(driver: Any) -> tuple[str, str, str]:
    """The heading of all views, once nothing moves."""
    last: list[Any] = []

    def still() -> bool:
        last[:] = [last[-1] if last else None, headings(driver)]
        time.sleep(0.7)
        return last[0] == last[1] and len(set(last[1])) == 1

    wait(still)
    return headings(driver)[0]


@pytest.mark.parametrize("dragged", [0, 1, 2])
def test_dragging_one_view_turns_all(browser: Any, dragged: int) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    before = headings(browser)
    for _ in range(10):  # the viewer follows the pointer frame by frame, and a busy machine draws few frames
        drag = ActionChains(browser, duration=300).click_and_hold(views(browser)[dragged])
        drag.move_by_offset(-30, 10).move_by_offset(-30, 10).release().perform()
        time.sleep(0.5)
        if headings(browser)[dragged] != before[dragged]:
            break
    wait(lambda: len(set(headings(browser))) == 1)
    yaw_before, yaw = float(before[0][0]), float(headings(browser)[0][0])
    assert 0.5 < (yaw - yaw_before) % 360 < 90
    told = browser.find_element("id", "heading")
    wait(lambda: f"yaw {float(headings(browser)[0][0]):.0f}°" in told.text)


def test_the_wheel_zooms_all(browser: Any) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.actions.wheel_input import ScrollOrigin

    before = headings(browser)[0]
    ActionChains(browser).scroll_from_origin(ScrollOrigin.from_element(views(browser)[1]), 0, -300).perform()
    wait(lambda: float(headings(browser)[1][2]) < float(before[2]))
    wait(lambda: len(set(headings(browser))) == 1)


def test_the_right_view_switches_and_keeps_its_heading(browser: Any) -> None:
    kept, pictures = settled(browser), {}
    for name in ("error", "bicubic-error", "bicubic", "reconstruction"):
        button = browser.find_element("css selector", f"button[data-show={name}]")
        button.click()
        assert button.get_attribute("aria-pressed") == "true"
        assert len(browser.find_elements("css selector", "button[aria-pressed=true]")) == 1
        time.sleep(0.5)
        pictures[name] = shot(browser, 2).astype(float)
    assert pictures["error"].mean() < pictures["bicubic-error"].mean() < pictures["reconstruction"].mean()
    original = shot(browser, 0).astype(float)
    apart = {name: np.abs(pictures[name] - original).mean() for name in ("bicubic", "reconstruction")}
    assert apart["reconstruction"] < apart["bicubic"] < 30
    assert settled(browser)[:2] == kept[:2]


def test_nothing_failed_in_the_page(browser: Any) -> None:
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []
