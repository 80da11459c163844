"""Reading and writing panoramas, and the way to a tensor and back."""

import io
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from conftest import ASSETS
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from engines.support.arrays import Image8, to_image, to_tensor
from engines.support.errors import UserError
from engines.support.images import read_panorama, write_png

IMAGES = hnp.arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3)))


def png_16(samples: np.ndarray, colour_type: int) -> bytes:
    """Encode uint16 (H, W, C) as a 16-bit PNG, which Pillow cannot write for colour (RFC 2083)."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width = samples.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    data = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + data


def test_shipped_panoramas_read_without_a_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        shapes = {path.stem: read_panorama(path).shape for path in ASSETS.glob("*.png")}
    assert shapes == {"forest": (512, 1024, 3), "courtyard": (512, 1024, 3), "citadella": (1024, 2048, 3)}


def test_png_round_trip_is_exact(tmp_path: Path, forest: Image8) -> None:
    write_png(tmp_path / "a.png", forest)
    again = read_panorama(tmp_path / "a.png")
    assert np.array_equal(again, forest) and again.dtype == np.uint8 and again.flags.writeable


def test_grey_palette_and_cmyk_become_rgb(tmp_path: Path, forest: Image8) -> None:
    grey = Image.fromarray(forest).convert("L")
    grey.save(tmp_path / "grey.png")
    assert np.array_equal(read_panorama(tmp_path / "grey.png"), np.stack([np.asarray(grey)] * 3, axis=2))
    palette = Image.fromarray(forest).quantize(256)
    palette.save(tmp_path / "palette.png")
    assert np.array_equal(read_panorama(tmp_path / "palette.png"), np.asarray(palette.convert("RGB")))
    Image.fromarray(forest).convert("CMYK").save(tmp_path / "cmyk.tif")
    assert np.array_equal(read_panorama(tmp_path / "cmyk.tif"), forest)  # without black ink the way back is exact


def test_alpha_is_dropped_with_a_warning(tmp_path: Path, forest: Image8) -> None:
    alpha = np.full((*forest.shape[:2], 1), 7, np.uint8)
    Image.fromarray(np.concatenate([forest, alpha], axis=2)).save(tmp_path / "alpha.png")
    with pytest.warns(UserWarning, match=r"alpha\.png: the alpha channel is dropped"):
        assert np.array_equal(read_panorama(tmp_path / "alpha.png"), forest)


@pytest.mark.parametrize(("colour_type", "channels"), [(0, 1), (2, 3), (6, 4)])
def test_16_bits_are_rounded_to_8(tmp_path: Path, colour_type: int, channels: int) -> None:
    values = np.array([0, 128, 129, 385, 386, 511, 65406, 65407, 65535, 514, 32767, 32768], np.uint16)
    samples = np.repeat(values.reshape(2, 6, 1), channels, axis=2)
    (tmp_path / "deep.png").write_bytes(png_16(samples, colour_type))
    with pytest.warns(UserWarning) as caught:
        image = read_panorama(tmp_path / "deep.png")
    # by hand: the border between k and k + 1 is 257 * (k + 0.5) = 128.5, 385.5, ..., 65406.5
    expected = [0, 0, 1, 1, 2, 2, 254, 255, 255, 2, 127, 128]
    assert [image[..., c].ravel().tolist() for c in range(3)] == [expected] * 3
    assert any("deep.png: 16 bits a channel are reduced to 8" in str(w.message) for w in caught)


def test_exif_orientation_is_applied(tmp_path: Path, forest: Image8) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3  # the camera was upside down
    Image.fromarray(forest).save(tmp_path / "turned.png", exif=exif)
    assert np.array_equal(read_panorama(tmp_path / "turned.png"), forest[::-1, ::-1])


def test_another_shape_than_2_to_1_is_read_with_a_warning(tmp_path: Path, forest: Image8) -> None:
    write_png(tmp_path / "crop.png", forest[:100, :150])
    with pytest.warns(UserWarning, match=r"crop\.png: expected a 2:1 .* panorama, found 150 x 100"):
        assert np.array_equal(read_panorama(tmp_path / "crop.png"), forest[:100, :150])


def test_a_large_panorama_is_no_bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forest: Image8) -> None:
    write_png(tmp_path / "a.png", forest)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", forest.shape[0] * forest.shape[1] - 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_panorama(tmp_path / "a.png").shape == forest.shape
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(UserError, match=r"a\.png: expected at most"):
        read_panorama(tmp_path / "a.png")


def encode(image: Image8, kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format=kind)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP", "BMP"])
def test_truncated_files(tmp_path: Path, forest: Image8, kind: str) -> None:
    whole = encode(forest[:64, :128], kind)
    for share in (0.1, 0.5, 0.9):
        (tmp_path / "cut").write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(UserError, match="cut: ") as caught:
            read_panorama(tmp_path / "cut")
        assert "\n" not in str(caught.value)


def test_corrupt_bytes(tmp_path: Path, forest: Image8) -> None:
    whole = bytearray(encode(forest[:64, :128], "PNG"))
    whole[len(whole) // 2] ^= 255
    (tmp_path / "bad.png").write_bytes(whole)
    with pytest.raises(UserError, match=r"bad\.png: the image is truncated or corrupt"):
        read_panorama(tmp_path / "bad.png")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "found an empty file"),
        (b"not an image", "expected an image .* found something else"),
        (
            b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 4\n%%EndComments\n",
            "expected an image",
        ),  # no Ghostscript
        (b"P6 0 4 255\n", "expected an image"),
    ],
)
def test_not_an_image(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_panorama(tmp_path / "a.png")


def test_no_file_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a\.png: cannot read: no such file"):
        read_panorama(tmp_path / "a.png")
    with pytest.raises(UserError, match="cannot read: expected a file, found a folder"):
        read_panorama(tmp_path)


def test_floating_point_is_refused(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 8), 0.5, np.float32)).save(tmp_path / "hdr.tif")
    with pytest.raises(UserError, match=r"hdr\.tif: expected 8- or 16-bit samples, found floating point"):
        read_panorama(tmp_path / "hdr.tif")


def test_write_png_refuses(tmp_path: Path, forest: Image8) -> None:
    with pytest.raises(UserError, match=r"lr\.jpg: expected a name that ends in \.png"):
        write_png(tmp_path / "lr.jpg", forest)
    with pytest.raises(ValueError, match="expected a non-empty uint8 image"):
        write_png(tmp_path / "a.png", forest.astype(np.float32))
    assert list(tmp_path.iterdir()) == []


def test_to_tensor_by_hand() -> None:
    x = to_tensor(np.array([[[0, 51, 255], [1, 2, 3]]], np.uint8))
    assert x.shape == (1, 3, 1, 2) and x.dtype == np.float32
    assert x[0, :, 0, 0].tolist() == [0, np.float32(0.2), 1]
    assert x[0, 2, 0, 1] == np.float32(3) / np.float32(255)


def test_to_image_rounds_half_to_even_and_clips() -> None:
    # k + 0.5 over 255 is not exact in float32, but times 255 these three come back exactly
    exact = [np.float32(k + 0.5) / np.float32(255) for k in range(3)]
    assert [float(v * np.float32(255)) for v in exact] == [0.5, 1.5, 2.5]
    x = np.array([*exact, -0.1, 1.1, 1.0], np.float32).reshape(3, 1, 2)
    assert to_image(x).transpose(2, 0, 1).ravel().tolist() == [0, 2, 2, 0, 255, 255]


@given(IMAGES)
def test_tensor_round_trip(image: Image8) -> None:
    assert np.array_equal(to_image(to_tensor(image)), image)
    assert np.array_equal(to_image(to_tensor(image).astype(np.float16)), image)  # 2^-12 * 255 < 0.5


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_to_image_refuses_what_is_not_finite(bad: float) -> None:
    x = np.zeros((1, 3, 2, 2), np.float32)
    x[0, 1, 0, 1] = bad
    with pytest.raises(UserError, match="found 1 of 12 NaN or infinite"):
        to_image(x)


@pytest.mark.parametrize("shape", [(2, 3, 4, 4), (1, 4, 4, 4), (4, 4, 3), (1, 3, 0, 4)])
def test_to_image_refuses_other_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="expected a floating tensor"):
        to_image(np.zeros(shape, np.float32))


def test_a_small_gif_with_a_huge_canvas_is_refused_at_once(tmp_path: Path) -> None:
    """134 million pixels in a few hundred bytes: reading and rescaling all the nothing took most of a minute."""
    path = tmp_path / "a.gif"
    Image.effect_noise((32, 16), 90).quantize(32).save(path)
    data = bytearray(path.read_bytes())
    data[6:10] = (32768).to_bytes(2, "little") + (4096).to_bytes(2, "little")
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"a\.gif: expected an image, found 32768 x 4096 pixels in \d+ bytes"):
        read_panorama(path)
    Image.new("P", (8192, 4096)).save(path)  # a whole one of one colour is taken
    assert read_panorama(path).shape == (4096, 8192, 3)
