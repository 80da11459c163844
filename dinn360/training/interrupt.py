"""Stopping a run without losing a step: Ctrl-C, and SIGTERM as schedulers and torchrun send it."""

from __future__ import annotations

import signal
import threading
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupt:
    """Notes the first SIGINT or SIGTERM instead of breaking off in the middle of a step; a second one breaks off.

    `signal` is the number of the noted one, 0 before. Outside the main thread, where Python allows no handlers,
    it notes nothing.
    """

    def __init__(self) -> None:
        self.signal = 0
        self._before: dict[int, signal._HANDLER] = {}

    def __enter__(self) -> Interrupt:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.signal = number
        self.__exit__()

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
