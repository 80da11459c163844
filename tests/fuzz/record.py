"""What a long run has done so far, chunk by chunk, in a folder: it can be stopped at any time and goes on there."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engines.support.files import write_text

SORTS = ("traceback", "hang", "crash", "half-written", "message")  # what may be found, and is counted even when it is 0
AGAIN = ("no cases: ", "killed: ")  # nothing is known of the commands: another start tries these chunks again
_BOOK, _SUMMARY = "chunks.jsonl", "summary.json"


@dataclass
class Record:
    """The chunks that ran, of this run and of those before it in the same folder.

    A chunk is its kind, seed and number of cases; one that was interrupted runs again from its start.
    """

    folder: Path
    lines: dict[tuple[str, int], dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def of(cls, folder: Path) -> Record:
        record = cls(folder)
        book = folder / _BOOK
        for text in book.read_text(encoding="utf-8").splitlines() if book.exists() else ():
            try:
                line = json.loads(text)
            except ValueError:  # the run was killed while it wrote
                continue
            if not any(key.startswith(AGAIN) for key in line["findings"]):
                record.lines[line["kind"], line["seed"]] = line
        return record

    def has(self, kind: str, seed: int, count: int) -> bool:
        """Whether this chunk ran, with as many cases or more."""
        return self.lines.get((kind, seed), {"asked": 0})["asked"] >= count

    def add(self, kind: str, seed: int, asked: int, told: dict[str, Any]) -> list[str]:
        """A chunk ended, with what campaign.chunk says. The findings that are new in the folder."""
        known = self.findings()
        slowest = round(1000 * told["slowest"])
        line = {"kind": kind, "seed": seed, "asked": asked, "cases": told["cases"], "slowest_ms": slowest}
        line |= {"codes": dict(told["codes"]), "findings": dict(told["findings"])}
        self.lines[kind, seed] = line
        with (self.folder / _BOOK).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
        write_text(self.folder / _SUMMARY, json.dumps(self.summary(), indent=1, ensure_ascii=False) + "\n")
        return [key for key in told["findings"] if key not in known]

    @property
    def cases(self) -> int:
        return sum(line["cases"] for line in self.lines.values())

    def findings(self) -> Counter[str]:
        """How often each was found, "sort: place"."""
        found: Counter[str] = Counter()
        for line in self.lines.values():
            found.update(line["findings"])
        return found

    def summary(self) -> dict[str, Any]:
        """Counts over all chunks: cases, findings by sort, and each kind with its exit statuses and slowest case."""
        found = self.findings()
        sorts = dict.fromkeys(SORTS, 0)
        for key, times in found.items():
            sort = key.partition(": ")[0]
            sorts[sort] = sorts.get(sort, 0) + times
        kinds: dict[str, dict[str, int]] = {}
        for (kind, _), line in sorted(self.lines.items()):
            of_kind = kinds.setdefault(kind, {"cases": 0, "slowest_ms": 0})
            of_kind["cases"] += line["cases"]
            of_kind["slowest_ms"] = max(of_kind["slowest_ms"], line["slowest_ms"])
            for code, times in line["codes"].items():
                of_kind[f"status {code}"] = of_kind.get(f"status {code}", 0) + times
        return {"cases": self.cases, **sorts, "findings": dict(found.most_common()), "kinds": kinds}
