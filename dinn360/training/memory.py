"""Memory of a run: whether a batch can fit at all, and keeping what was freed between steps."""

from __future__ import annotations

import ctypes
import os
import platform

from dinn360.training.config import TrainConfig
from engines.support.errors import UserError

# Parameters of mallopt(3), from glibc's malloc.h
_M_TRIM_THRESHOLD = -1
_M_MMAP_MAX = -4
_LARGEST = 2**31 - 1
_LEAST = 100  # bytes an HR pixel of a batch: crops, the channels of one level and their gradients; a step takes more


def check_memory(config: TrainConfig, processes: int = 1) -> None:
    """Refuses a batch for which this machine's memory cannot be enough.

    Raises:
        UserError: the least that a step takes is more than there is.
    """
    need = config.batch * config.crop**2 * _LEAST
    there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") * processes
    if need > there:
        crops = f"{config.batch} crops of {config.crop} x {config.crop}"
        found = f"{there / 2**30:,.0f} GiB of memory"
        raise UserError(f"{crops} take {need / 2**30:,.0f} GiB at least, found {found}", "batch")


def keep_freed_memory() -> bool:
    """Tells glibc's allocator to reuse big freed blocks instead of returning them to the kernel.

    By default glibc maps big blocks (from 32 MiB on, often far smaller ones) afresh and unmaps them when
    freed, so every training step touches each page of its activations for the first time: the kernel then
    clears them again at every step. M_MMAP_MAX = 0 takes all blocks from the heap instead,
    and M_TRIM_THRESHOLD keeps the heap from shrinking. (A high M_MMAP_THRESHOLD does the same where glibc
    accepts it; some versions refuse more than 32 MiB.)

    Call it before the first big allocation. Returns whether it took effect: False without glibc.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    mallopt.argtypes, mallopt.restype = (ctypes.c_int, ctypes.c_int), ctypes.c_int
    return bool(mallopt(_M_MMAP_MAX, 0)) and bool(mallopt(_M_TRIM_THRESHOLD, _LARGEST))
