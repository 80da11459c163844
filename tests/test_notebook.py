"""The notebook runs, from its first cell to its last."""

import contextlib
import io
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def test_the_notebook_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    notebook = json.loads((ROOT / "examples" / "panorama.ipynb").read_text(encoding="utf-8"))
    names: dict[str, object] = {}
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        for cell in notebook["cells"]:
            if cell["cell_type"] == "code":
                assert cell["outputs"] == [], "clear the outputs before committing"
                exec("".join(cell["source"]), names)
    lines = printed.getvalue().splitlines()
    decibels = {line[:12].strip(): float(line.split()[-2]) for line in lines if line.endswith("dB")}
    assert decibels["DINN360 x4"] > decibels["bicubic"] + 3
    assert lines[-1].startswith(("0.0", "0.1")) and int(lines[-1].split()[-2]) <= 2
