"""python -m tests.trial: every command of the trial in a process of its own; counts of what is clean, by class."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # as pytest has it: conftest, networks, fuzz, trial

from fuzz.corpus import Corpus

from trial import bad, good, outcome
from trial.pool import Pool


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.trial", description=__doc__)
    parser.add_argument("--within", action="store_true", help="within this process: quicker")
    parser.add_argument("--only", help="classes whose name begins like this")
    options = parser.parse_args()
    pool = Pool(Corpus.make())
    classes = {**bad.all_of(pool), "good commands": good.all_of()}
    total = wrong = 0
    with tempfile.TemporaryDirectory(prefix="dinn360-trial-") as folder:
        for name, trials in classes.items():
            if options.only and not name.startswith(options.only):
                continue
            found = []
            for number, trial in enumerate(trials):
                place = Path(folder) / f"{name.replace(' ', '-')}-{number}"
                said = (outcome.here if options.within else outcome.alone)(trial, pool, place)
                if said is not None:
                    found.append(f"    {trial.title}\n        {said}")
            total, wrong = total + len(trials), wrong + len(found)
            print(f"{name}: {len(trials) - len(found)} of {len(trials)} clean", *found, sep="\n", flush=True)
    print(f"{total - wrong} of {total} clean, {wrong} not")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
