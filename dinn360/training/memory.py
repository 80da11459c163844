"""Keeps freed memory in the process between training steps."""

from __future__ import annotations

import ctypes
import platform

# Parameters of mallopt(3), from glibc's malloc.h
_M_TRIM_THRESHOLD = -1
_M_MMAP_MAX = -4
_LARGEST = 2**31 - 1


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
