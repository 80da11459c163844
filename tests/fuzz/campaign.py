"""One chunk of a long run: cases of one kind with one seed, in a process that may hang or crash."""

from __future__ import annotations

import faulthandler
import fcntl
import shutil
import signal
import time
import zlib
from collections import Counter
from pathlib import Path
from typing import Any, TextIO

from hypothesis import HealthCheck, Phase, given, seed, settings

from fuzz.corpus import Corpus
from fuzz.kinds import KINDS
from fuzz.oracle import SECONDS, Case, run

PATIENCE = 20  # times the limit on the clock: a deadlock takes no time of the processor

_corpus: Corpus | None = None  # of this process


def chunk(kind: str, number: int, count: int, keep: Path, seconds: int = SECONDS) -> dict[str, Any]:
    """Runs `count` cases. What is found is copied to `keep`.

    A case that takes longer than `seconds` of the processor ends the process; so does one that crashes. The case then
    stays in keep/now-…, and keep/hang-….txt says where every thread was.
    """
    global _corpus
    _corpus = _corpus or Corpus.make()
    folder = case_folder(keep, kind, number)
    told: dict[str, Any] = {"cases": 0, "codes": Counter(), "findings": Counter(), "slowest": 0.0}
    with hang_file(keep, kind, number).open("w") as log:
        fcntl.flock(log, fcntl.LOCK_EX)  # a process of a run that was stopped may still be at this chunk
        alarm = Alarm(seconds, log)

        @seed(number)
        @settings(
            max_examples=count,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(KINDS[kind][0](_corpus))
        def cases(case: Case) -> None:
            started = time.process_time()
            alarm.set()
            codes, findings = run(case, folder)
            told["slowest"] = max(told["slowest"], time.process_time() - started)
            told["cases"] += 1
            told["codes"].update(codes)
            for finding in findings:
                key = f"{finding.sort}: {finding.place}"
                told["findings"][key] += 1
                place = keep / f"{kind}-{zlib.crc32(key.encode()):08x}"
                if not place.exists():
                    place.mkdir()
                    for name, data in case.files.items():
                        (place / name).parent.mkdir(parents=True, exist_ok=True)
                        (place / name).write_bytes(data)
                    (place / "FINDING.txt").write_text(f"{key}\n{kind} {number}\n{case!r}\n\n{finding.detail}\n")

        try:
            cases()
        finally:
            alarm.stop()
    shutil.rmtree(folder, ignore_errors=True)
    hang_file(keep, kind, number).unlink()
    return told


class Alarm:
    """Ends the process when a case has had too much of the processor, or none for too long; `log` has the stacks.

    The processor's time is what counts, not the clock's: on a machine with other work the clock measures that work.
    """

    def __init__(self, seconds: int, log: TextIO) -> None:
        self._seconds, self._log, self._armed = seconds, log, float("-inf")
        faulthandler.enable(log)
        faulthandler.register(signal.SIGPROF, log, chain=True)  # then the signal does what it does: it ends the process

    def set(self) -> None:
        """A case begins."""
        signal.setitimer(signal.ITIMER_PROF, self._seconds)
        now = time.perf_counter()
        if now - self._armed > self._seconds:  # this alarm takes as long to set as a case, so it is not set for each
            faulthandler.dump_traceback_later(PATIENCE * self._seconds, exit=True, file=self._log)
            self._armed = now

    def stop(self) -> None:
        """No case runs."""
        signal.setitimer(signal.ITIMER_PROF, 0)
        faulthandler.cancel_dump_traceback_later()
        faulthandler.unregister(signal.SIGPROF)
        faulthandler.disable()


def case_folder(keep: Path, kind: str, number: int) -> Path:
    """Where the case lies that runs now."""
    return keep / f"now-{kind}-{number}"


def hang_file(keep: Path, kind: str, number: int) -> Path:
    """Empty until the process is ended by its alarm or by a crash."""
    return keep / f"hang-{kind}-{number}.txt"


def how_it_ended(keep: Path, kind: str, number: int) -> str | None:
    """ "hang" or "crash" of a chunk whose process is gone, None where something from outside ended it."""
    try:
        stacks = hang_file(keep, kind, number).read_text(errors="replace")
    except FileNotFoundError:  # it had not begun
        return None
    if not stacks:
        return None
    return "crash" if stacks.startswith("Fatal Python error") else "hang"
