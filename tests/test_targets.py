"""The device table: what it promises, and what its reader refuses."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from engines.support.errors import UserError
from engines.targets import BYTES_PER_PIXEL, TARGETS, find_target, load_targets

KEYS = ["jetson-orin-nano", "jetson-orin-nx", "jetson-agx-orin", "jetson-thor", "a100", "l4", "h100", "b200", "rtx"]


def test_every_device_of_the_plan_is_there() -> None:
    assert list(load_targets()) == KEYS
    capabilities = {key: target.compute_capabilities for key, target in load_targets().items()}
    assert capabilities["jetson-agx-orin"] == ("8.7",) and capabilities["b200"] == ("10.0",)
    assert capabilities["rtx"] == ("7.5", "8.0", "8.6", "8.9", "12.0", "12.1")


def test_jetsons_share_their_memory_and_say_their_jetpack() -> None:
    for key, target in load_targets().items():
        jetson = key.startswith("jetson")
        assert target.shared_memory == jetson
        assert all((stack.jetpack is not None) == jetson for stack in target.stacks), key


@pytest.mark.parametrize("key", KEYS)
def test_the_tile_is_the_largest_common_size_that_fits(key: str) -> None:
    """The reason that the file gives for its tiles, computed again."""
    target = find_target(key)
    common = [(1024, 2048), (1920, 3840), (2880, 5760), (3840, 7680), (4096, 8192), (5952, 11904)]
    room = target.memory_gb * 1e9 / (4 if target.shared_memory else 2)
    assert target.tile == max(size for size in common if size[0] * size[1] * BYTES_PER_PIXEL <= room)
    assert target.opt == min(target.tile, (1920, 3840))


def test_every_figure_has_its_source_beside_it() -> None:
    tables = TARGETS.read_text().split("\n[")[1:]
    assert len(tables) == len(KEYS)
    assert all(re.search(r"^# NVIDIA, .*$", table, re.MULTILINE) for table in tables)


def test_what_runs_fp32() -> None:
    rtx = find_target("rtx")
    assert "7.5" in rtx.capabilities_for("fp16") and "7.5" not in rtx.capabilities_for("fp32")


def test_an_unknown_target() -> None:
    with pytest.raises(UserError, match=r"^target: expected one of jetson-orin-nano, .*, found 'tx2'"):
        find_target("tx2")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('name = "L4"\n', "", r"\[l4\]: missing keys: name; unknown keys: none"),
        ('name = "L4"', 'name = "L4"\ncolour = "green"', r"\[l4\]: missing keys: none; unknown keys: colour"),
        ('["8.9"]', '["sm_89"]', r"compute_capabilities: expected a list of compute capabilities"),
        ('["8.9"]', "[]", r"compute_capabilities: expected at least one"),
        ('["8.9"]', '["8.9"]\nfp16_only = ["7.5"]', r"fp16_only: expected some of compute_capabilities"),
        ("memory_gb = 24", "memory_gb = 8", r"tile: expected one that needs at most 4\.0 GB, found '8\.5 GB'"),
        ("memory_gb = 24", "memory_gb = true", r"memory_gb: expected a number above 0"),
        ("[2880, 5760]", "[2880, 5750]", r"tile: expected \[height, width\], multiples of 64"),
        ("[2880, 5760]", "[1024, 2048]", r"opt: expected at most the tile \[1024, 2048\]"),
        ("fp16 = 121, ", "", r"peak_tflops: expected a number above 0 for fp16 and for fp32"),
        ('"10.16"', '"ten"', r"stacks: expected versions of tensorrt and cuda"),
        ('runtime = "tensorrt"', 'runtime = "tvm"', r"runtime: expected tensorrt or tensorrt_rtx, found 'tvm'"),
        ("[l4]", "[l4", r"expected a TOML file"),
    ],
)
def test_a_damaged_table_is_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    start = TARGETS.read_text().index("[l4]")
    table = TARGETS.read_text()[start : TARGETS.read_text().index("[h100]")]
    assert old in table
    path = tmp_path / "targets.toml"
    path.write_text(table.replace(old, new, 1))
    with pytest.raises(UserError, match=message) as caught:
        load_targets(path)
    assert "\n" not in str(caught.value)


def test_no_such_table(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot read: no such file"):
        load_targets(tmp_path / "targets.toml")
