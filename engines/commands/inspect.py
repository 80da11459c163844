"""python -m engines inspect: what a graph or an engine file is."""

from __future__ import annotations

import json
from pathlib import Path

import click

from engines.commands.types import PATH
from engines.support.errors import UserError


@click.command()
@click.argument("file", type=PATH)
@click.option("--layers", is_flag=True, help="Each layer: of a graph its nodes; of an engine as fused, needs its GPU.")
@click.option("--json", "as_json", is_flag=True, help="The same as JSON.")
def inspect(file: Path, layers: bool, as_json: bool) -> None:
    """Say what FILE is (.onnx, .engine, .plan): inputs and outputs, profile, types, plugins, sidecar."""
    from engines import inspection
    from engines.engine_file.manifest import read_manifest

    suffix = file.suffix.lower()
    if suffix == ".onnx":
        if layers:
            click.echo("\n".join(inspection.node_lines(file)))
            return
        facts = inspection.describe_onnx(file)
        click.echo(json.dumps(facts, indent=2) if as_json else inspection.onnx_text(facts))
    elif suffix in (".engine", ".plan"):
        if layers:
            click.echo(inspection.engine_layers(file))
            return
        facts = inspection.describe_engine(file)
        click.echo(json.dumps(facts, indent=2) if as_json else inspection.engine_text(facts, read_manifest(file)))
    else:
        raise UserError(f"{file}: expected a file that ends in .onnx, .engine, .plan, found {suffix or 'no suffix'!r}")
