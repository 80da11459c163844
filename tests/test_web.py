"""A site whose panoramas grow back in the browser: real graphs, real Chromium, pictures compared with Python's."""

from __future__ import annotations

import base64
import functools
import http.server
import io
import json
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import ASSETS
from exported import checkpoint, released
from PIL import Image, PngImagePlugin
from test_webgpu import nine_channels

from engines.panorama.camera import View
from engines.panorama.rescale_file import rescale_file
from engines.panorama.rescaler import Rescaler
from engines.panorama.viewport import Viewports
from engines.session import open_session
from engines.support.errors import UserError
from export.cli import main
from export.web import site as sites
from export.web.packages import PACKAGES, Package, tarball
from export.web.site import IMPORTS, write_site

CHROMIUM, DRIVER = "/usr/bin/chromium", "/usr/bin/chromedriver"
SECONDS = 180  # a busy machine is no bug


def ready_graph(ckpt: Path, out: Path, form: Any) -> Path:
    """`export_up` of the released x2 checkpoint, traced once for all tests."""
    for name in ("up.onnx", "up.json"):
        shutil.copyfile(released("x2", lowering="web") / name, out / name)
    return out / "up.onnx"


@pytest.fixture(scope="module")
def lr(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An LR picture with its record, 96 x 192."""
    folder = tmp_path_factory.mktemp("lr")
    with Image.open(ASSETS / "courtyard.png") as image:
        image.resize((384, 192), Image.Resampling.LANCZOS).save(folder / "hr.png")
    with open_session(released("x2") / "down.onnx", threads=1) as session:
        rescale_file(Rescaler(session, "down"), folder / "hr.png", folder / "lr.png")
    return folder / "lr.png"


@pytest.fixture(scope="module")
def site(lr: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, with pages beside it for what can go wrong."""
    try:
        for package in PACKAGES:
            tarball(package)
    except UserError as error:
        pytest.skip(f"the npm packages cannot be had: {error}")
    out = tmp_path_factory.mktemp("web") / "site"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sites, "export_up", ready_graph)
        write_site(checkpoint("x2"), [lr], out)
    return out


def page(site: Path, name: str, **attributes: str) -> str:
    """A further page of the site whose element has other attributes."""
    text = " ".join(f'{key}="{value}"' for key, value in attributes.items())
    html = (site / "index.html").read_text()
    (site / name).write_text(re.sub(r"<dinn360-panorama [^>]*>", f"<dinn360-panorama {text}>", html))
    return name


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    """Any static server: Python's."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def open_browser(profile: Path, *words: str) -> Any:
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs the package selenium")
    from selenium.webdriver.chrome.service import Service

    if not (Path(CHROMIUM).exists() and Path(DRIVER).exists()):
        pytest.skip("needs Chromium and its driver")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for word in [
        "headless", "no-sandbox", "disable-quic", "no-first-run", f"user-data-dir={profile}", "window-size=480,400",
        "use-angle=swiftshader", "enable-unsafe-swiftshader", "disable-background-networking",
        "disable-component-update", "disable-sync", *words,
    ]:  # fmt: skip
        options.add_argument(f"--{word}")
    return webdriver.Chrome(options=options, service=Service(DRIVER))


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    driver = open_browser(tmp_path_factory.mktemp("profile"))
    yield driver
    driver.quit()


def told(driver: Any, what: str) -> Any:
    """A property of the element on the page."""
    return driver.execute_script(f"return document.querySelector('dinn360-panorama')?.{what} ?? null")


def line(driver: Any) -> str:
    return str(told(driver, "querySelector('output')?.textContent"))


def wait(condition: Callable[[], bool], driver: Any) -> None:
    stop = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < stop, line(driver)
        time.sleep(0.2)


def sharp(driver: Any) -> bool:
    assert told(driver, "state") != "failed", line(driver)
    return told(driver, "state") == "sharp" and told(driver, "decoded") > 0


def captured(driver: Any) -> np.ndarray:
    content = base64.b64decode(told(driver, "capture()").split(",")[1])
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(int)


def assert_like_python(driver: Any, lr: Path) -> None:
    """What the page draws is what `engines view` makes, to one level on 1 % of the values."""
    at = told(driver, "view")
    view = View(at["yaw"], at["pitch"], 0, at["fov"], at["width"], at["height"])
    with open_session(released("x2") / "up.onnx", threads=1) as session:
        with Viewports.open(Rescaler(session, "up"), lr) as panorama:
            expected = panorama.render(view).astype(int)
    found = captured(driver)
    assert found.shape == expected.shape and found.std() > 10
    assert np.mean(np.abs(found - expected) > 1) <= 0.01


def test_a_site_is_whole(site: Path) -> None:
    for path in IMPORTS.values():
        assert (site / path).stat().st_size > 1000
    assert {path.name for path in site.glob("vendor/*/LICENSE")} == {"LICENSE"} and len(PACKAGES) == 3
    assert all((site / "vendor" / folder / "LICENSE").is_file() for folder in ("onnxruntime", "viewer", "three"))
    ours = [site / "index.html", *(site / "module").iterdir()]
    assert not any(re.search(r"(?:src|href|from|import\()\W*https?:", path.read_text()) for path in ours)  # no CDN
    graph = json.loads((site / "up.json").read_text())
    assert graph["ops"] == "web" and graph["halo"] <= int(graph["tile_halo"])
    with open_session(site / "up.onnx", threads=1) as session:
        assert [spec.name for spec in session.inputs] == ["lr", "omitted"] and not session.optional
    wanted = json.loads((site / "module" / "package.json").read_text())["dependencies"]
    assert wanted == {package.name: package.version for package in PACKAGES}


def test_the_view_is_pythons_and_dragging_decodes_new_tiles(browser: Any, site: Path, address: str, lr: Path) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    browser.get(f"{address}/{page(site, 'small.html', src='lr.png', model='up.onnx', memory='0.26', fov='50')}")
    wait(lambda: told(browser, "state") == "bicubic", browser)
    wait(lambda: sharp(browser), browser)
    assert told(browser, "backend") == "wasm" and "WebAssembly" in line(browser) and "ms a tile" in line(browser)
    assert_like_python(browser, lr)
    before, stored = told(browser, "decoded"), told(browser, "bytes")
    element = browser.find_element("css selector", "dinn360-panorama")
    for _ in range(20):  # the viewer follows the pointer frame by frame, and a busy machine draws few frames
        drag = ActionChains(browser, duration=300).click_and_hold(element)
        drag.move_by_offset(-90, 0).move_by_offset(-90, 0).release().perform()
        if 60 < told(browser, "view")["yaw"] % 360 < 300:
            break
    wait(lambda: told(browser, "decoded") > before and sharp(browser), browser)
    yaw = told(browser, "view")["yaw"]
    assert 20 < yaw % 360 < 340
    for turn in range(0, 360, 60):
        browser.execute_script(f"document.querySelector('dinn360-panorama').look({turn}, 0)")
        time.sleep(0.5)
        wait(lambda: sharp(browser), browser)
        assert told(browser, "held") * 48 * 48 * 16 <= stored == told(browser, "bytes") <= 0.26 * 2**20
    assert told(browser, "decoded") > told(browser, "held")  # some were let go
    browser.execute_script("document.querySelector('dinn360-panorama').look(180, -60)")
    time.sleep(0.5)
    wait(lambda: sharp(browser), browser)
    assert_like_python(browser, lr)
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []


def with_record(source: Path, target: Path, **changes: Any) -> None:
    with Image.open(source) as image:
        record = json.loads(image.text["DINN360"]) | changes
        text = PngImagePlugin.PngInfo()
        text.add_text("DINN360", json.dumps(record))
        image.save(target, pnginfo=text)


def test_mistakes_are_one_line_on_the_page(browser: Any, site: Path, address: str, lr: Path) -> None:
    with_record(lr, site / "x4.png", scale=4)
    with_record(lr, site / "other.png", model="ab" * 32)
    (site / "text.png").write_text("hello")
    (site / "foreign.onnx").write_text("hello")
    (site / "foreign.json").write_text('{"scale": 2}')
    wrong = json.loads((site / "up.json").read_text())
    wrong["self_test"]["hr"] = base64.b64encode(bytes(len(base64.b64decode(wrong["self_test"]["hr"])))).decode()
    (site / "wrong.json").write_text(json.dumps(wrong))
    shutil.copyfile(site / "up.onnx", site / "wrong.onnx")
    mistakes = (
        ("none.png", "up.onnx", "none.png: expected a picture, found none (404)"),
        ("text.png", "up.onnx", "text.png: expected a picture (PNG), found something else"),
        ("x4.png", "up.onnx", "x4.png: was downscaled by 4, the model upscales by 2"),
        ("other.png", "up.onnx", "other.png: was downscaled by the model abababababab, found the model "),
        ("lr.png", "none.onnx", "the file that says what none.onnx is, found none (404)"),
        ("lr.png", "foreign.onnx", "foreign.onnx: expected an upscaling graph of python -m export web"),
        ("lr.png", "wrong.onnx", "wasm: self-test: "),
    )
    for index, (src, model, message) in enumerate(mistakes):  # each its own page: the browser keeps them by name
        browser.get(f"{address}/{page(site, f'mistake-{index}.html', src=src, model=model, backend='wasm')}")
        wait(lambda: told(browser, "state") == "failed", browser)
        assert message in line(browser) and "\n" not in line(browser)
        if src not in ("none.png", "text.png"):
            wait(lambda: captured(browser).std() > 10, browser)  # the LR picture comes all the same


LAYOUTS = """
const [model, done] = arguments;
(async () => {
  const ort = await import("./vendor/onnxruntime/ort.webgpu.bundle.min.mjs");
  const bytes = Uint8Array.from(atob(model), (letter) => letter.charCodeAt(0));
  const values = Float32Array.from({ length: 3 * 24 * 32 }, (_, i) => Math.sin(i * i) / 2 + 0.5);
  const run = async (provider) => {
    const session = await ort.InferenceSession.create(bytes, { executionProviders: [provider] });
    const { hr } = await session.run({ lr: new ort.Tensor("float32", values, [1, 3, 24, 32]) });
    return hr.getData();
  };
  const right = await run("wasm");
  const apart = {};
  for (const preferredLayout of ["NCHW", "NHWC"]) {
    const found = await run({ name: "webgpu", preferredLayout });
    apart[preferredLayout] = Math.max(...found.map((value, i) => Math.abs(value - right[i])));
  }
  done(apart);
})().catch((error) => done({ error: String(error) }));
"""


def test_webgpu_on_a_software_adapter(tmp_path: Path, site: Path, address: str) -> None:
    """The page's own self-test decides: a backend stands there only after it gave Python's pixels for a known tile."""
    driver = open_browser(tmp_path, "enable-unsafe-webgpu", "use-webgpu-adapter=swiftshader")
    try:
        name = page(site, "gpu.html", src="lr.png", model="up.onnx", backend="webgpu", fov="40")
        driver.get(f"{address}/{name}")
        wait(lambda: told(driver, "state") == "failed" or bool(told(driver, "backend")), driver)
        if "no adapter" in line(driver):
            pytest.skip(line(driver))
        assert told(driver, "backend") == "webgpu", line(driver)
        model = base64.b64encode(nine_channels(tmp_path / "nine.onnx").read_bytes()).decode()
        driver.set_script_timeout(SECONDS)
        apart = driver.execute_async_script(LAYOUTS, model)
        assert apart.get("NCHW", 9) < 1e-4, apart
        assert apart["NHWC"] > 0.1, "the fault of NHWC is mended: worker.js need not ask for NCHW"
    finally:
        driver.quit()


def test_packages_are_those_that_were_pinned(tmp_path: Path) -> None:
    package = Package("three", "0.185.1", "sha512-" + 86 * "A" + "==", ("LICENSE",))
    with pytest.raises(UserError, match=r"runtime: expected three-0\.185\.1\.tgz in .*, found none"):
        tarball(package, tmp_path)
    (tmp_path / package.tarball).write_bytes(b"something else")
    with pytest.raises(UserError, match=r"three-0\.185\.1\.tgz: expected sha512-A+…, found sha512-"):
        tarball(package, tmp_path)


def test_mistakes_of_the_command(tmp_path: Path, lr: Path) -> None:
    with_record(lr, tmp_path / "x4.png", scale=4)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    (tmp_path / "lr.tif").write_text("hello")
    before = sorted(tmp_path.rglob("*"))
    for picture, out, message in (
        (tmp_path / "none.png", "site", "none.png"),
        (tmp_path / "x4.png", "site", "was downscaled by 4, the model upscales by 2"),
        (tmp_path / "lr.tif", "site", "expected a name that ends in .png"),
        (lr, "full", "full: expected an empty folder or an older site, found something else"),
    ):
        command = ["web", "--ckpt", str(checkpoint("x2")), str(picture), "--out", str(tmp_path / out)]
        result = CliRunner().invoke(main, command)
        assert result.exit_code == 2 and result.stderr.count("\n") == 1 and message in result.stderr, result.output
    assert sorted(tmp_path.rglob("*")) == before
