"""No command makes the process a real-time one, as SVT-AV1 does where root runs it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LINUX = sys.platform.startswith("linux")

# What each thread's scheduling is, told by a child process, so that nothing stays of it here
TELL = """
import os
def policies():
    return {os.sched_getscheduler(int(thread)) for thread in os.listdir("/proc/self/task")}
"""
RAW = """
import av
context = av.CodecContext.create("libsvtav1", "w")
context.width, context.height, context.pix_fmt, context.framerate = 64, 64, "yuv420p", 25
context.open()
print(max(policies()))
"""
CODER = """
import numpy as np
from dinn360.codec.coders import Coder, encode_frames
assert encode_frames([np.zeros((64, 64, 3), np.uint8)] * 3, Coder("av1"), 50)
print(max(policies()))
"""


def child(text: str, *arguments: str) -> str:
    command = [sys.executable, "-c", TELL + text, *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "SVT_LOG": "1"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.split()[-1]


@pytest.mark.skipif(not LINUX, reason="threads have their scheduling from Linux")
def test_a_coder_leaves_the_scheduling_as_it_was() -> None:
    if child(RAW) == str(os.SCHED_OTHER):
        pytest.skip("this SVT-AV1, or this user, takes no real-time threads")
    assert child(CODER) == str(os.SCHED_OTHER)
