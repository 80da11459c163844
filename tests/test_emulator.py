"""The SIMT emulator: each fault of self_test_faults.cu is found and named, its clean twin passes, counts are exact."""

from __future__ import annotations

import re

import numpy as np
import pytest
from kernels_native import needs_compiler, self_test

pytestmark = needs_compiler

VALUES = np.arange(1, 1025, dtype=np.float32)

FAULTS = {
    "copy_bounds": r"block \(1,0,0\), thread \(36,0,0\), .*: out of bounds: load of 4 bytes at byte 400 of in, .* 400",
    "load_before_begin": r"thread \(0,0,0\).* out of bounds: load of 4 bytes at byte -4 of in",
    "other_tensor": "out of bounds: store of 4 bytes at byte -?[0-9]+ of out",
    "store_to_input": "store of 4 bytes into in, which is an input",
    "null_pointer": "out of bounds: load of 4 bytes through a null pointer",
    "misaligned_16": "misaligned: load of 16 bytes at byte 4 of in",
    "misaligned_shared": r"thread \(3,0,0\).* misaligned: load of 16 bytes at byte 40 of shared array tile",
    "unwritten_scratch": r"thread \(5,0,0\).* uninitialised: load of byte 20 of scratch",
    "shared_bounds": r"thread \(31,0,0\).* out of bounds: store of 4 bytes at byte 128 of shared array tile, .* 128",
    "dynamic_bounds": r"thread \(31,0,0\).* out of bounds: store of 4 bytes at byte 256 of shared array tile",
    "shared_uninitialised": r"thread \(56,0,0\).* uninitialised: read of byte 28 of shared array tile",
    "shared_from_the_last_block": r"block \(1,0,0\), thread \(0,0,0\).* uninitialised",
    "read_after_write": r"thread \(1,0,0\).* race: read of byte 0 .* written by thread \(0,0,0\)",
    "write_after_read": r"thread \(1,0,0\).* race: write of byte 4 .* read by thread \(0,0,0\)",
    "write_after_many_reads": r"thread \(63,0,0\).* race: write of byte 0 .* read by thread",
    "write_after_write": r"race: write of byte 0 .* written by thread \(0,0,0\)",
    "neighbours_in_a_word": "race: write of byte",
    "warp_order": "race: read of byte",
    "warp_order_across_warps": r"race: read of byte .* written by thread \(0,0,0\)",
    "shuffle_is_no_fence": "race: read of byte",
    "half_warp_order": "race: read of byte",
    "barrier_after_exit": r"divergent barrier: __syncthreads is not reached by thread \(40,0,0\), which has exited",
    "divergent_barriers": r"divergent barrier: .* which waits at __syncthreads \(self_test_faults.cu:",
    "divergent_barrier_in_warp": r"divergent barrier: .* which waits at __syncthreads \(self_test_faults.cu:",
    "shuffle_missing_lanes": r"thread \(0,0,0\).* __shfl_down_sync with missing lanes: lane 16 has exited",
    "shuffle_from_outside_the_mask": "__shfl_sync with missing lanes: reads lane 20",
    "syncwarp_missing_lanes": r"thread \(32,0,0\).* __syncwarp with missing lanes: lane 1 has exited",
    "mma_missing_lanes": "mma_m16n8k16 with missing lanes: lane 31 has exited",
    "ldmatrix_race": "race: read of byte",
    "float_to_int": r"thread \(2,0,0\).* undefined: conversion of a float to an integer type",
    "integer_overflow": r"thread \(31,0,0\).* undefined: product beyond its integer type",
    "local_bounds": r"thread \(3,0,0\).* undefined: index beyond a local array",
    "blocks_collide": r"block \(1,0,0\).* race: store to byte 0 of out, written by another thread",
    "partly_written": "not written: 4 of 256 bytes of out, the first at byte 36",
    "large_dynamic<false>": "65536 bytes of dynamic shared memory without cudaFuncSetAttribute",
}
SIZES = {"copy_bounds": 100, "shared_bounds": 32, "dynamic_bounds": 32}


@pytest.mark.parametrize("kernel", FAULTS)
def test_a_fault_is_found_and_its_clean_twin_passes(kernel: str) -> None:
    size = SIZES.get(kernel, 64)
    _, report = self_test(kernel, VALUES[:size], size, broken=True, whole=kernel == "partly_written")
    message = report.message()
    assert re.search(FAULTS[kernel], message), message
    if "not written" not in message:
        assert kernel in message
    if "cudaFunc" not in message and "not written" not in message:
        assert re.search(r"block \(\d+,0,0\), thread \(\d+,0,0\), self_test_faults\.cu:\d+: ", message), message
    _, report = self_test(kernel, VALUES[:size], size)
    assert report.message() == ""


def test_out_of_bounds_touches_no_memory() -> None:
    out, report = self_test("copy_bounds", VALUES[:40], 40, broken=True)
    assert "out of bounds" in report.message()
    assert (out == VALUES[:40]).all()


@pytest.mark.parametrize(
    ("kernel", "loads", "sectors", "bytes_"),
    [
        ("coalesced", 1, 4, 128),  # 32 neighbours of 4 bytes: 4 sectors
        ("stride_two", 1, 8, 128),  # every second element: twice the sectors
        ("one_element", 1, 1, 128),  # a broadcast
        ("vectors", 1, 16, 512),  # 16 bytes a lane
        ("scattered", 1, 32, 128),  # a sector for each lane
        ("loaded_twice", 4, 16, 512),  # two blocks, each the same load twice
    ],
)
def test_global_sectors(kernel: str, loads: int, sectors: int, bytes_: int) -> None:
    _, report = self_test(kernel, VALUES[:256], 128)
    assert report.message() == ""
    assert (report.load_requests, report.load_sectors, report.load_bytes) == (loads, sectors, bytes_)
    stored = 16 if kernel == "vectors" else 4 * report.blocks
    assert (report.store_requests, report.store_sectors) == (report.blocks, stored)
    x = report.by_tensor()["in"]
    assert (x.bytes, x.load_sectors, x.store_sectors) == (1024, sectors, 0)
    assert report.by_tensor()["out"].store_sectors == stored


def test_sectors_are_counted_once_for_each_block_and_once_for_each_launch() -> None:
    _, report = self_test("loaded_twice", VALUES[:256], 64)
    x = report.by_tensor()["in"]
    assert (x.load_sectors, x.block_sectors, x.launch_sectors) == (16, 8, 4)


@pytest.mark.parametrize(
    ("kernel", "wavefronts"),
    [
        ("shared_stride<0>", 1),  # a broadcast
        ("shared_stride<1>", 1),
        ("shared_stride<2>", 2),
        ("shared_stride<31>", 1),  # odd: all banks
        ("shared_stride<32>", 32),  # all lanes in one bank
        ("shared_rows<4>", 4),  # 16 bytes a lane go in quarter warps
        ("shared_rows<8>", 8),
        ("shared_rows<32>", 32),
        ("shared_rows<36>", 4),  # rows padded by 16 bytes
        ("matrix_rows<8>", 4),
        ("matrix_rows<64>", 32),
        ("matrix_rows<72>", 4),
    ],
)
def test_shared_bank_conflicts(kernel: str, wavefronts: int) -> None:
    _, report = self_test(kernel, VALUES[:32], 32)
    assert report.message() == ""
    stores = {"stride": 32, "rows": 36}.get(kernel.split("_")[1].split("<")[0], 0)
    stores = 72 if kernel.startswith("matrix") else stores
    ideal = 1 if "stride" in kernel else 4
    assert report.shared_requests == stores + 1
    assert report.shared_wavefronts == stores + wavefronts
    assert report.shared_conflicts == wavefronts - ideal


@pytest.mark.parametrize("kernel", ["matrix_product", "matrix_product_by_table"])
@pytest.mark.parametrize("seed", range(3))
def test_matrix_product_is_the_ptx_isa_s(kernel: str, seed: int) -> None:
    random = np.random.default_rng(seed)
    a, b, d = random.normal(size=(16, 16)), random.normal(size=(16, 8)), random.normal(size=(16, 8))
    a, b, d = a.astype(np.float16), b.astype(np.float16), d.astype(np.float32)
    values = np.concatenate([a.ravel(), b.ravel(), d.ravel()]).astype(np.float32)
    out, report = self_test(kernel, values, 128, whole=True)
    assert report.message() == ""
    assert report.matrix_products == 1
    expected = d.astype(np.float64) + a.astype(np.float64) @ b.astype(np.float64)
    assert np.abs(out.reshape(16, 8) - expected).max() < 1e-5


def test_matrix_product_sums_in_fp32() -> None:
    """Products whose fp16 sum would stay at 2048: 2048 + 16 ones."""
    values = np.zeros(512, np.float32)
    values[:256], values[256:384], values[384:] = 1, 1, 2048
    out, _ = self_test("matrix_product", values, 128)
    assert (out == 2064).all()


def test_block_sum() -> None:
    out, report = self_test("block_sum", VALUES, 4, whole=True)
    assert report.message() == ""
    assert (out == VALUES.reshape(4, 256).sum(1)).all()
    assert (report.blocks, report.threads, report.barriers, report.shuffles) == (4, 1024, 4, 4 * 8 * 5)


def test_every_half_and_what_lies_between_rounds_as_numpy_does() -> None:
    halves = np.arange(0, 0x7C01, dtype=np.uint16).view(np.float16).astype(np.float32)
    halves[-1] = 65536.0
    between = (halves[:-1].astype(np.float64) + halves[1:]) / 2
    values = np.concatenate([halves, between.astype(np.float32), np.float32([1e-9, 65519.9, 65520.0, np.inf, 3.3])])
    values = np.concatenate([values, -values]).astype(np.float32)
    with np.errstate(over="ignore"):
        expected = values.astype(np.float16).astype(np.float32)
    out, report = self_test("round_to_half", values, values.size, whole=True)
    assert report.message() == ""
    assert np.array_equal(out, expected)
    out, _ = self_test("round_to_half", np.float32([np.nan]), 1)
    assert np.isnan(out[0])


def test_shuffles() -> None:
    out, report = self_test("shuffles", VALUES[:256], 256, whole=True)
    assert report.message() == ""
    lane = np.arange(32)
    expected = [
        np.full(32, 5),
        lane // 8 * 8 + (lane + 1) % 8,
        lane ^ 3,
        np.where(lane < 2, lane, lane - 2),
        np.where(lane > 27, lane, lane + 4),
        np.where(lane % 4 == 3, lane, lane + 1),
        np.full(32, 0x1111),
        np.full(32, 1),
    ]
    assert np.array_equal(out.reshape(8, 32), np.array(expected))
