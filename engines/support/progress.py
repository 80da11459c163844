"""Progress on stderr: a bar on a terminal, else a line now and then, so that a log shows that something happens."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import Any, TextIO

from tqdm import tqdm

SECONDS = 15.0  # between two lines; what takes less than this prints none


class Lines(tqdm):
    """tqdm's counts as whole lines, without control characters."""

    @staticmethod
    def status_printer(file: TextIO) -> Callable[[str], None]:
        def show(text: str) -> None:
            if text.strip():
                file.write(text.strip() + "\n")
                file.flush()

        return show

    def clear(self, nolock: bool = False) -> None:
        """Nothing is drawn that would have to be taken away."""

    def refresh(self, *args: Any, **kwargs: Any) -> None:
        """Not more often than that, whoever asks."""
        now = self._time()
        if now - getattr(self, "shown", getattr(self, "start_t", now)) >= SECONDS:
            self.shown = now
            super().refresh(*args, **kwargs)

    def close(self) -> None:
        """No last line: whoever asked for progress says how it ended."""
        if not self.disable:
            self.disable: bool = True
            self._decr_instances(self)


def progress(
    iterable: Iterable[Any] | None = None,
    *,
    total: float | None = None,
    unit: str = "it",
    desc: str | None = None,
    quiet: bool = False,
    form: str | None = None,
    initial: int = 0,
) -> tqdm:
    """A bar that disappears when it is done, or lines where stderr is no terminal.

    iterable, total, unit, desc: as tqdm takes them. initial: what is done already. quiet: show nothing.
    form: tqdm's `bar_format` for terminals.
    """
    if quiet or sys.stderr.isatty():
        shown = {"disable": quiet, "dynamic_ncols": True, "bar_format": form}
        return tqdm(iterable, desc, total, leave=False, unit=unit, initial=initial, **shown)
    lines = "{desc}{n_fmt} of {total_fmt}, {elapsed} gone, {remaining} left{postfix}" if total else None
    return Lines(
        iterable,
        desc,
        total,
        leave=False,
        unit=unit,
        initial=initial,
        mininterval=SECONDS,
        maxinterval=SECONDS,
        delay=SECONDS,
        bar_format=lines,
    )
