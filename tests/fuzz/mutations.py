"""How inputs are damaged: bytes anywhere, and values of the wrong type or size at any place of a structure."""

from __future__ import annotations

import copy
import io
import struct
import zipfile
import zlib
from typing import Any

from hypothesis import strategies as st

HEADER = 512  # bytes at the start of a file that half of all damage hits

NUMBERS = (
    0,
    1,
    2,
    3,
    5,
    -1,
    7,
    255,
    256,
    65535,
    10**5,
    10**9,
    2**31 - 1,
    2**31,
    2**32,
    2**63 - 1,
    2**63,
    2**64,
    10**30,
)
FLOATS = (0.0, -0.0, 0.5, -1.5, 1e-320, 1e308, float("inf"), float("-inf"), float("nan"))
TEXTS = (
    *(
        "",
        " ",
        "0",
        "-1",
        "1",
        "4",
        "8",
        "1.2",
        "10.3.0",
        "x",
        "1e9",
        "true",
        "nan",
        "½",
        "²",
        "٣",
        "é\u0301",
        "\u202e",
    ),
    *("../../etc/passwd", "a\nb", "a\0b", "[]", "{}", "9" * 5000, "x" * 300, "%s%n", "{0}", "9999999999", "1000000000"),
)
_WORDS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 10**6, 40000)


@st.composite
def damaged(draw: st.DrawFn, whole: bytes, most: int = 4) -> bytes:
    """`whole` with one to `most` places damaged."""
    data = bytearray(whole)
    for _ in range(draw(st.integers(1, most))):
        data = bytearray(draw(_damage(bytes(data))))
    return bytes(data)


@st.composite
def _damage(draw: st.DrawFn, data: bytes) -> bytes:
    if not data:
        return draw(st.binary(max_size=20))
    last = len(data) - 1
    at = draw(st.integers(0, min(last, HEADER)) if draw(st.booleans()) else st.integers(0, last))
    how = draw(st.integers(0, 8))
    if how == 0:
        return data[:at] + bytes([draw(st.integers(0, 255))]) + data[at + 1 :]
    if how == 1:
        return data[:at] + bytes([data[at] ^ 1 << draw(st.integers(0, 7))]) + data[at + 1 :]
    if how == 2:
        layout = draw(st.sampled_from([">H", "<H", ">I", "<I"]))
        word = draw(st.sampled_from(_WORDS)) & (0xFFFF if layout[1] == "H" else 0xFFFFFFFF)
        raw = struct.pack(layout, word)
        return data[:at] + raw + data[at + len(raw) :]
    if how == 3:
        return data[:at]
    size = draw(st.integers(1, 64))
    if how == 4:
        return data[:at] + data[at + size :]
    if how == 5:
        return data[:at] + data[at : at + size] * 2 + data[at + size :]
    if how == 6:
        return data[:at] + draw(st.binary(min_size=1, max_size=16)) + data[at:]
    if how == 7:
        return data[:at] + bytes([draw(st.sampled_from([0, 0xFF, 0x41]))]) * size + data[at + size :]
    other = draw(st.integers(0, last))
    return data[:at] + data[other : other + size] + data[at + size :]


def with_checksums(png: bytes) -> bytes:
    """A PNG file with the checksums that its chunks should have, as far as it still has chunks."""
    out, at = bytearray(png[:8]), 8
    while at + 12 <= len(png):
        (length,) = struct.unpack_from(">I", png, at)
        body = png[at + 4 : at + 8 + length]
        out += png[at : at + 4] + body + struct.pack(">I", zlib.crc32(body))
        at += 12 + length
    return bytes(out + png[at:])


@st.composite
def damaged_inside(draw: st.DrawFn, archive: bytes) -> bytes:
    """A ZIP file (a .pth is one) of which one member is damaged, with the checksum of the damaged member."""
    with zipfile.ZipFile(io.BytesIO(archive)) as source:
        members = {name: source.read(name) for name in source.namelist()}
    names = list(members)
    pickles = [name for name in names if name.endswith("data.pkl")]
    name = draw(st.sampled_from(pickles if pickles and draw(st.booleans()) else names))
    members[name] = draw(damaged(members[name]))
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as target:
        for name, content in members.items():
            target.writestr(name, content)
    return out.getvalue()


def strange() -> st.SearchStrategy[Any]:
    """A value of any type that JSON and TOML have, mostly one that causes trouble."""
    leaf = st.one_of(
        st.none(),
        st.booleans(),
        st.sampled_from(NUMBERS),
        st.sampled_from(FLOATS),
        st.sampled_from(TEXTS),
        st.integers(),
        st.text(max_size=12),
    )
    return st.recursive(leaf, lambda x: st.lists(x, max_size=3) | st.dictionaries(st.text(max_size=5), x, max_size=3))


@st.composite
def changed(draw: st.DrawFn, value: Any, most: int = 2) -> Any:
    """A structure of dictionaries and lists with one to `most` places changed: another value, one less, one more."""
    result = copy.deepcopy(value)
    for _ in range(draw(st.integers(1, most))):
        places = _places(result)
        holder, key = places[draw(st.integers(0, len(places) - 1))]
        how = draw(st.integers(0, 9))
        if how == 0:
            del holder[key]
        elif how == 1 and isinstance(holder, dict):
            holder[draw(st.text(max_size=8))] = draw(strange())
        elif how == 1:
            holder.append(draw(strange()))
        elif how == 2:  # the value of another place
            other, name = places[draw(st.integers(0, len(places) - 1))]
            holder[key] = copy.deepcopy(other[name])
        else:
            holder[key] = draw(strange())
        if not _places(result):
            break
    return result


def _places(value: Any) -> list[tuple[Any, Any]]:
    """(container, key or index) of everything inside."""
    found: list[tuple[Any, Any]] = []
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in entries:
        found.append((value, key))
        found += _places(inner)
    return found
