"""A short run of the fuzzer, the same cases every time; python -m tests.fuzz is the long one."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from fuzz.campaign import hang_file, how_it_ended
from fuzz.corpus import Corpus
from fuzz.kinds import KINDS
from fuzz.oracle import Case, run
from fuzz.record import Record
from hypothesis import HealthCheck, Phase, given, seed, settings

# Cases of each kind: what takes long, or needs much to be made, has few.
COUNTS = {kind: 25 for kind in KINDS} | {"images": 60, "runs": 4, "checkpoints": 12, "videos": 12, "graphs": 40}


@pytest.fixture(scope="module")
def corpus() -> Iterator[Corpus]:
    yield Corpus.make()


@pytest.mark.parametrize("kind", KINDS)
def test_strange_inputs_end_in_a_line(kind: str, corpus: Corpus, tmp_path: Path) -> None:
    codes: Counter[int] = Counter()

    @seed(18)
    @settings(
        max_examples=COUNTS[kind],
        database=None,
        deadline=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(KINDS[kind][0](corpus))
    def cases(case: Case) -> None:
        exits, findings = run(case, tmp_path / "case")
        codes.update(exits)
        assert not findings, "\n".join(f"{f.sort}: {f.place}\n{f.detail}" for f in findings)

    cases()
    assert codes[2] > 0 or kind == "runs", "no input was refused: nothing was damaged"  # a run has its state twice


def test_the_oracle_sees_what_must_not_happen(tmp_path: Path) -> None:
    import click
    from fuzz.oracle import Command

    from engines.commands import Group

    @click.group(cls=Group)
    def main() -> None:
        pass

    @main.command()
    @click.argument("how")
    @click.pass_context
    def do(ctx: click.Context, how: str) -> None:
        if how == "raise":
            raise ValueError("a bug")
        Path("out.png").write_bytes(b"half")
        if how == "two lines":
            click.echo("error: one\nerror: two", err=True)
        ctx.exit(0 if how == "well" else 2)

    def found(how: str) -> set[str]:
        makes = {"out.png": lambda path: path.read_bytes().index(b"whole")}
        return {f.sort for f in run(Case({}, (Command(main, ("do", how), makes),)), tmp_path / "case")[1]}

    assert found("raise") == {"traceback"}
    assert found("well") == {"half-written"}
    assert found("two lines") == {"message", "half-written"}


@pytest.mark.parametrize(
    ("case", "ended", "status"),
    [
        ("import sys\nwhile True: pass", "hang", -signal.SIGPROF),
        ("import ctypes; ctypes.string_at(0)", "crash", -signal.SIGSEGV),
        ("import time; time.sleep(0.5)", None, 0),
    ],
)
def test_a_case_that_never_ends_is_a_hang_and_names_its_place(
    case: str, ended: str | None, status: int, tmp_path: Path
) -> None:
    code = f"""
from pathlib import Path
from fuzz.campaign import Alarm, hang_file
with hang_file(Path({str(tmp_path)!r}), "images", 7).open("w") as log:
    alarm = Alarm(1, log)
    alarm.set()
    exec({case!r})
"""
    tests = Path(__file__).parent
    done = subprocess.run([sys.executable, "-c", code], cwd=tests, timeout=100, stderr=subprocess.DEVNULL)
    assert done.returncode == status
    assert how_it_ended(tmp_path, "images", 7) == ended
    assert ended is None or "line" in hang_file(tmp_path, "images", 7).read_text()


def test_a_long_run_goes_on_where_it_stopped_and_counts_everything(tmp_path: Path) -> None:
    bug = "traceback: KeyError in engines/x.py:f"
    told = {"cases": 250, "codes": Counter({0: 200, 2: 50}), "findings": Counter({bug: 3}), "slowest": 1.5}
    record = Record.of(tmp_path)
    assert record.add("images", 1, 250, told) == [bug]
    assert record.add("images", 2, 250, told) == []
    record.add("books", 1, 40, {"cases": 0, "codes": {}, "findings": {"hang: books 1": 1}, "slowest": 0.0})
    record.add("runs", 1, 250, {"cases": 0, "codes": {}, "findings": {"killed: runs 1": 1}, "slowest": 0.0})
    with (tmp_path / "chunks.jsonl").open("a") as file:
        file.write('{"kind": "images", "se')  # killed while it wrote

    record = Record.of(tmp_path)
    assert record.has("images", 1, 250) and record.has("books", 1, 40)
    assert not record.has("runs", 1, 250) and not record.has("images", 3, 250) and not record.has("books", 1, 250)
    summary = record.summary()
    assert (summary["cases"], summary["traceback"], summary["hang"], summary["half-written"]) == (500, 6, 1, 0)
    assert summary["kinds"]["images"] == {"cases": 500, "slowest_ms": 1500, "status 0": 400, "status 2": 100}
