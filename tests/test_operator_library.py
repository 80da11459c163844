"""Where the library of the operators is found, how it is built, and what is said when there is none."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
from click.testing import CliRunner

from engines.runtimes import operator_library
from engines.support.errors import UserError
from plugins import build, libraries
from plugins.build import BuildError
from plugins.cli import main
from plugins.onnxruntime import library
from plugins.tensorrt import headers


def test_the_variable_comes_first_then_the_graphs_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    beside, named = tmp_path / library.NAME, tmp_path / "other.so"
    for path in (beside, named):
        path.touch()
    assert operator_library.find(tmp_path / "up.onnx", "DSTAttention") == beside
    monkeypatch.setenv("DINN360_ORT_LIBRARY", str(named))
    assert operator_library.find(tmp_path / "up.onnx", "DSTAttention") == named
    monkeypatch.setenv("DINN360_ORT_LIBRARY", str(tmp_path / "absent.so"))
    with pytest.raises(UserError, match="DINN360_ORT_LIBRARY: expected libdinn360_ort.so, found no file .*absent.so"):
        operator_library.find(tmp_path / "up.onnx", "DSTAttention")


def test_a_file_that_is_no_library(tmp_path: Path) -> None:
    import onnxruntime

    (tmp_path / library.NAME).write_text("hello")
    with pytest.raises(UserError, match=f"{library.NAME}: expected the operator library, found: "):
        operator_library.register(onnxruntime.SessionOptions(), tmp_path / "up.onnx", "DSTAttention", gpu=False)


def test_nothing_is_built_and_one_line_says_how(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "FOLDER", tmp_path)
    monkeypatch.setattr(library.kernels, "BUILD", tmp_path)
    needs = "up.onnx: its operator DSTAttention needs the operator library"
    with pytest.raises(UserError, match=f"{needs}: no {library.NAME} .* `python -m plugins build --onnxruntime` makes"):
        operator_library.find(tmp_path / "up.onnx", "DSTAttention")
    with pytest.raises(UserError, match="with CUDA kernels on this machine; `python -m plugins build --cuda` makes it"):
        operator_library.find(tmp_path / "up.onnx", "DSTAttention", gpu=True)
    assert list(tmp_path.iterdir()) == []


def test_a_wheels_library_comes_before_a_built_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "FOLDER", tmp_path / "build")
    monkeypatch.setattr(libraries, "PACKAGED", tmp_path / "lib")
    built = tmp_path / "build" / "onnxruntime" / "cpu" / "onnxruntime" / library.NAME
    for path in (built, tmp_path / "lib" / library.NAME):
        path.parent.mkdir(parents=True)
        path.touch()
        assert operator_library.find(tmp_path / "up.onnx", "Haar") == path


def test_a_library_that_is_older_than_its_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = tmp_path / "plugins"
    for name in ("params.h", "CMakeLists.txt", "cpu/a.cpp", "cuda/a.cu"):
        (sources / name).parent.mkdir(parents=True, exist_ok=True)
        (sources / name).write_text(name)
    monkeypatch.setattr(build, "SOURCES", sources)
    monkeypatch.setattr(build, "cmake", lambda *_, **__: path.touch())
    monkeypatch.setattr(libraries, "PACKAGED", tmp_path / "wheel")
    path = tmp_path / "lib.so"
    arguments = ("lib.so", path, "--cpu", ["CPU"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        path.touch()
        assert libraries.find(*arguments) == path, "built in another way: nothing is known"
        assert build.cmake_library(path, tmp_path, ["CPU"], "lib") == path == libraries.find(*arguments)
        (sources / "cuda" / "a.cu").write_text("another part's")
        assert libraries.find(*arguments) == path
    (sources / "cpu" / "b.h").touch()
    with pytest.warns(
        UserWarning, match=r"lib\.so: its sources have changed .*; `python -m plugins build --cpu` makes it"
    ):
        assert libraries.find(*arguments) == path
    (tmp_path / "wheel").mkdir()
    (tmp_path / "wheel" / "lib.so").touch()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        libraries.find(*arguments)


def test_the_messages_that_ask_for_the_library() -> None:
    message = "Fatal error: dinn360:DeformConv2d(-1) is not a registered function/op"
    assert operator_library.missing_operator(message) == "dinn360:DeformConv2d"
    message = "Fatal error: dinn360.cpu:Haar(-1) is not a registered function/op"
    assert operator_library.missing_operator(message) == "dinn360.cpu:Haar"
    assert operator_library.missing_operator("Fatal error: other:Op(-1) is not a registered function/op") is None


def command(*arguments: str, path: str | None = None) -> tuple[int, str]:
    """Exit status and output of python -m plugins build."""
    result = CliRunner(env={} if path is None else {"PATH": path}).invoke(main, ["build", *arguments])
    return result.exit_code, result.output


def test_without_a_compiler_the_command_says_so(tmp_path: Path) -> None:
    assert command("--onnxruntime", path=str(tmp_path)) == (
        2,
        "libdinn360_ort.so: ONNX Runtime, CPU cores\n"
        "error: libdinn360_ort.so: ONNX Runtime, CPU cores: no cmake on this machine\n",
    )
    code, output = command("--optional", path=str(tmp_path))
    assert code == 0 and output.count("left out: ") == 2


@pytest.mark.skipif(build.missing() is not None, reason=str(build.missing()))
def test_the_command_says_what_it_builds_and_where() -> None:
    code, output = command()
    assert code == 0
    assert "[100%]" in output and f"  {library.find()}  " in output and "libdinn360_training.so  " in output


def headers_of(root: Path) -> Path:
    (root / "include").mkdir(parents=True)
    (root / "include" / headers.HEADER).touch()
    return root / "include"


def test_an_sdks_headers_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TENSORRT_ROOT", str(tmp_path / "sdk"))
    with pytest.raises(BuildError, match="TENSORRT_ROOT .*sdk: expected include/NvInferRuntime.h"):
        headers.include_folder()
    assert headers_of(tmp_path / "sdk") == headers.include_folder()


def test_a_package_with_another_hash_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The declared download: named before it starts, checked by pip, and nothing of it is left when it is wrong."""
    pin = tmp_path / "headers.txt"
    pin.write_text(headers.PIN.read_text().split("--hash")[0] + "--hash=sha256:" + "0" * 64 + "\n")
    monkeypatch.delenv("TENSORRT_ROOT", raising=False)
    monkeypatch.setattr(headers, "_SYSTEM", ())
    monkeypatch.setattr(headers, "PIN", pin)
    monkeypatch.setattr(headers, "FETCHED", tmp_path / "fetched")
    said: list[str] = []
    with pytest.raises(BuildError, match="expected TensorRT's headers in TENSORRT_ROOT or by pip, found none"):
        headers.include_folder(said.append)
    assert "kernel-lens==2.0.1" in said[0] and list((tmp_path / "fetched").glob("*.whl")) == []


@pytest.mark.skipif(build.missing() is not None, reason=str(build.missing()))
def test_a_build_folder_of_another_checkout_is_emptied(tmp_path: Path) -> None:
    """As after `mv` or `cp -r` of a checkout that was built in: its objects may be of other sources."""
    folder = tmp_path / "cpu"
    build.cmake(folder, (), "help")
    stale = folder / "CMakeFiles" / "kernels.o"
    stale.touch()
    build.cmake(folder, (), "help")
    assert stale.exists()
    cache = folder / "CMakeCache.txt"
    cache.write_text(cache.read_text().replace(str(build.SOURCES), "/another/checkout/plugins"))
    build.cmake(folder, (), "help")
    assert not stale.exists() and str(build.SOURCES) in cache.read_text()
