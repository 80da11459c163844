"""Puts measured tables into documents: python -m benchmarks.tables [--check].

A document marks a place with

    <!-- results: model 0 -->
    <!-- /results -->

(a file of benchmarks/results/ and the number of a table in it). The lines between are written anew from the JSON, with
a line on the machine and the command, so that no figure in README.md or docs/ is typed by hand.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks.record import FOLDER, ROOT, load
from engines.support.files import write_text

PLACE = re.compile(r"(<!-- results: (?P<name>[\w.-]+) (?P<index>\d+) -->\n).*?(<!-- /results -->)", re.DOTALL)


def documents() -> Iterator[Path]:
    """README.md and every Markdown file of docs/, checkpoints/ and plugins/."""
    yield ROOT / "README.md"
    for folder in ("docs", "checkpoints", "plugins"):
        yield from sorted((ROOT / folder).glob("*.md"))


def rendered(name: str, index: int) -> str:
    """Markdown of table `index` of results/`name`.json and where it comes from."""
    stored, tables = load(FOLDER / f"{name}.json")
    about = stored["machine"]
    sets = {"avx512f": "AVX-512", "avx2": "AVX2", "amx_bf16": "AMX", "asimd": "NEON"}
    named = [word for flag, word in sets.items() if flag in about["instruction sets"]]
    processor = f"{about['processor']}, {about['cores']} cores, {' and '.join(named) or 'no vector instructions'}"
    return f"{tables[index].markdown()}\n\n`{stored['command']}`, {stored['date']}, {processor}\n"


def filled(text: str) -> str:
    """The text with every marked place written anew."""

    def fill(place: re.Match[str]) -> str:
        return f"{place[1]}{rendered(place['name'], int(place['index']))}{place[4]}"

    return PLACE.sub(fill, text)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when a document is out of date")
    options = parser.parse_args()
    stale = []
    for path in documents():
        text = path.read_text(encoding="utf-8")
        if filled(text) != text:
            stale.append(str(path.relative_to(ROOT)))
            if not options.check:
                write_text(path, filled(text))
    if stale and options.check:
        sys.exit(f"{', '.join(stale)}: older than benchmarks/results; run python -m benchmarks.tables")
    print(f"{'written' if not options.check else 'checked'}: {', '.join(stale) or 'nothing to do'}")


if __name__ == "__main__":
    main()
