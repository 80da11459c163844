"""Commands that are killed: what they leave behind, who removes it, and what nobody may remove."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import save_graph

from engines.support import temporary as module
from engines.support.errors import UserError
from engines.support.files import atomic_path
from engines.support.temporary import remove_dead, temporary_folder_in

ROOT = Path(__file__).parents[1]

# Holds a temporary file and tells its name, then waits for its end.
HOLD = """
import sys, time
from pathlib import Path
from engines.support.files import atomic_path
from engines.support.termination import terminable
with terminable(), atomic_path(Path(sys.argv[1]) / "a.png") as temporary:
    temporary.write_bytes(b"half")
    print(temporary.name, flush=True)
    time.sleep(60)
"""


def hold(folder: Path) -> tuple[subprocess.Popen[str], Path]:
    process = subprocess.Popen([sys.executable, "-c", HOLD, folder], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, folder / process.stdout.readline().strip()


def test_the_next_run_removes_what_a_dead_one_left_and_only_that(tmp_path: Path) -> None:
    dead, left = hold(tmp_path)
    living, held = hold(tmp_path)
    dead.kill()
    dead.wait()
    others = [".dinn360-tmp-notours.png", ".tmp-0123456789abcdef.png", ".dinn360-tmp-0123456789ABCDEF", "b.png"]
    for name in others:
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / ".dinn360-tmp-0123456789abcdef.png").symlink_to(tmp_path / "b.png")
    (tmp_path / ".dinn360-tmp-00000000000000zz").mkdir()
    (tmp_path / ".dinn360-tmp-00000000000000aa" / "deep").mkdir(parents=True)  # a folder that nobody holds
    try:
        assert left.exists() and held.exists()
        with temporary_folder_in(tmp_path) as folder, atomic_path(tmp_path / "c.png") as temporary:
            temporary.write_bytes(b"new")
            module._tidied.clear()
            remove_dead(tmp_path)
            assert folder.is_dir()
        assert not left.exists() and held.read_bytes() == b"half"
        kept = {*others, "c.png", held.name, ".dinn360-tmp-0123456789abcdef.png", ".dinn360-tmp-00000000000000zz"}
        assert {path.name for path in tmp_path.iterdir()} == kept
    finally:
        living.terminate()
        assert living.wait(30) == 143
    assert not held.exists()


def test_a_file_that_this_process_holds_is_not_dead(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "a.png") as temporary:
        module._tidied.clear()
        remove_dead(tmp_path)
        temporary.write_bytes(b"whole")
    assert (tmp_path / "a.png").read_bytes() == b"whole"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_command_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    from PIL import Image

    model = save_graph(tmp_path / "down.onnx", "down", {"scale": "2"})
    Image.effect_noise((4096, 2048), 90).convert("RGB").save(tmp_path / "in.png", compress_level=1)
    before = set(tmp_path.iterdir())
    command = [sys.executable, "-m", "engines", "downscale", tmp_path / "in.png", tmp_path / "lr.png", "--model", model]
    with subprocess.Popen(command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}) as job:
        while set(tmp_path.iterdir()) == before and job.poll() is None:
            time.sleep(0.005)
        job.send_signal(number)
        assert job.wait(60) == (143 if number == signal.SIGTERM else 1)
    assert set(tmp_path.iterdir()) == before


def test_a_name_that_is_too_long_is_told_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the name is too long"), atomic_path(tmp_path / ("x" * 300)):
        raise AssertionError("the work began")
    assert list(tmp_path.iterdir()) == []
