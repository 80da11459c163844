"""Documents say what is: their commands parse, their paths exist, their imports resolve, their tables are measured."""

from __future__ import annotations

from pathlib import Path

import pytest
from documents import ROOT, commands, complaint, documents, missing_paths, scripts, wrong_imports

from benchmarks.tables import documents as with_tables
from benchmarks.tables import filled

DOCUMENTS = [str(p.relative_to(ROOT)) for p in documents()]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_commands_are_those_of_the_command_line(document: str) -> None:
    wrong = {str(said): why for said in commands(ROOT / document) if (why := complaint(said.text)) is not None}
    assert wrong == {}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_paths_exist(document: str) -> None:
    assert [str(said) for said in missing_paths(ROOT / document)] == []


@pytest.mark.parametrize("script", [*DOCUMENTS, *(str(p.relative_to(ROOT)) for p in scripts())])
def test_imports_resolve(script: str) -> None:
    assert [str(said) for said in wrong_imports(ROOT / script)] == []


@pytest.mark.parametrize("document", [str(p.relative_to(ROOT)) for p in with_tables()])
def test_tables_are_those_of_the_benchmarks(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    assert filled(text) == text, "run python -m benchmarks.tables"


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("python -m export onnx --ckpt x4.pth", None),
        ("python -m export onnx --chkpt x4.pth", "--chkpt"),
        ("python -m engines shrink IN OUT", "no command 'shrink'"),
        ("python -m benchmarks.model --runs 3", None),
        ("python -m benchmarks.model --laps 3", "no option --laps"),
        ("make tset", "make: no target tset"),
        ("make -C nowhere all", "no such Makefile"),
    ],
)
def test_the_rule_sees_a_wrong_command(command: str, expected: str | None) -> None:
    found = complaint(command)
    assert found is None if expected is None else found is not None and expected in found


def test_the_rule_sees_a_missing_path_and_a_wrong_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = ROOT / "docs" / "never-written.md"
    monkeypatch.setattr(
        Path, "read_text", lambda *_, **__: "`engines/nothing.py` [a](b.md)\n```python\nimport engines.nothing\n```\n"
    )
    assert [said.text for said in missing_paths(page)] == ["b.md", "engines/nothing.py"]
    assert [said.text for said in wrong_imports(page)] == ["import engines.nothing"]
