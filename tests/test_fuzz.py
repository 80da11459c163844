"""A short run of the fuzzer, the same cases every time; python -m tests.fuzz is the long one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from fuzz.corpus import Corpus
from fuzz.kinds import KINDS
from fuzz.oracle import Case, run
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
