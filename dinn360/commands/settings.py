"""Dataclasses of settings as options of a command."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, Literal, get_args, get_origin

import click

from dinn360.training.settings import Rule, hint
from engines.commands.types import PATH


def setting_options(section: str, cls: type, helps: Mapping[str, str] | None = None) -> Any:
    """One option for each field of `cls`, given to the command as one dictionary `section`.

    helps: the fields to take, each with its help, where they are no `setting`s. An option that was not given is not in
    the dictionary, so that a config file or a default holds.
    """
    fields = [f for f in dataclasses.fields(cls) if helps is None or f.name in helps]

    def decorate(command: Any) -> Any:
        @functools.wraps(command)
        def run(**values: Any) -> Any:
            given = {f.name: values.pop(f"{section}_{f.name}") for f in fields}
            return command(**values, **{section: {name: value for name, value in given.items() if value is not None}})

        for f in reversed(fields):
            words = helps[f.name] if helps else f.metadata["help"]
            run = _option(section, cls, f, words)(run)
        return run

    return decorate


def option(section: str, key: str) -> str:
    """The option of the command line that sets a key of a section."""
    return "--data" if (section, key) == ("data", "train") else f"--{key.replace('_', '-')}"


def _option(section: str, cls: type, f: dataclasses.Field[Any], words: str) -> Any:
    name, kind = option(section, f.name), hint(cls, f.name)
    rule: Rule | None = f.metadata.get("rule")
    shown: Any = kind if kind in (int, float, str) else PATH
    if kind is bool:
        name, shown = f"{name}/--no-{name[2:]}", None
    elif get_origin(kind) is Literal:
        shown = click.Choice(get_args(kind))
    elif rule and kind is str:
        words += f" {rule.expected[0].upper()}{rule.expected[1:]}."
    if f.default is not None and f.default is not dataclasses.MISSING:
        default = {True: "on", False: "off"}[f.default] if kind is bool else f.default
        words += f"  [default: {default}]"
    return click.option(name, f"{section}_{f.name}", type=shown, default=None, help=words)
