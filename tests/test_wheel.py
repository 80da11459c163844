"""What `pip wheel .` makes: installed in an environment of its own, it runs from another folder without a compiler."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from conftest import ASSETS

from engines.support.images import read_panorama, write_png
from plugins import build
from plugins.onnxruntime import library

ROOT = Path(__file__).parents[1]
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check"]


def run(command: Sequence[str | Path], folder: Path = ROOT, variables: Mapping[str, str] | None = None) -> str:
    """The output of a command that has to succeed, in `folder`, where nothing of the checkout is found by accident."""
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    variables = clean if variables is None else variables
    line = [*map(str, command)]
    done = subprocess.run(line, capture_output=True, text=True, timeout=600, cwd=folder, env=variables)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout, built as pip builds it."""
    folder = tmp_path_factory.mktemp("wheel")
    run([*PIP, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, ROOT])
    return next(folder.glob("dinn360-*.whl"))


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of an environment with the wheel and, by path, the packages that it needs from this one."""
    folder = tmp_path_factory.mktemp("environment")
    run([sys.executable, "-m", "venv", "--without-pip", folder])
    run([*PIP, "--python", folder / "bin" / "python", "install", "--no-deps", wheel], folder)
    site = next((folder / "lib").glob("python*")) / "site-packages"
    (site / "needed.pth").write_text(sysconfig.get_path("purelib") + "\n")  # its own .pth files are not read
    return folder / "bin"


def installed(environment: Path, folder: Path, program: str, *arguments: str | Path) -> str:
    """Runs a program of the environment in `folder`, where nothing else is on PATH and no built library is cached."""
    variables = {"PATH": str(environment), "XDG_CACHE_HOME": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
    return run([environment / program, *arguments], folder, variables)


def test_the_wheel_has_all_that_the_packages_have(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    tracked = run(["git", "ls-files", "dinn360", "engines", "export", "plugins"]).split()
    expected = {path for path in tracked if not path.startswith("plugins/testing/")}
    left_out = {"plugins/Makefile"}  # of a checkout
    assert expected - names - left_out == set()
    assert {f"dinn360/checkpoints/{path.name}" for path in (ROOT / "checkpoints").glob("*.pth")} <= names
    assert not any(name.startswith(("tests/", "benchmarks/", "plugins/testing/")) for name in names)


def test_the_source_distribution_has_all_that_the_checkout_has(tmp_path: Path) -> None:
    code = "from setuptools import build_meta; import sys; print(build_meta.build_sdist(sys.argv[1]))"
    run([sys.executable, "-c", code, tmp_path])
    archive = next(tmp_path.glob("*.tar.gz"))
    shutil.unpack_archive(archive, tmp_path)
    unpacked = tmp_path / archive.name.removesuffix(".tar.gz")
    tracked = run(["git", "ls-files"]).split()
    hidden = {path for path in tracked if path.startswith(".")}  # of the repository and its tools
    states = {path for path in tracked if path.startswith("checkpoints/") and path.count("/") > 1}  # to train on from
    assert {path for path in tracked if not (unpacked / path).exists()} - hidden - states == set()


@pytest.mark.skipif(build.missing() is not None, reason=str(build.missing()))
def test_an_installed_wheel_exports_and_rescales_without_a_compiler(environment: Path, tmp_path: Path) -> None:
    image = read_panorama(ASSETS / "courtyard.png")[:128, :256]
    write_png(tmp_path / "panorama.png", image)
    where = "import plugins, dinn360.released as r; print(plugins.__file__, r.find('x2'), sep='\\n')"
    package, ckpt = map(Path, installed(environment, tmp_path, "python", "-c", where).split())
    assert environment.parent in package.parents and environment.parent in ckpt.parents
    assert (package.parent / "lib" / library.NAME).is_file()

    installed(environment, tmp_path, "dinn360-export", "onnx", "--ckpt", ckpt, "--ops", "cpu", "--out", "graphs")
    for command, source, target in (("downscale", "panorama", "lr"), ("upscale", "lr", "hr")):
        graph = "down.onnx" if command == "downscale" else "up.onnx"
        files = [f"{source}.png", f"{target}.png", "--model", f"graphs/{graph}", "--threads", "1"]
        installed(environment, tmp_path, "dinn360-engines", command, *files)
    restored = read_panorama(tmp_path / "hr.png").astype(float)
    assert restored.shape == image.shape and abs(restored - image).mean() < 8
    assert not (tmp_path / "cache" / "dinn360").exists()
    assert "train" in installed(environment, tmp_path, "dinn360", "--help")


@pytest.mark.skipif(build.missing() is not None, reason=str(build.missing()))
def test_an_installed_wheel_has_the_sources_to_build_from(environment: Path, tmp_path: Path) -> None:
    sources = next((environment.parent / "lib").glob("python*/site-packages/plugins"))
    run(["cmake", "-S", sources, "-B", tmp_path, "-DDINN360_CPU=ON", "-DDINN360_ORT=ON"])
