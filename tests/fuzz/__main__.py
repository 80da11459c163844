"""python -m tests.fuzz: a long run. It can be stopped and started again with the same --keep: what is done stays done.

--keep/summary.json has the counts, --keep/chunks.jsonl a line for each chunk; each finding has a folder with its files.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # as pytest has it: conftest, networks, fuzz

from fuzz.campaign import case_folder, chunk, hang_file, how_it_ended
from fuzz.kinds import KINDS
from fuzz.oracle import SECONDS
from fuzz.record import Record

ROUND = 11  # chunks that a process runs
CHUNK = 250  # cases of one kind with one seed: the unit of work, and of repeating
TRIES = 3  # of a chunk whose process something from outside ended

Item = tuple[str, int, int]  # kind, seed, cases


def plan(count: int, kinds: list[str], seed: int) -> list[Item]:
    """The chunks of a run of `count` cases, every kind from the start. The same arguments make the same chunks."""
    shares = {kind: KINDS[kind][1] for kind in kinds}
    work = [
        (kind, seed + number, min(CHUNK, cases - number * CHUNK))
        for kind, share in shares.items()
        for cases in [max(1, round(count * share / sum(shares.values())))]
        for number in range(-(-cases // CHUNK))
    ]
    return sorted(work, key=lambda item: item[1])


def run_round(items: list[Item], record: Record, jobs: int, seconds: int) -> list[Item]:
    """Runs chunks in new processes, and gives back those that are not done because a process ended.

    A case that hangs or crashes takes its chunk with it; the others go on.
    """
    left, keep = list(items), record.folder
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        waiting = {pool.submit(chunk, *item, keep.resolve(), seconds): item for item in items}
        for future in as_completed(waiting):
            kind, seed, count = item = waiting[future]
            try:
                told = future.result()
            except BrokenProcessPool:
                continue
            except Exception as error:  # of the fuzzer's own; the rest of the run is not lost
                cause = error.exceptions[0] if isinstance(error, BaseExceptionGroup) else error
                told = nothing(f"no cases: {kind} {seed}: {type(cause).__name__}: {cause}")
            left.remove(item)
            for key in record.add(kind, seed, count, told):
                print(f"{kind} {seed}: {key}", flush=True)
    for kind, seed, count in list(left):
        ended = how_it_ended(keep, kind, seed)
        if ended is not None:
            left.remove((kind, seed, count))
            record.add(kind, seed, count, nothing(f"{ended}: {kind} {seed}"))
            print(f"{ended}: {kind} {seed}: the case lies in {case_folder(keep, kind, seed)}", flush=True)
    return left


def nothing(finding: str) -> dict[str, object]:
    """What a chunk tells that had one finding and no whole run."""
    return {"cases": 0, "codes": {}, "findings": {finding: 1}, "slowest": 0.0}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--count", type=int, default=10_000, help="cases in all [10000]")
    parser.add_argument("--jobs", type=int, default=1, help="processes [1]")
    parser.add_argument("--seed", type=int, default=0, help="of the first chunk [0]")
    parser.add_argument("--seconds", type=int, default=SECONDS, help=f"of the processor, for a case [{SECONDS}]")
    parser.add_argument("--kind", choices=KINDS, action="append", help="only these; may be repeated")
    parser.add_argument("--keep", type=Path, help="folder of the run and of what it finds [a temporary one]")
    options = parser.parse_args()
    keep = options.keep or Path(tempfile.mkdtemp(prefix="dinn360-findings-"))
    keep.mkdir(parents=True, exist_ok=True)
    record, started, tries = Record.of(keep), time.perf_counter(), Counter[Item]()
    work = plan(options.count, options.kind or list(KINDS), options.seed)
    work = [item for item in work if not record.has(*item)]
    if record.lines:
        print(f"{record.cases} cases before; {sum(count for *_, count in work)} to go", flush=True)
    while work:
        now, work = work[: ROUND * options.jobs], work[ROUND * options.jobs :]
        again = run_round(now, record, options.jobs, options.seconds)
        tries.update(item for item in again if hang_file(keep, *item[:2]).exists())  # the others had not begun
        for kind, seed, count in again:
            if tries[kind, seed, count] >= TRIES:
                record.add(kind, seed, count, nothing(f"killed: {kind} {seed}"))
            else:
                work.insert(0, (kind, seed, count))
        print(f"{record.cases} cases, {time.perf_counter() - started:.0f} s", flush=True)
    summary = record.summary()
    print(json.dumps(summary, indent=1, ensure_ascii=False))
    return 1 if summary["findings"] else 0


if __name__ == "__main__":
    sys.exit(main())
