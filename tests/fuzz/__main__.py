"""python -m tests.fuzz: a long run. Counts at the end; what was found lies in --keep, one folder a finding."""

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

from fuzz.campaign import chunk
from fuzz.kinds import KINDS
from fuzz.oracle import SECONDS

ROUND = 11  # chunks that a process runs
CHUNK = 250  # cases of one kind with one seed: the unit of work, and of repeating


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--count", type=int, default=10_000, help="cases in all [10000]")
    parser.add_argument("--jobs", type=int, default=1, help="processes [1]")
    parser.add_argument("--seed", type=int, default=0, help="of the first chunk [0]")
    parser.add_argument("--seconds", type=int, default=SECONDS, help=f"that a case may take [{SECONDS}]")
    parser.add_argument("--kind", choices=KINDS, action="append", help="only these; may be repeated")
    parser.add_argument("--keep", type=Path, help="folder for what is found [a temporary one]")
    options = parser.parse_args()
    keep = options.keep or Path(tempfile.mkdtemp(prefix="dinn360-findings-"))
    keep.mkdir(parents=True, exist_ok=True)
    shares = {kind: weight for kind, (_, weight) in KINDS.items() if not options.kind or kind in options.kind}
    work = [
        (kind, options.seed + number, min(CHUNK, count - number * CHUNK))
        for kind, share in shares.items()
        for count in [max(1, round(options.count * share / sum(shares.values())))]
        for number in range(-(-count // CHUNK))
    ]
    work.sort(key=lambda item: item[1])  # all kinds from the start
    totals: dict[str, Counter[str]] = {kind: Counter() for kind in shares}
    findings: Counter[str] = Counter()
    started = time.perf_counter()
    while work:
        # New processes from time to time. One that hangs or crashes takes its chunk with it, and the others go on.
        now, work = work[: ROUND * options.jobs], work[ROUND * options.jobs :]
        left = list(now)
        with ProcessPoolExecutor(options.jobs, multiprocessing.get_context("spawn")) as pool:
            waiting = {pool.submit(chunk, *item, keep.resolve(), options.seconds): item for item in now}
            for future in as_completed(waiting):
                kind, number, _ = waiting[future]
                try:
                    told = future.result()
                except BrokenProcessPool:
                    continue
                except Exception as error:  # of the fuzzer's own; the rest of the run is not lost
                    left.remove(waiting[future])
                    findings[f"no cases: {kind} {number}: {type(error).__name__}: {error}"] += 1
                    continue
                left.remove(waiting[future])
                totals[kind]["cases"] += told["cases"]
                totals[kind].update({f"status {code}": n for code, n in told["codes"].items()})
                totals[kind]["slowest, ms"] = max(totals[kind]["slowest, ms"], int(1000 * told["slowest"]))
                for key, times in told["findings"].items():
                    if key not in findings:
                        print(f"{kind} {number}: {key}", flush=True)
                    findings[key] += times
        broken = [item for item in left if (keep / f"now-{item[0]}-{item[1]}").exists()]
        for item in broken:
            key = f"hang or crash: {item[0]} {item[1]}"
            print(f"{key}: the case lies in {keep}/now-{item[0]}-{item[1]}", flush=True)
            findings[key] += 1
        work = [item for item in left if item not in broken] + work
        done = sum(total["cases"] for total in totals.values())
        print(f"{done} cases, {time.perf_counter() - started:.0f} s, {len(findings)} kinds of findings", flush=True)
    print(json.dumps(totals, indent=1))
    cases = sum(total["cases"] for total in totals.values())
    seconds = time.perf_counter() - started
    print(f"{cases} cases, {seconds:.0f} s, {sum(findings.values())} findings of {len(findings)} kinds")
    for key, times in findings.most_common():
        print(f"  {times:6} {key}")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
