"""Stopping a run without losing a step: Ctrl-C, and SIGTERM as schedulers and torchrun send it."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any


class Interrupt:
    """Notes SIGINT and SIGTERM instead of breaking off in the middle of a step; only a second Ctrl-C breaks off.

    `signal` is the number of the first one, 0 before. Outside the main thread, where Python allows no handlers, nothing
    is noted.
    """

    def __init__(self) -> None:
        self.signal = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupt:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.signal = self.signal or number
        if number == signal.SIGINT:
            signal.signal(number, self._before[number])

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
