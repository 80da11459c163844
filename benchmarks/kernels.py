"""Registers, shared memory, spills and tensor-core instructions of the compiled kernels, for each architecture.

python -m benchmarks.kernels            build the kernels and print the tables
python -m benchmarks.kernels --write    and write them to plugins/REPORT.md
python -m benchmarks.kernels --save kernels    and to benchmarks/results/kernels.json
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks import record
from benchmarks.record import Cell, Table
from engines.support.files import atomic_path
from plugins.build import BuildError
from plugins.cuda import library
from plugins.testing.cuda_binaries import Kernel, MissingToolError, read

REPORT = Path(__file__).resolve().parents[1] / "plugins" / "REPORT.md"
# For `export estimate`: instructions of the whole kernel, of the largest loop around the innermost one with
# tensor-core instructions, of that one, and of the part of it that a branch may skip; by kernel and architecture.
INSTRUCTIONS = REPORT.parent / "cuda" / "instructions.json"

HEAD = """# What the kernels compile to

Written by `make -C plugins report` with nvcc {version}. Nothing here ran on a GPU.

A kernel is named as in its source, with its template arguments: `deform_conv_half<output channels / 8, channels-last>`,
`deform_conv_float<channels-last>`, `dst_attention<type, channels of a head, 16-byte loads>`. Columns are compute
capabilities.
"""


def compiler_version() -> str:
    """nvcc's version, e.g. 13.0.88."""
    output = subprocess.run([str(library.nvcc()), "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r", V([\d.]+)", output)
    return found[1] if found else "of unknown version"


def table(title: str, kernels: Sequence[Kernel], cell: Callable[[Kernel], Cell]) -> Table:
    """One measure: a row for each kernel, a column for each architecture."""
    cells = {(kernel.name, kernel.architecture): cell(kernel) for kernel in kernels}
    columns = sorted({kernel.architecture for kernel in kernels}, key=int)
    rows: list[list[Cell]] = [
        [f"`{name}`", *(cells.get((name, column)) for column in columns)]
        for name in dict.fromkeys(kernel.name for kernel in kernels)
    ]
    return Table(title, {"kernel": "{}", **dict.fromkeys(columns, "{}")}, rows)


def tables(kernels: Sequence[Kernel]) -> list[Table]:
    """All measures."""
    multiplying = [kernel for kernel in kernels if any(k.tensor for k in kernels if k.name == kernel.name)]
    return [
        table("Registers of a thread", kernels, lambda kernel: kernel.registers),
        table("Shared memory of a block, bytes, static", kernels, lambda kernel: kernel.shared),
        table(
            "Tensor-core instructions in the whole kernel",
            multiplying,
            lambda k: f"{k.tensor} of {k.instructions} ({k.share:.1%})",
        ),
        table(
            "Tensor-core instructions in the innermost loop that has them",
            multiplying,
            lambda k: f"{k.loop_tensor} of {k.loop_instructions} ({k.loop_share:.1%})",
        ),
    ]


def spills(kernels: Sequence[Kernel]) -> str:
    """One line."""
    found = [f"`{k.name}`, {k.architecture}: {k.stack} bytes a thread" for k in kernels if k.stack]
    return f"Spilled registers and arrays in local memory: {'; '.join(found) or 'none'}."


def report(kernels: Sequence[Kernel]) -> str:
    """The whole page."""
    sections = [f"## {table.title}\n\n{table.markdown()}\n" for table in tables(kernels)]
    return "\n".join([HEAD.format(version=compiler_version()), f"{spills(kernels)}\n", *sections])


def instructions(kernels: Sequence[Kernel]) -> str:
    """The content of INSTRUCTIONS: the fp16 kernels."""
    table: dict[str, dict[str, list[int]]] = {}
    for k in kernels:
        if k.loop_tensor:
            counts = [k.instructions, k.outer_instructions, k.loop_instructions, k.skipped_instructions]
            table.setdefault(k.name, {})[k.architecture] = counts
    lines = [f"  {json.dumps(name)}: {json.dumps(row)}" for name, row in table.items()]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help=f"write {REPORT.parent.name}/{REPORT.name}")
    record.add_option(parser)
    arguments = parser.parse_args()
    try:
        kernels = read(library.built())
    except (BuildError, MissingToolError) as error:
        sys.exit(str(error))
    record.report(tables(kernels), [f"nvcc {compiler_version()}", spills(kernels)], arguments.save)
    if arguments.write:
        for page, content in ((REPORT, report(kernels)), (INSTRUCTIONS, instructions(kernels))):
            with atomic_path(page) as path:
                path.write_text(content)


if __name__ == "__main__":
    main()
