"""Settings with a type, bounds and a sentence of help, declared once for Python, config files and the command line."""

from __future__ import annotations

import dataclasses
import math
import types
from dataclasses import field
from typing import Any, Union, get_args, get_origin, get_type_hints

from engines.support.errors import UserError
from engines.support.reading import Rule, short, typed

MOST = 10**9  # of anything that is counted; what memory holds is far less, and is asked before a run starts
COUNT = Rule("at least 1", lambda value: value >= 1)
NOT_NEGATIVE = Rule("0 or more", lambda value: 0 <= value < math.inf)
POSITIVE = Rule("a number above 0", lambda value: 0 < value < math.inf)
THREADS = Rule("1 to 1024", lambda value: 1 <= value <= 1024)
SHARE = Rule("a share of 0 to 1", lambda value: 0 <= value <= 1)
DECAY = Rule("0 or more and below 1", lambda value: 0 <= value < 1)


def one_of(names: tuple[str, ...]) -> Rule:
    return Rule(f"one of {', '.join(names)}", lambda value: value in names)


def setting(default: Any, help: str, rule: Rule | None = None) -> Any:
    """A dataclass field with its default, what it means, and the rule that its values obey."""
    return field(default=default, metadata={"help": help, "rule": rule})


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
        UserError: `where` (which names the file and the key, or the parameter), what was expected and what was found.
    """
    fields = {f.name: f for f in dataclasses.fields(cls)}
    if name not in fields:
        raise UserError(f"{where}: expected one of {', '.join(fields)}, found this unknown key")
    value = typed(where, hint(cls, name), value)
    rule: Rule | None = fields[name].metadata.get("rule")
    if rule and not rule.holds(value):
        raise UserError(f"{where}: expected {rule.expected}, found {short(value)}")
    if isinstance(value, int | float) and abs(value) > MOST:
        raise UserError(f"{where}: expected at most {MOST}, found {short(value)}")
    return value


def check(instance: Any) -> None:
    """Every field of a dataclass of settings, None aside. Raises UserError, which names the field."""
    for f in dataclasses.fields(instance):
        value = getattr(instance, f.name)
        if value is not None:
            checked(f.name, type(instance), f.name, value)
