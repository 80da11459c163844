"""The report as one HTML page, without scripts and without anything from elsewhere."""

from __future__ import annotations

import json
from html import escape
from typing import Any

STYLE = """body{font:15px/1.5 sans-serif;max-width:62em;margin:2em auto;padding:0 1em}table{border-collapse:collapse}
td,th{border:1px solid #bbb;padding:.3em .6em;text-align:left;vertical-align:top}pre{margin:0;white-space:pre-wrap}
.passed{background:#dfd}.failed{background:#fdd}.not-run{background:#eee}"""


def page(report: dict[str, Any]) -> str:
    """The whole page of a report of tests/device/gpu.py."""
    rows = "\n".join(_row(step) for step in report["steps"])
    machine = ", ".join(str(value) for value in report["machine"].values())
    return (
        f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>DINN360 on a GPU</title>\n'
        f"<style>{STYLE}</style>\n"
        f"<h1>DINN360 on a GPU</h1>\n<p>{escape(machine)}</p>\n<table>\n"
        f"<tr><th>step</th><th></th><th>seconds</th><th>found</th></tr>\n{rows}\n</table></html>\n"
    )


def _row(step: dict[str, Any]) -> str:
    found = (
        _table(step["found"].get("rows")) or f"<pre>{escape(step['why'] or json.dumps(step['found'], indent=1))}</pre>"
    )
    status = step["status"]
    return (
        f'<tr class="{status.replace(" ", "-")}"><td>{escape(step["step"])}</td><td>{status}</td>'
        f"<td>{step['seconds']:.1f}</td><td>{found}</td></tr>"
    )


def _table(rows: Any) -> str:
    """Records of the same keys as a table; empty for anything else."""
    if not rows or not all(isinstance(row, dict) for row in rows):
        return ""
    head = "".join(f"<th>{escape(name)}</th>" for name in rows[0])
    lines = "".join(f"<tr>{''.join(f'<td>{escape(str(value))}</td>' for value in row.values())}</tr>\n" for row in rows)
    return f"<table>\n<tr>{head}</tr>\n{lines}</table>"
