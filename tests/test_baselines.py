"""Interpolation baselines: known kernels, the seam, and the order that published tables show."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from dinn360.evaluation.interpolation import Method, bicubic_round_trip, resize
from dinn360.evaluation.metrics import ws_psnr
from engines.support.arrays import Image8

METHODS: list[Method] = ["bicubic", "bilinear", "lanczos"]


@pytest.mark.parametrize("method", METHODS)
def test_antialiased_without_wrap_is_pillow(forest: Image8, method: Method) -> None:
    resampling = Image.Resampling[method.upper()]
    expected = np.asarray(Image.fromarray(forest).resize((333, 170), resampling))
    assert np.array_equal(resize(forest, (170, 333), method, wrap=False), expected)


def row(values: list[int]) -> Image8:
    return np.array(values, np.uint8).reshape(1, -1, 1)


def test_fixed_kernels_by_hand() -> None:
    # Enlarged by 2, output pixels 2 i and 2 i + 1 lie at i - 1/4 and i + 1/4.
    assert resize(row([0, 0, 64, 0, 0]), (1, 10), "bilinear", antialias=False).ravel().tolist() == (
        [0, 0, 0, 16, 48, 48, 16, 0, 0, 0]
    )
    # Keys with a = -0.75: k(1/4) = 0.8789, k(3/4) = 0.2617, k(5/4) = -0.1055, k(7/4) = -0.0352; x 64 + 100
    half = [100, 98, 93, 117, 156]
    impulse = resize(row([100] * 4 + [164] + [100] * 4), (1, 18), "bicubic", antialias=False).ravel().tolist()
    assert impulse == [100] * 4 + half + half[::-1] + [100] * 4


def test_fixed_kernels_agree_with_opencv() -> None:
    # printed by cv2.resize of opencv-python-headless 5.0.0
    x = row([10, 200, 30, 250, 90, 0, 255, 120, 60, 180, 33, 77])
    expected = {
        "lanczos": [181, 255, 139, 48, 21],
        "bicubic": [166, 251, 132, 57, 29],
        "bilinear": [143, 234, 128, 66, 46],
    }
    found = {m: resize(x, (1, 5), m, antialias=False, wrap=False).ravel().tolist() for m in METHODS}
    assert found == expected


def test_fixed_kernels_skip_pixels_when_shrinking() -> None:
    stripes = row([0, 0, 255, 0] * 4)
    assert resize(stripes, (1, 4), "bilinear", antialias=False).ravel().tolist() == [128] * 4  # (0 + 255) / 2
    assert resize(stripes, (1, 4), "bilinear").ravel().max() < 90  # anti-aliased: near the mean, 64


@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("method", METHODS)
def test_wrap_commutes_with_a_turn_of_the_head(forest: Image8, method: Method, antialias: bool) -> None:
    image = forest[::4, ::4]  # 128 x 256
    turned = np.roll(image, 100, axis=1)
    for size, turn in (((32, 64), 25), ((256, 512), 200)):
        a, b = (resize(x, size, method, antialias) for x in (image, turned))
        assert np.array_equal(np.roll(a, turn, axis=1), b)
        ordinary, other = (resize(x, size, method, antialias, wrap=False) for x in (image, turned))
        # at 2x every kernel reaches over the edge; at 1/4 the fixed bilinear and bicubic ones do not
        assert np.array_equal(np.roll(ordinary, turn, axis=1), other) == (
            size == (32, 64) and not antialias and method != "lanczos"
        )
        assert np.array_equal(a[:, 8:-8], ordinary[:, 8:-8])


@given(
    hnp.arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 4))),
    st.tuples(st.integers(1, 12), st.integers(1, 12)),
    st.sampled_from(METHODS),
    st.booleans(),
    st.booleans(),
)
def test_any_size(image: Image8, size: tuple[int, int], method: Method, antialias: bool, wrap: bool) -> None:
    assert resize(image, size, method, antialias, wrap).shape == (*size, image.shape[2])
    flat = np.full_like(image, 77)
    assert (resize(flat, size, method, antialias, wrap) == 77).all()  # weights sum to 1
    assert np.array_equal(resize(image, image.shape[:2], method, antialias, wrap), image)


def test_round_trip_quality(forest: Image8, courtyard: Image8) -> None:
    figures = [ws_psnr(forest, bicubic_round_trip(forest, scale)) for scale in (1, 2, 4, 8)]
    assert figures[0] == np.inf
    assert sorted(figures, reverse=True) == figures
    # measured once; a shifted grid, another kernel or a lost rounding step moves them by more
    assert figures[2] == pytest.approx(21.708, abs=0.02)
    assert ws_psnr(courtyard, bicubic_round_trip(courtyard, 4)) == pytest.approx(24.461, abs=0.02)


def test_round_trip_keeps_odd_sizes(forest: Image8) -> None:
    assert bicubic_round_trip(forest[:101, :203], 4).shape == (101, 203, 3)


def test_order_of_the_kernels(forest: Image8) -> None:
    # The slides of the paper rank bilinear above bicubic above Lanczos at 4x, which only happens without
    # anti-aliasing.
    def figure(method: Method, antialias: bool) -> float:
        lr = resize(forest, (128, 256), method, antialias)
        return ws_psnr(forest, resize(lr, forest.shape[:2], method, antialias))

    aliased = {m: figure(m, False) for m in METHODS}
    smooth = {m: figure(m, True) for m in METHODS}
    assert aliased["bilinear"] > aliased["bicubic"] > aliased["lanczos"]
    assert smooth["lanczos"] > smooth["bicubic"] > smooth["bilinear"]


def test_refuses(forest: Image8) -> None:
    with pytest.raises(ValueError, match="expected a non-empty uint8 image"):
        resize(forest.astype(np.float32), (4, 8))
    with pytest.raises(ValueError, match=r"of at least 1 x 1, found \(0, 8\)"):
        resize(forest, (0, 8))
    with pytest.raises(ValueError, match="found 'nearest'"):
        resize(forest, (4, 8), "nearest")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="scale of at least 1, found 0"):
        bicubic_round_trip(forest, 0)
