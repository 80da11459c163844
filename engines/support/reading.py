"""Values from files, checked once, where they are read: JSON and TOML against the types of a dataclass.

`Annotated[str, rule]` says what the type alone does not, with a `Rule`. What comes out has the types that the dataclass
declares, so that nobody further on needs to ask.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from engines.support.errors import UserError
from engines.support.files import os_reason

T = TypeVar("T")
_LARGEST = 2**63 - 1  # of a whole number: what every other reader of the same file can hold
_WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text", Path: "a path"}


@dataclass(frozen=True)
class Rule:
    """What a value must be beyond its type: in words, and as a test."""

    expected: str
    holds: Callable[[Any], bool]


def pattern(expected: str, regular_expression: str) -> Rule:
    """A rule for texts: all of the text matches."""
    return Rule(expected, lambda text: re.fullmatch(regular_expression, text, re.ASCII) is not None)


SHA256 = pattern("a SHA-256 of 64 hexadecimal digits", "[0-9a-f]{64}")
VERSION = pattern("a version such as 10.3.0", r"\d{1,6}(\.\d{1,6}){1,5}")


def short(value: Any, length: int = 80) -> str:
    """A value for a message: one line, cut off where it is long."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # a whole number of more digits than Python prints
        text = f"a huge {type(value).__name__}"
    return text if len(text) <= length else f"{text[: length - 1]}…"


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        FileNotFoundError: there is no such file: the caller knows what that means.
        UserError: it cannot be read, is no JSON, or holds something else than an object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise
    except OSError as error:
        raise UserError(f"{path}: cannot read: {os_reason(error)}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: expected JSON, found: {short(str(error), 200)}") from error
    if not isinstance(value, dict):
        raise UserError(f"{path}: expected a JSON object, found {short(value)}")
    return value


def from_table(where: str, cls: type[T], table: Any, joint: str = ": ") -> T:
    """An instance of the dataclass `cls` from a dictionary of plain values: every field of its type and rule.

    A whole number is taken for a float, a text for a path, a list for a tuple, a table for a dataclass.

    Raises:
        UserError: a key is unknown or missing, or a value is not what its field asks for. The message begins with
            `where`, `joint` and the name, and says what was expected and what was found.
    """
    if not isinstance(table, Mapping):
        raise UserError(f"{where}: expected a table, found {short(table)}")
    declared = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for name in table:
        if name not in declared:
            raise UserError(f"{where}: expected one of {', '.join(declared)}, found the unknown key {short(name)}")
    hints = get_type_hints(cls, include_extras=True)
    values = {name: typed(f"{where}{joint}{name}", hints[name], value) for name, value in table.items()}
    for name, f in declared.items():
        if name not in values and f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING:
            raise UserError(f"{where}: expected the key {name}, found it missing")
    return cls(**values)


def typed(where: str, kind: Any, value: Any) -> Any:
    """`value` as the type `kind` holds it. Raises UserError, whose message begins with `where`."""
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is Any:
        return value
    if origin is Annotated:
        value = typed(where, arguments[0], value)
        for rule in arguments[1:]:
            if isinstance(rule, Rule) and not rule.holds(value):
                raise UserError(f"{where}: expected {rule.expected}, found {short(value)}")
        return value
    if origin in (Union, types.UnionType):
        if value is None and types.NoneType in arguments:
            return None
        return typed(where, next(inner for inner in arguments if inner is not types.NoneType), value)
    if origin is Literal:
        for choice in arguments:
            if type(choice) is type(value) and choice == value:
                return choice
        raise UserError(f"{where}: expected {' or '.join(map(str, arguments))}, found {short(value)}")
    if origin is tuple:
        return _tuple(where, arguments, value)
    if origin is dict:
        if not isinstance(value, Mapping):
            raise UserError(f"{where}: expected a table, found {short(value)}")
        key, inner = arguments
        return {typed(f"{where}: a name", key, k): typed(f"{where}.{k}", inner, v) for k, v in value.items()}
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return value if isinstance(value, kind) else from_table(where, kind, value, ".")
    return _plain(where, kind, value)


def _tuple(where: str, arguments: tuple[Any, ...], value: Any) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise UserError(f"{where}: expected a list, found {short(value)}")
    many = len(arguments) == 2 and arguments[1] is Ellipsis
    if not many and len(value) != len(arguments):
        raise UserError(f"{where}: expected a list of {len(arguments)}, found {len(value)} values")
    kinds = [arguments[0]] * len(value) if many else arguments
    return tuple(typed(f"{where}[{i}]", kind, item) for i, (kind, item) in enumerate(zip(kinds, value, strict=True)))


def _plain(where: str, kind: Any, value: Any) -> Any:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind is bool and isinstance(value, bool):
        return value
    if kind is int and number and isinstance(value, int) and abs(value) <= _LARGEST:
        return value
    if kind is float and number and (abs(value) < 1e308 if isinstance(value, int) else not math.isnan(value)):
        return float(value)
    if kind is str and isinstance(value, str):
        return value
    if kind is Path and isinstance(value, str | Path) and str(value) and "\0" not in str(value):
        return Path(value)
    raise UserError(f"{where}: expected {_WORDS.get(kind, getattr(kind, '__name__', kind))}, found {short(value)}")


def whole_number(text: str | None, low: int, high: int) -> int | None:
    """The number that a text of decimal digits says, None for any other text and outside of low to high."""
    if text is None or not re.fullmatch("[0-9]{1,18}", text, re.ASCII):
        return None
    return int(text) if low <= int(text) <= high else None
