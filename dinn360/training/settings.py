"""Settings with a type, bounds and a sentence of help, declared once for Python, config files and the command line."""

from __future__ import annotations

import dataclasses
import math
import types
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from engines.support.errors import UserError


@dataclass(frozen=True)
class Rule:
    """What a value must be beyond its type: in words, and as a test."""

    expected: str
    holds: Callable[[Any], bool]


COUNT = Rule("at least 1", lambda value: value >= 1)
NOT_NEGATIVE = Rule("0 or more", lambda value: 0 <= value < math.inf)
POSITIVE = Rule("a number above 0", lambda value: 0 < value < math.inf)
SHARE = Rule("a share of 0 to 1", lambda value: 0 <= value <= 1)
DECAY = Rule("0 or more and below 1", lambda value: 0 <= value < 1)


def one_of(names: tuple[str, ...]) -> Rule:
    return Rule(f"one of {', '.join(names)}", lambda value: value in names)


def setting(default: Any, help: str, rule: Rule | None = None) -> Any:
    """A dataclass field with its default, what it means, and the rule that its values obey."""
    return field(default=default, metadata={"help": help, "rule": rule})


def flag(name: str) -> str:
    """The option of a command line that sets the field `name`."""
    return "--" + name.replace("_", "-")


def hint(cls: Any, name: str) -> Any:
    """The type of a field, without None where it is optional."""
    found = get_type_hints(cls)[name]
    if get_origin(found) in (Union, types.UnionType):
        return next(kind for kind in get_args(found) if kind is not types.NoneType)
    return found


def checked(where: str, cls: Any, name: str, value: Any) -> Any:
    """`value` as the field `name` of dataclass `cls` holds it: of its type and within its rule.

    A whole number is taken for a float, a text for a path, a list of tables for a tuple of dataclasses.

    Raises:
        UserError: `where` (which names the file and the key, or the option), what was expected and what was found.
    """
    fields = {f.name: f for f in dataclasses.fields(cls)}
    if name not in fields:
        raise UserError(f"{where}: expected one of {', '.join(fields)}, found this unknown key")
    value = _typed(where, hint(cls, name), value)
    rule: Rule | None = fields[name].metadata.get("rule")
    if rule and not rule.holds(value):
        raise UserError(f"{where}: expected {rule.expected}, found {value!r}")
    return value


def check(instance: Any) -> None:
    """Every field of a dataclass of settings, None aside. Raises UserError, which names the field's option."""
    for f in dataclasses.fields(instance):
        value = getattr(instance, f.name)
        if value is not None:
            checked(flag(f.name), type(instance), f.name, value)


def _typed(where: str, kind: Any, value: Any) -> Any:
    if get_origin(kind) is Literal:
        if value in get_args(kind):
            return value
        raise UserError(f"{where}: expected {' or '.join(get_args(kind))}, found {value!r}")
    if get_origin(kind) is tuple:
        if not isinstance(value, list | tuple):
            raise UserError(f"{where}: expected a list, found {value!r}")
        return tuple(_typed(f"{where}[{index}]", get_args(kind)[0], item) for index, item in enumerate(value))
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return value if isinstance(value, kind) else _from_table(where, kind, value)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind is bool and isinstance(value, bool):
        return value
    if kind is int and number and isinstance(value, int):
        return value
    if kind is float and number and not math.isnan(value):
        return float(value)
    if kind is str and isinstance(value, str):
        return value
    if kind is Path and isinstance(value, str | Path):
        return Path(value)
    words = {bool: "true or false", int: "a whole number", float: "a number", str: "a text", Path: "a path"}
    raise UserError(f"{where}: expected {words[kind]}, found {value!r}")


def _from_table(where: str, cls: Any, table: Any) -> Any:
    if not isinstance(table, dict):
        raise UserError(f"{where}: expected a table, found {table!r}")
    values = {name: checked(f"{where}.{name}", cls, name, value) for name, value in table.items()}
    missing = [f.name for f in dataclasses.fields(cls) if f.default is dataclasses.MISSING and f.name not in values]
    if missing:
        raise UserError(f"{where}: expected the key {missing[0]}, found it missing")
    return cls(**values)
