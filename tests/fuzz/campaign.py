"""One chunk of a long run: cases of one kind with one seed, in a process that may hang or crash."""

from __future__ import annotations

import faulthandler
import shutil
import time
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings

from fuzz.corpus import Corpus
from fuzz.kinds import KINDS
from fuzz.oracle import SECONDS, Case, run

_corpus: Corpus | None = None  # of this process


def chunk(kind: str, number: int, count: int, keep: Path, seconds: int = SECONDS) -> dict[str, Any]:
    """Runs `count` cases. What is found is copied to `keep`; a case that hangs or crashes stays in keep/now."""
    global _corpus
    _corpus = _corpus or Corpus.make()
    folder = keep / f"now-{kind}-{number}"
    told: dict[str, Any] = {"cases": 0, "codes": Counter(), "findings": Counter(), "slowest": 0.0}
    log = (keep / f"hang-{kind}-{number}.txt").open("w")
    faulthandler.enable(log)
    armed = float("-inf")

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
        nonlocal armed
        started = time.perf_counter()
        if started - armed > seconds / 6:  # setting the alarm takes as long as a case, so it is not set for each
            faulthandler.dump_traceback_later(seconds, exit=True, file=log)
            armed = started
        codes, findings = run(case, folder)
        told["slowest"] = max(told["slowest"], time.perf_counter() - started)
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

    cases()
    faulthandler.cancel_dump_traceback_later()
    log.close()
    shutil.rmtree(folder, ignore_errors=True)
    Path(log.name).unlink()
    return told
