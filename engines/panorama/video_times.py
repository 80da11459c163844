"""When frames are shown: kept to the tick through containers that count in other ticks than the original.

Matroska, as FFmpeg writes it, counts milliseconds: 24 frames a second do not fit. So the LR video says how its original
counted, and upscaling puts each frame back onto the grid of the original's rate.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from engines.support.errors import UserError

KEYWORD = "DINN360_TIMES"  # of the container's metadata
_MOST = 10**9  # of numerators and denominators


@dataclass(frozen=True)
class Times:
    """rate: frames a second of the original, on average. tick: what its times are multiples of, in seconds."""

    rate: Fraction
    tick: Fraction

    def to_text(self) -> str:
        """Such as "24/1 1/12288"."""
        return " ".join(f"{value.numerator}/{value.denominator}" for value in (self.rate, self.tick))

    @classmethod
    def from_text(cls, text: str) -> Times | None:
        """The inverse of `to_text`; None for any other text."""
        found = re.fullmatch(r"([1-9][0-9]{0,9})/([1-9][0-9]{0,9}) ([1-9][0-9]{0,9})/([1-9][0-9]{0,9})", text, re.ASCII)
        if found is None or max(map(int, found.groups())) > _MOST:
            return None
        rate, tick = (Fraction(int(found[i]), int(found[i + 1])) for i in (1, 3))
        return cls(rate, tick)

    def restored(self, seconds: Fraction, rounded_to: Fraction) -> Fraction:
        """The time in the original of a frame whose time was rounded to a multiple of `rounded_to`.

        The place on the grid of the rate, if that rounds to `seconds`; else the nearest tick.
        """
        on_grid = round(seconds * self.rate) / self.rate
        if abs(on_grid - seconds) <= rounded_to / 2:
            return on_grid
        return round(seconds / self.tick) * self.tick


class Clock:
    """The times of the frames of one video, as they are asked for: none missing, each later than the one before.

    source: for messages. original: how the source's own original counted, None: the source is the original.
    """

    def __init__(self, source: Path, stream: Any, original: Times | None) -> None:
        self._source, self._own = source, Fraction(stream.time_base)
        rate = stream.average_rate or stream.guessed_rate or Fraction(25)
        self.times = original or Times(Fraction(rate), self._own)
        self._original = original
        self._last: Fraction | None = None
        self._number = -1

    def time_of(self, frame: Any) -> int:
        """When the decoded frame is shown, in ticks of `times.tick`.

        Raises:
            UserError: it is not later than the frame before.
        """
        self._number += 1
        if frame.pts is None:  # a stream without times
            seconds = Fraction(self._number) / self.times.rate
        else:
            seconds = frame.pts * Fraction(frame.time_base or self._own)
            seconds = self._original.restored(seconds, self._own) if self._original else seconds
        if self._last is not None and seconds <= self._last:
            before, now = f"{float(self._last):.4f} s", f"{float(seconds):.4f} s"
            raise UserError(
                f"{self._source}: frame {self._number}: expected a time after that of the frame before, {before}, "
                f"found {now}"
            )
        self._last = seconds
        return round(seconds / self.times.tick)


class Rounding:
    """How far times move in a container that counts in whole `tick`s, beyond what `Times.restored` takes back."""

    def __init__(self, times: Times, tick: Fraction) -> None:
        self._times, self._tick = times, tick
        self.largest = Fraction(0)

    def add(self, ticks: int) -> None:
        """A frame at `ticks` of the original."""
        seconds = ticks * self._times.tick
        written = round(seconds / self._tick) * self._tick
        if self._times.restored(written, self._tick) != seconds:
            self.largest = max(self.largest, abs(written - seconds))
