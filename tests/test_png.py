"""PNG row by row: the same samples as Pillow's, and nothing but a UserError for damaged files."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from engines.panorama.png import LARGEST, SIGNATURE, PngReader, PngWriter, read_text
from engines.panorama.sources import StreamedPng, open_source
from engines.support.arrays import Image8, Samples
from engines.support.errors import UserError

SAMPLES = st.sampled_from([np.uint8, np.uint16]).flatmap(
    lambda dtype: hnp.arrays(dtype, st.tuples(st.integers(1, 9), st.integers(1, 9), st.sampled_from([3, 4])))
)


def written(samples: Samples, blocks: int = 1) -> bytes:
    file = io.BytesIO()
    writer = PngWriter(file, samples.shape[:2], samples.shape[2], 8 * samples.itemsize, [(b"tEXt", b"A\0one")])
    for block in np.array_split(samples, blocks):
        writer.write(block)
    writer.finish([(b"tEXt", b"B\0two")])
    return file.getvalue()


def read(path: Path, *counts: int) -> Samples:
    reader = PngReader(path)
    try:
        return np.concatenate([reader.read(count) for count in counts])
    finally:
        reader.close()


@given(SAMPLES)
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, samples: Samples) -> None:
    path = tmp_path_factory.mktemp("png") / "a.png"
    path.write_bytes(written(samples, min(2, len(samples))))
    again = read(path, *([1] * len(samples)))
    assert again.dtype == samples.dtype and np.array_equal(again, samples)
    if samples.dtype == np.uint8:
        assert np.array_equal(np.asarray(Image.open(path)), samples)
    assert (read_text(path, "A"), read_text(path, "B"), read_text(path, "C")) == ("one", "two", None)


def test_a_panorama_as_pillow_writes_it(tmp_path: Path, forest: Image8) -> None:
    for name, options in {"a": {}, "b": {"optimize": True}, "c": {"compress_level": 0}}.items():
        Image.fromarray(forest).save(tmp_path / f"{name}.png", **options)
        assert np.array_equal(read(tmp_path / f"{name}.png", 100, 1, 411), forest)
    mine = written(forest, 3)
    assert len(mine) < 1.02 * (tmp_path / "a.png").stat().st_size
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(mine))), forest)


def test_every_filter(tmp_path: Path) -> None:
    """The average filter, which our writer never chooses, among the others; by the definition in the specification."""
    samples = np.random.default_rng(0).integers(0, 65536, (5, 7, 3)).astype(np.uint16)
    lines = samples.astype(">u2").view(np.uint8).reshape(5, 42).astype(int)
    data = bytearray()
    for row, line in enumerate(lines):
        above = lines[row - 1] if row else np.zeros(42, int)
        left, corner = (np.concatenate([np.zeros(6, int), x[:-6]]) for x in (line, above))
        guess = left + above - corner
        distance = np.abs(np.stack([left, above, corner]) - guess)
        paeth = np.stack([left, above, corner])[distance.argmin(axis=0), np.arange(42)]
        filtered = line - [0, left, above, (left + above) // 2, paeth][row]
        data += bytes([row]) + (filtered % 256).astype(np.uint8).tobytes()
    head = struct.pack(">IIBBBBB", 7, 5, 16, 2, 0, 0, 0)
    (tmp_path / "a.png").write_bytes(png(head, zlib.compress(bytes(data))))
    assert np.array_equal(read(tmp_path / "a.png", 2, 3), samples)


def png(head: bytes, data: bytes) -> bytes:
    chunks = [(b"IHDR", head), (b"IDAT", data), (b"IEND", b"")]
    return SIGNATURE + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )


def test_other_kinds_are_left_to_pillow(tmp_path: Path, forest: Image8) -> None:
    small = Image.fromarray(forest[:8, :16])
    small.convert("L").save(tmp_path / "grey.png")
    small.quantize(16).save(tmp_path / "palette.png")
    small.save(tmp_path / "jpeg.png", format="JPEG")
    small.save(tmp_path / "key.png", transparency=(1, 2, 3))
    for path in tmp_path.iterdir():
        with pytest.raises(ValueError):
            PngReader(path)


def test_a_bomb_is_refused_before_a_row_is_read(tmp_path: Path) -> None:
    head = struct.pack(">IIBBBBB", 2**16, 2**15, 8, 2, 0, 0, 0)
    (tmp_path / "bomb.png").write_bytes(png(head, zlib.compress(bytes(1000))))
    with pytest.raises(UserError, match=rf"bomb\.png: expected at most {LARGEST} pixels, found {2**31}"):
        PngReader(tmp_path / "bomb.png")


@given(st.data())
def test_damage_ends_in_an_error(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = tmp_path_factory.mktemp("png") / "a.png"
    samples = np.arange(6 * 8 * 3, dtype=np.uint8).reshape(6, 8, 3)
    good = written(samples)
    if data.draw(st.booleans()):
        bad = good[: data.draw(st.integers(0, good.index(b"IDAT") + 8))]
    else:
        at = data.draw(st.integers(8, len(good) - 1))
        bad = good[:at] + bytes([good[at] ^ (1 << data.draw(st.integers(0, 7)))]) + good[at + 1 :]
    path.write_bytes(bad)
    read_text(path, "A")
    try:
        reader = PngReader(path)
    except (UserError, ValueError):
        return
    try:
        reader.read(min(reader.height, 100))
    except UserError as error:
        assert "truncated or corrupt" in str(error)
    finally:
        reader.close()


@given(st.lists(st.tuples(st.integers(0, 299), st.integers(1, 300)), min_size=1, max_size=6), st.booleans())
def test_rows_in_any_order(
    tmp_path_factory: pytest.TempPathFactory, requests: list[tuple[int, int]], streamed: bool
) -> None:
    samples = np.random.default_rng(0).integers(0, 256, (300, 5, 3)).astype(np.uint8)
    path = tmp_path_factory.mktemp("png") / "a.png"
    path.write_bytes(written(samples))
    if not streamed:
        Image.fromarray(samples).save(path, "TIFF")
    source = open_source(path)
    assert isinstance(source, StreamedPng) == streamed
    for start, count in requests:
        assert np.array_equal(source.rows(start, min(start + count, 300)), samples[start : start + count])
    source.close()


def test_a_file_that_is_replaced_while_it_is_read(tmp_path: Path, forest: Image8) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(written(forest))
    source = open_source(path)
    source.rows(100, 200)
    (tmp_path / "b.png").write_bytes(written(forest[:50]))
    (tmp_path / "b.png").rename(path)
    with pytest.raises(UserError, match=r"a\.png: changed while it was read"):
        source.rows(0, 10)
