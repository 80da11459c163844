"""Where the library of the operators is found, where its header comes from, and what is said when there is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from engines.runtimes import operator_library
from engines.support.errors import UserError
from plugins import build
from plugins.build import BuildError
from plugins.onnxruntime import headers, library


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


def test_without_a_compiler_one_line_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "missing", lambda: "no C++ compiler on this machine")
    monkeypatch.setattr(library, "include_folder", lambda: tmp_path)
    monkeypatch.setattr(library, "build", library.build.__wrapped__)
    with pytest.raises(UserError, match=r"--ops plugin .*DSTAttention .*no C\+\+ compiler .*or use --ops standard"):
        operator_library.find(tmp_path / "up.onnx", "DSTAttention")


def test_the_messages_that_ask_for_the_library() -> None:
    message = "Fatal error: dinn360:DeformConv2d(-1) is not a registered function/op"
    assert operator_library.missing_operator(message) == "dinn360:DeformConv2d"
    message = "Fatal error: dinn360.cpu:Haar(-1) is not a registered function/op"
    assert operator_library.missing_operator(message) == "dinn360.cpu:Haar"
    assert operator_library.missing_operator("Fatal error: other:Op(-1) is not a registered function/op") is None


def sdk(root: Path, version: int, inside: str = "include") -> Path:
    folder = root / inside
    folder.mkdir(parents=True)
    (folder / headers.HEADER).write_text(f"#define ORT_API_VERSION {version}\n")
    return folder


def test_an_sdk_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = sdk(tmp_path / "new", 21, "include/onnxruntime/core/session")
    monkeypatch.setenv("ONNXRUNTIME_ROOT", str(tmp_path / "new"))
    assert headers.include_folder() == folder
    sdk(tmp_path / "old", 17)
    for root in ("old", "absent"):
        monkeypatch.setenv("ONNXRUNTIME_ROOT", str(tmp_path / root))
        with pytest.raises(BuildError, match=f"ONNXRUNTIME_ROOT .*{root}: expected .* of API 18 or newer"):
            headers.include_folder()


def test_fetched_headers_are_checked_and_every_failure_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forged(scratch: Path) -> Path:
        return sdk(scratch, 21)

    def unreachable(scratch: Path) -> Path:
        raise BuildError("apt-get: could not\nresolve")

    monkeypatch.delenv("ONNXRUNTIME_ROOT", raising=False)
    monkeypatch.setattr(headers, "_SYSTEM", (tmp_path,))
    monkeypatch.setattr(headers, "FETCHED", tmp_path / "build" / "headers")
    monkeypatch.setattr(headers, "_from_debian", unreachable)
    monkeypatch.setattr(headers, "_from_npm", forged)
    with pytest.raises(BuildError, match="none can be fetched .*Debian: apt-get: could not resolve; npm: .*SHA-256"):
        headers.include_folder()
    assert list((tmp_path / "build").iterdir()) == []


SOURCES = """Types: deb
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /keys/debian.gpg

Types: deb
URIs: http://mirror.example/security
Suites: bookworm-security
Components: main
"""


def test_the_next_release_is_asked_for_where_this_one_comes_from(tmp_path: Path) -> None:
    bookworm = 'ID=debian\nVERSION_CODENAME="bookworm"\n'
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list.d" / "debian.sources").write_text(SOURCES)
    found = headers.debian_sources(tmp_path, bookworm)
    assert "URIs: http://mirror.example/debian\nSuites: trixie\nComponents: main\nSigned-By: /keys/debian.gpg" in found
    assert "security" not in found
    (tmp_path / "sources.list.d" / "debian.sources").unlink()
    with pytest.raises(BuildError, match="apt has no source of bookworm"):
        headers.debian_sources(tmp_path, bookworm)
    (tmp_path / "sources.list").write_text("deb [arch=arm64] http://old.example/debian bookworm main contrib\n")
    assert "URIs: http://old.example/debian\n" in headers.debian_sources(tmp_path, bookworm)
    with pytest.raises(BuildError, match="not a Debian system"):
        headers.debian_sources(tmp_path, "ID=fedora\n")


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
    cache.write_text(cache.read_text().replace(str(build.ROOT), "/another/checkout"))
    build.cmake(folder, (), "help")
    assert not stale.exists() and str(build.ROOT) in cache.read_text()
