"""A progress bar for engine builds, fed by the builder's own progress monitor."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from engines.support.progress import progress


class BuildProgress:
    """The part that does not depend on TensorRT: open phases, and one bar for the innermost of them.

    TensorRT's phases nest and their numbers of steps are no measure of time, so the bar shows how far the current
    phase is and what it is called. Calls may come from several threads. Without a bar nothing is shown.
    """

    def __init__(self, bar: Any = None) -> None:
        self._bar = bar
        self._lock = threading.Lock()
        self._phases: dict[str, tuple[int, int]] = {}

    def start(self, phase: str, steps: int) -> None:
        with self._lock:
            self._phases[phase] = (0, steps)
            self._show()

    def step(self, phase: str, step: int) -> None:
        """`step`: number of the step that was completed, from 0."""
        with self._lock:
            if phase in self._phases:
                self._phases[phase] = (step + 1, self._phases[phase][1])
                self._show()

    def finish(self, phase: str) -> None:
        with self._lock:
            self._phases.pop(phase, None)
            self._show()

    def _show(self) -> None:
        if self._bar is None or not self._phases:
            return
        name, (done, total) = list(self._phases.items())[-1]
        self._bar.total, self._bar.n = total, min(done, total)
        self._bar.set_description_str(name, refresh=False)
        self._bar.refresh()


def progress_bar() -> Any:
    """A bar on stderr that disappears at the end; a line now and then where stderr is no terminal."""
    return progress(total=1, unit="step", form="{desc}: {n_fmt}/{total_fmt} [{elapsed}]")


def monitor(api: Any, progress: BuildProgress) -> Any:
    """An IProgressMonitor of the imported package that reports to `progress`. It must outlive the build.

    Ctrl-C arrives in one of its methods, from which nothing may be raised: the builder would abort the process. The
    attribute `interrupted` tells of it, and the builder stops after its current step and returns None.
    """

    class Monitor(api.IProgressMonitor):
        def __init__(self) -> None:
            api.IProgressMonitor.__init__(self)
            self.interrupted = False

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self._guard(lambda: progress.start(phase_name, num_steps))

        def phase_finish(self, phase_name: str) -> None:
            self._guard(lambda: progress.finish(phase_name))

        def step_complete(self, phase_name: str, step: int) -> bool:
            self._guard(lambda: progress.step(phase_name, step))
            return not self.interrupted

        def _guard(self, report: Callable[[], None]) -> None:
            try:
                report()
            except KeyboardInterrupt:
                self.interrupted = True

    return Monitor()
