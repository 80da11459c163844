"""The trial's command list within one process, class by class; python -m tests.trial runs it as a user does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fuzz.corpus import Corpus
from trial import bad
from trial.outcome import ANY, Trial, here
from trial.pool import Pool

CLASSES = (
    *("images", "targets", "graphs and engines", "sidecars", "numbers", "checkpoints", "run files", "videos", "data"),
    "other commands",
)


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    yield Pool(Corpus.make())


def test_there_are_many_of_every_class(pool: Pool) -> None:
    classes = bad.all_of(pool)
    assert tuple(classes) == CLASSES and min(map(len, classes.values())) >= 15
    assert sum(map(len, classes.values())) > 500


@pytest.mark.parametrize("name", CLASSES)
def test_bad_inputs_end_in_one_line(name: str, pool: Pool, tmp_path: Path) -> None:
    found = {trial.title: here(trial, pool, tmp_path / "case") for trial in bad.all_of(pool)[name]}
    assert {title: said for title, said in found.items() if said is not None} == {}


def test_what_is_not_clean_is_seen(pool: Pool, tmp_path: Path) -> None:
    works = Trial(("engines", "inspect", "down.onnx"), ANY)
    assert "status 0, not 2" in (here(works, pool, tmp_path / "a") or "")
    other = Trial(("engines", "inspect", "none.onnx"), "something else")
    assert "does not say 'something else'" in (here(other, pool, tmp_path / "b") or "")
