"""Values from files against the types of dataclasses."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.engine_file.label import direction_in, scale_in
from engines.support.errors import UserError
from engines.support.reading import SHA256, VERSION, Rule, from_table, read_json, short, whole_number


@dataclass(frozen=True)
class Inner:
    number: int
    ratio: float = 0.5


@dataclass(frozen=True)
class Outer:
    name: str
    inner: Inner
    many: tuple[Inner, ...] = ()
    pair: tuple[int, int] = (1, 2)
    kind: Literal["a", "b"] = "a"
    on: bool = False
    perhaps: int | None = None
    table: dict[str, int] | None = None
    digest: Annotated[str, SHA256] = "0" * 64
    even: Annotated[int, Rule("an even number", lambda n: n % 2 == 0)] = 2


WHOLE: dict[str, Any] = {"name": "x", "inner": {"number": 3}}


def test_what_is_right_has_the_declared_types() -> None:
    given = {**WHOLE, "many": [{"number": 1, "ratio": 2}], "pair": [3, 4], "perhaps": None, "table": {"a": 1}}
    found = from_table("f.json", Outer, given)
    assert found == Outer("x", Inner(3), (Inner(1, 2.0),), (3, 4), table={"a": 1})
    assert type(found.many[0].ratio) is float


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": 5}, "f.json: name: expected a text, found 5"),
        ({"inner": 5}, "f.json: inner: expected a table, found 5"),
        ({"inner": {}}, "f.json: inner: expected the key number, found it missing"),
        ({"inner": {"number": True}}, "f.json: inner.number: expected a whole number, found True"),
        ({"inner": {"number": 1.0}}, "f.json: inner.number: expected a whole number, found 1.0"),
        ({"inner": {"number": 10**30}}, "number: expected a whole number, found 1000"),
        ({"inner": {"number": 10**6000}}, "expected a whole number, found a huge int"),
        ({"inner": {"number": 1, "ratio": float("nan")}}, "ratio: expected a number, found nan"),
        ({"many": [{"number": "1"}]}, "many[0].number: expected a whole number, found '1'"),
        ({"many": "ab"}, "many: expected a list, found 'ab'"),
        ({"pair": [1]}, "pair: expected a list of 2, found 1 values"),
        ({"kind": 0}, "kind: expected a or b, found 0"),
        ({"kind": ["a"]}, "kind: expected a or b, found ['a']"),
        ({"on": 1}, "on: expected true or false, found 1"),
        ({"table": {"a": "x"}}, "table.a: expected a whole number, found 'x'"),
        ({"digest": "A" * 64}, "digest: expected a SHA-256 of 64 hexadecimal digits"),
        ({"even": 3}, "even: expected an even number, found 3"),
        ({"colour": 1}, "found the unknown key 'colour'"),
        ({"name": "x" * 10000 + "\n", "on": "y" * 10000}, "on: expected true or false, found 'yyy"),
    ],
)
def test_what_is_wrong_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        from_table("f.json", Outer, {**WHOLE, **changes})
    assert message in str(caught.value) and len(str(caught.value)) < 200


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda x: st.lists(x) | st.dictionaries(st.text(), x),
    )
)
def test_nothing_else_is_raised(value: Any) -> None:
    for name in Outer.__dataclass_fields__:
        try:
            from_table("f.json", Outer, {**WHOLE, name: value})
        except UserError as error:
            assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "expected JSON"),
        (b"\xff", "expected JSON"),
        (b"[]", "a JSON object"),
        (b"[" * 10**5, "JSON"),
        (b"1" * 5000, "JSON"),
    ],
)
def test_json_files(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "a.json"
    with pytest.raises(FileNotFoundError):
        read_json(path)
    path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_json(path)


@pytest.mark.parametrize("text", [None, "", "1", "65", "9" * 5000, "4.0", " 4", "٤", "-4", "four"])
def test_a_scale_that_is_none(text: str | None) -> None:
    assert whole_number(text, 2, 64) is None
    with pytest.raises(UserError, match=r"g\.onnx: expected the metadata entry scale \(2, 4 or 8\), found"):
        scale_in("g.onnx", {} if text is None else {"scale": text})


def test_labels() -> None:
    assert scale_in("g", {"scale": "4"}) == 4 and direction_in("g", {"direction": "up"}) == "up"
    with pytest.raises(UserError, match=r"direction \(down or up\), found '../../x'"):
        direction_in("g", {"direction": "../../x"})
    assert VERSION.holds("10.3.0") and not VERSION.holds("10") and not VERSION.holds("x.y")
    assert short("a\nb") == "'a\\nb'"
