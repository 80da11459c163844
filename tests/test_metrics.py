"""Metrics against values worked out by hand, against scikit-image, and against laws."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dinn360.evaluation.interpolation import bicubic_round_trip
from dinn360.evaluation.metrics import latitude_weights, luma, psnr, ssim, ssim_map, ws_psnr, ws_ssim
from engines.support.arrays import Image8

SHAPES = st.tuples(st.integers(1, 8), st.integers(1, 8))


def pairs() -> st.SearchStrategy[tuple[np.ndarray, np.ndarray]]:
    return SHAPES.flatmap(lambda s: st.tuples(hnp.arrays(np.uint8, s), hnp.arrays(np.uint8, s)))


def test_latitude_weights_by_hand() -> None:
    # N = 2: cos(-pi/4), cos(pi/4); N = 4: cos(3 pi/8), cos(pi/8) mirrored
    assert latitude_weights(2) == pytest.approx([math.sqrt(0.5)] * 2)
    assert latitude_weights(4) == pytest.approx([0.3826834, 0.9238795, 0.9238795, 0.3826834])
    assert latitude_weights(1) == pytest.approx([1])


def test_latitude_weights_sum_to_the_sphere() -> None:
    # the sum times pi / N tends to the integral of cos over the latitudes, 2
    assert latitude_weights(512).sum() * np.pi / 512 == pytest.approx(2, abs=1e-5)
    with pytest.raises(ValueError, match="height of at least 1, found 0"):
        latitude_weights(0)


def test_luma_by_hand() -> None:
    rgb = np.array([[[0, 0, 0], [255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255]]], np.uint8)
    assert luma(rgb)[0] == pytest.approx([16, 235, 81.481, 144.553, 40.966])
    assert luma(rgb, "lau-net")[0] == pytest.approx([16, 235.81, 81.535, 145.285, 40.99])


def test_luma_refuses() -> None:
    with pytest.raises(ValueError, match=r"\(H, W, 3\), found \(4, 4\)"):
        luma(np.zeros((4, 4)))
    with pytest.raises(ValueError, match="expected a dialect of bt601, lau-net, found 'rec709'"):
        luma(np.zeros((4, 4, 3)), "rec709")  # type: ignore[arg-type]


def test_psnr_by_hand() -> None:
    a = np.zeros((4, 8, 3), np.uint8)
    b = a.copy()
    b[..., 0] = 5  # mean squared error 25 / 3
    assert psnr(a, b) == pytest.approx(10 * math.log10(255**2 * 3 / 25))
    assert psnr(a, np.full_like(a, 255)) == pytest.approx(0)
    assert psnr(np.uint8([[250]]), np.uint8([[10]])) == pytest.approx(20 * math.log10(255 / 240))  # no wrap-around


def test_ws_psnr_counts_the_poles_less() -> None:
    a = np.zeros((4, 8), np.uint8)
    pole, equator = a.copy(), a.copy()
    pole[0], equator[1] = 10, 10
    pole_weight, equator_weight = 0.3826834, 0.9238795
    total = 2 * (pole_weight + equator_weight)
    assert ws_psnr(a, pole) == pytest.approx(10 * math.log10(255**2 * total / (pole_weight * 100)), abs=1e-5)
    assert ws_psnr(a, equator) == pytest.approx(10 * math.log10(255**2 * total / (equator_weight * 100)), abs=1e-5)


def test_ssim_of_two_flat_images_by_hand() -> None:
    # no variance: only the luminance term is left
    a, b = np.full((16, 16), 100.0), np.full((16, 16), 120.0)
    c1 = 6.5025
    expected = (2 * 100 * 120 + c1) / (100**2 + 120**2 + c1)
    assert ssim(a, b) == pytest.approx(expected)
    assert ws_ssim(a, b) == pytest.approx(expected)


def test_ws_ssim_is_the_weighted_map(forest: Image8) -> None:
    a = forest[::4, ::4]
    b = a.copy()
    b[:16] = 255 - b[:16]  # only the zenith is bad
    rows = ssim_map(a, b).mean(axis=(1, 2))
    w = latitude_weights(128)
    assert ws_ssim(a, b) == pytest.approx((rows * w).sum() / w.sum())
    assert ws_ssim(a, b) > ssim(a, b) + 0.02


def test_ssim_agrees_with_scikit_image(forest: Image8) -> None:
    metrics = pytest.importorskip("skimage.metrics")
    a = forest[100:228, 200:456]
    b = bicubic_round_trip(a, 4)
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 255}
    mean, full = metrics.structural_similarity(a.astype(float), b.astype(float), channel_axis=2, full=True, **options)
    ours = ssim_map(a, b)
    assert np.abs(ours - full).max() < 1e-9
    assert ours[5:-5, 5:-5].mean() == pytest.approx(mean)  # scikit-image averages the crop
    assert 0.3 < mean < 0.9


@pytest.mark.parametrize("metric", [psnr, ws_psnr, ssim, ws_ssim])
def test_shapes_must_agree(metric: object) -> None:
    with pytest.raises(ValueError, match="one shape"):
        metric(np.zeros((4, 8)), np.zeros((4, 8, 1)))  # type: ignore[operator]
    with pytest.raises(ValueError, match="non-empty images"):
        metric(np.zeros(8), np.zeros(8))  # type: ignore[operator]


def test_identical_panoramas(courtyard: Image8) -> None:
    a = courtyard[::4, ::4]
    assert psnr(a, a) == ws_psnr(a, a) == math.inf
    assert ssim(a, a) == pytest.approx(1) and ws_ssim(a, a) == pytest.approx(1)


@given(pairs())
def test_laws(pair: tuple[np.ndarray, np.ndarray]) -> None:
    a, b = pair
    for metric in (psnr, ws_psnr, ssim, ws_ssim):
        assert metric(a, b) == metric(b, a)
        # a panorama has no left edge of its own for PSNR, and up is as good as down for all four
        assert metric(a[::-1], b[::-1]) == pytest.approx(metric(a, b))
    assert ws_psnr(np.roll(a, 3, axis=1), np.roll(b, 3, axis=1)) == pytest.approx(ws_psnr(a, b))
    assert -1 - 1e-9 <= ssim(a, b) <= 1 + 1e-9
    assert (psnr(a, b) == math.inf) == bool(np.array_equal(a, b))
