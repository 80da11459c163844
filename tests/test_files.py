"""Atomic writing and checksums."""

import errno
import os
from pathlib import Path

import pytest

from engines.support.errors import UserError
from engines.support.files import atomic_path, sha256_of


def test_user_error_is_one_line() -> None:
    assert str(UserError("model.onnx: expected\na graph,\r\nfound none")) == "model.onnx: expected a graph, found none"


def test_atomic_path_replaces_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "lr.png"
    target.write_text("old")
    with atomic_path(target) as temporary:
        assert temporary.parent == tmp_path and temporary.suffix == ".png" and temporary != target
        temporary.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt])
def test_atomic_path_keeps_the_old_file_when_the_block_fails(tmp_path: Path, failure: type[BaseException]) -> None:
    target = tmp_path / "lr.png"
    target.write_text("old")
    with pytest.raises(failure), atomic_path(target) as temporary:
        temporary.write_text("half")
        raise failure
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_the_bytes_are_on_disk_before_the_name_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (calls.append("fsync"), fsync(fd)))
    monkeypatch.setattr(os, "replace", lambda a, b: (calls.append("replace"), replace(a, b)))
    with atomic_path(tmp_path / "a.png") as temporary:
        temporary.write_bytes(b"x")
    assert calls == ["fsync", "replace"]


def test_atomic_path_follows_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        with atomic_path(tmp_path / "a.png") as temporary:
            temporary.write_bytes(b"x")
    finally:
        os.umask(old)
    assert (tmp_path / "a.png").stat().st_mode & 0o777 == 0o640


def test_atomic_path_follows_a_symbolic_link(tmp_path: Path) -> None:
    real, link = tmp_path / "real.txt", tmp_path / "link.txt"
    real.write_text("old")
    link.symlink_to(real)
    with atomic_path(link) as temporary:
        temporary.write_text("new")
    assert link.is_symlink() and real.read_text() == "new"


def test_a_full_disk_is_the_users_to_fix(tmp_path: Path) -> None:
    with (
        pytest.raises(UserError, match=r"a\.png: cannot write: no space left"),
        atomic_path(tmp_path / "a.png"),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert list(tmp_path.iterdir()) == []


def test_an_error_that_is_not_about_the_target_stays_itself(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "a.png"):
        (tmp_path / "missing.txt").read_bytes()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing/a.png", "the folder .*missing does not exist"),
        ("file.txt/a.png", "the folder .*file.txt does not exist"),
        (".", "expected a file, found a folder"),
        ("x" * 300 + ".png", None),  # the temporary name is short, so the rename finds out
        ("/dev/null", "found a device or a pipe"),
    ],
)
def test_places_that_cannot_be_written(tmp_path: Path, name: str, message: str | None) -> None:
    (tmp_path / "file.txt").write_text("x")
    with pytest.raises(UserError, match=message or "the name is too long") as caught:
        with atomic_path(tmp_path / name) as temporary:
            temporary.write_text("x")
    assert "\n" not in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == ["file.txt"]


def test_sha256_of(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    # FIPS 180-4, example B.1
    assert sha256_of(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    with pytest.raises(UserError, match="nothing: cannot read: no such file"):
        sha256_of(tmp_path / "nothing")
    with pytest.raises(UserError, match="found a folder"):
        sha256_of(tmp_path)
