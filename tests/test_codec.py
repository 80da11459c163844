"""The codec layer: JPEG against libjpeg, its bits against real files, gradients, and real codecs in the loop."""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from dinn360.codec import coders
from dinn360.codec.coders import CODECS, VIDEO, Coder, decode_frames, encode_frames, parse_coder
from dinn360.codec.jpeg import dct, inverse_dct, jpeg
from dinn360.codec.layer import Channel, Plan
from dinn360.codec.rate import HEADER_BYTES, flat_bits, jpeg_bits
from dinn360.evaluation.interpolation import resize
from dinn360.evaluation.validate_codec import dots as validated_dots
from dinn360.training.losses import dots as dots_of
from dinn360.training.losses import fine_chroma
from engines.panorama.coding import Survives
from engines.support.arrays import Image8, to_image
from engines.support.errors import UserError


def tensor(image: Image8) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 255


def pillow(image: Image8, quality: int, halved: bool) -> tuple[Image8, int]:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality, subsampling=2 if halved else 0)
    return np.array(Image.open(file)), file.tell()


@pytest.mark.parametrize("halved", [False, True])
@pytest.mark.parametrize("quality", [10, 50, 75, 95, 100])
@pytest.mark.parametrize("crop", [(192, 320), (75, 131)])
def test_jpeg_is_libjpegs(forest: Image8, quality: int, halved: bool, crop: tuple[int, int]) -> None:
    image = np.ascontiguousarray(forest[100 : 100 + crop[0], 40 : 40 + crop[1]])
    expected, _ = pillow(image, quality, halved)
    found = to_image(jpeg(tensor(image), torch.tensor([quality]), torch.tensor([halved])).image.numpy())
    apart = np.abs(found.astype(int) - expected)
    # a coefficient that lies on the border of two steps moves its block by more than a level, once in thousands
    assert (apart > 2).mean() < 2e-3 and (apart > 0).mean() < 0.02


def test_samples_of_both_kinds_in_one_batch(forest: Image8) -> None:
    parts = [np.ascontiguousarray(forest[a : a + 64, 8:72]) for a in (0, 200, 300)]
    kinds = [(60, True), (90, False), (75, True)]
    batch = torch.cat([tensor(part) for part in parts])
    coded = jpeg(batch, torch.tensor([q for q, _ in kinds]), torch.tensor([h for _, h in kinds]))
    bits = jpeg_bits(coded)
    for n, (part, (quality, halved)) in enumerate(zip(parts, kinds, strict=True)):
        alone = jpeg(tensor(part), torch.tensor([quality]), torch.tensor([halved]))
        assert torch.equal(alone.image[0], coded.image[n])
        if halved:  # among zeros, whose empty blocks are counted, too
            assert 0 <= bits[n] - jpeg_bits(alone)[0] < 8 * 64
        else:
            torch.testing.assert_close(bits[n], jpeg_bits(alone)[0])


def test_dct_is_orthonormal() -> None:
    plane = (torch.rand(1, 1, 24, 40, dtype=torch.float64) * 255).round()
    waves, eighths = dct(plane)
    torch.testing.assert_close(waves.square().sum(), (plane - 128).square().sum())
    assert (waves - eighths / 8).abs().max() < 0.25  # integers with constants of 13 bits
    assert (inverse_dct(waves, (24, 40)) - plane).abs().max() <= 1.5


@pytest.mark.parametrize("halved", [False, True])
def test_gradients_pass_the_rounding_and_know_the_chroma(halved: bool) -> None:
    """The gradient of the sum of squares is that of the linear chain: nothing of fine chroma under 4:2:0."""
    torch.manual_seed(0)
    x = (0.4 + 0.2 * torch.rand(1, 3, 32, 32)).requires_grad_()
    target = torch.rand(1, 3, 32, 32)
    coded = jpeg(x, torch.tensor([95]), torch.tensor([halved]))
    (coded.image * target).sum().backward()
    assert x.grad is not None and torch.isfinite(x.grad).all() and x.grad.abs().max() > 0.1
    if not halved:
        torch.testing.assert_close(x.grad, target, atol=2e-3, rtol=1e-3)
        return
    checkers = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).repeat(16, 16)
    blue_yellow = torch.tensor([-0.114 / 0.587 / 2, -0.114 / 0.587 / 2, 1.0])[:, None, None]
    blue_yellow[1] = -(0.114 + 0.299 * blue_yellow[0]) / 0.587  # no luma in it
    assert abs((x.grad[0] * checkers * blue_yellow).mean()) < 1e-5


@pytest.mark.parametrize("halved", [False, True])
@pytest.mark.parametrize("name", ["forest", "courtyard"])
def test_bits_follow_real_files(name: str, halved: bool, request: pytest.FixtureRequest) -> None:
    """Within 10 % over the qualities that are trained for; the LR images are what JPEG gets."""
    image: Image8 = request.getfixturevalue(name)
    lr = resize(image, (256, 512))
    for quality in (30, 50, 65, 75, 85, 90, 95):
        _, size = pillow(lr, quality, halved)
        found = float(jpeg_bits(jpeg(tensor(lr), torch.tensor([quality]), torch.tensor([halved])))[0])
        assert found == pytest.approx(8 * (size - HEADER_BYTES), rel=0.1), quality


def test_bits_fall_along_their_gradient(forest: Image8) -> None:
    """A small step against the gradient makes the real file smaller; a random one of the same size does not."""
    lr = tensor(resize(forest, (64, 128)))
    torch.manual_seed(0)
    before = pillow(to_image(lr.numpy()), 80, True)[1]

    def after(direction: Tensor) -> int:
        step = 1.5 / 255 * direction / direction.square().mean().sqrt()
        return pillow(to_image((lr - step).clamp(0, 1).numpy()), 80, True)[1]

    assert after(torch.randn_like(lr)) > 0.995 * before
    for spend in (
        lambda x: jpeg_bits(jpeg(x, torch.tensor([80]), torch.tensor([True]))).sum(),
        lambda x: flat_bits(x, torch.tensor([12.0])).sum(),
    ):
        x = lr.clone().requires_grad_()
        (slope,) = torch.autograd.grad(spend(x), x)
        assert after(slope) < 0.99 * before


def coder_cases() -> list[Coder]:
    return [coder for name in CODECS for coder in parse_coder(name)]


@pytest.mark.parametrize("coder", coder_cases(), ids=lambda coder: coder.title)
def test_real_codecs(coder: Coder, courtyard: Image8) -> None:
    """Better pictures take more bytes; odd sides come back."""
    if coder.name in VIDEO:
        pytest.importorskip("av")
    elif coder.name == "jxl":
        pytest.importorskip("pillow_jxl")
    image = np.ascontiguousarray(courtyard[100:195, 300:463])
    sizes, errors = [], []
    for quality in (40, 90):
        seen, size = coder.round_trip(image, quality)
        assert seen.shape == image.shape and seen.dtype == np.uint8
        sizes.append(size)
        errors.append(np.square(seen.astype(float) - image).mean())
    assert sizes[0] < sizes[1] < image.size and errors[1] < errors[0] < 400


@pytest.mark.parametrize("name", list(VIDEO))
def test_clips(name: str, courtyard: Image8) -> None:
    pytest.importorskip("av")
    coder = parse_coder(name)[0]
    frames = [np.ascontiguousarray(np.roll(courtyard[64:128, :128], 2 * n, axis=1)) for n in range(5)]
    packets = encode_frames(frames, coder, 70)
    seen = decode_frames(packets, coder, (64, 128))
    assert len(seen) == 5 and sum(map(len, packets)) < 4 * len(packets[0])  # later frames are told by earlier ones
    apart = [[np.abs(a.astype(int) - b).mean() for b in seen] for a in frames]
    assert [int(np.argmin(row)) for row in apart] == list(range(5))


def test_coders_by_name() -> None:
    assert [c.title for c in parse_coder("jpeg")] == ["JPEG 4:2:0", "JPEG 4:4:4"]
    assert [c.title for c in parse_coder("avif-444")] == ["AVIF 4:4:4"]
    for text, message in (
        ("gif", "expected some of jpeg, webp"),
        ("jpeg-422", "alone or with -420 or -444"),
        ("webp-444", "expected 4:2:0, found 4:4:4"),
        ("jxl-420", "expected 4:4:4, found 4:2:0"),
    ):
        with pytest.raises(UserError, match=message):
            parse_coder(text)


@pytest.fixture
def channel() -> Iterator[Channel]:
    channel = Channel(Plan("mixed", 50, 95, "mixed"), workers=1)
    yield channel
    channel.close()


def test_real_codecs_in_the_loop(channel: Channel, forest: Image8) -> None:
    """What the decoder gets is the real codec's output; gradients are those of the way beside it."""
    pytest.importorskip("av")
    y = torch.cat([tensor(np.ascontiguousarray(forest[100:164, n : n + 64])) for n in range(0, 640, 64)])
    y.requires_grad_()
    received = channel(y, channel.draw(len(y), (0, 3)))
    rng = np.random.default_rng([0, 3])
    drawn = [channel.plan.draw(rng) for _ in y]
    assert len({coder.name for coder, _ in drawn}) >= 3
    for n, (coder, quality) in enumerate(drawn):
        expected, size = coder.round_trip(to_image(y[n].detach().numpy()), quality)
        apart = np.abs(to_image(received.y[n].detach().numpy()).astype(int) - expected)
        assert np.percentile(apart, 99) <= 2, coder.title
        empty = (
            HEADER_BYTES
            if coder.name == "jpeg"
            else coders.round_trip(coder.name, coder.halved, 50, np.full((16, 16, 3), 128, np.uint8))[1]
        )
        assert received.bits[n].item() == pytest.approx(8 * (size - empty), rel=0.2)
    (received.y.sum() + 1e-4 * received.bits.sum()).backward()
    assert y.grad is not None and (y.grad.flatten(1).abs().amax(1) > 0.05).all()
    again = channel(y.detach(), channel.draw(len(y), (0, 3)))
    assert torch.equal(again.y, received.y.detach())
    assert not torch.equal(channel(y.detach(), channel.draw(len(y), (0, 4))).y, again.y)


def test_a_plan_tells_a_graph_what_it_needs() -> None:
    survives = Survives.of(Plan("jpeg", 50, 95, "mixed").metadata(), "a.onnx")
    assert survives == Survives("jpeg", 50, 95, ("4:2:0", "4:4:4"))
    assert Plan("webp", 60, 80, "444").metadata()["codec_chroma"] == "4:2:0"
    assert Plan("mixed", 50, 95, "mixed").coder() == Coder("jpeg", True)
    assert Plan("avif", 50, 95, "444").coder() == Coder("avif", False)


def test_a_share_of_samples_meets_no_codec(forest: Image8) -> None:
    """One of five at a share of a fifth; those come through untouched and count no bits, gradients included."""
    channel = Channel(Plan("jpeg", 50, 60, "420", clean=0.2))
    y = tensor(np.ascontiguousarray(forest[:64, :64])).repeat(5, 1, 1, 1).requires_grad_()
    spared = set()
    for step in range(8):
        received = channel(y, channel.draw(len(y), (0, step)))
        same = (received.y == y).flatten(1).all(1)
        assert same.sum() == 1 and received.bits.shape == (4,) and (received.bits > 0).all()
        spared.add(int(same.nonzero()))
    assert len(spared) > 2
    (gradient,) = torch.autograd.grad(received.bits.sum(), y)
    assert not gradient[same].any() and gradient[~same].any()
    clean = Channel(Plan("jpeg", 50, 60, "420", clean=1.0))
    every = clean(y, clean.draw(len(y), (0, 0)))
    assert torch.equal(every.y, y) and len(every.bits) == 0
    draws = [Plan("jpeg", 50, 60, "420", clean=0.1).draw_batch(5, np.random.default_rng(n)) for n in range(400)]
    assert np.mean([[file is None for file in drawn] for drawn in draws]) == pytest.approx(0.1, abs=0.02)


def test_fine_chroma_sees_dots_of_colour_only() -> None:
    """By hand: a checkerboard of Cb of amplitude a has mean square a^2; grey ones and coarse ones have none."""
    dots = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).repeat(8, 8)
    blue = torch.zeros(1, 3, 16, 16)
    blue[0, 2] = 0.1 * dots
    expected = (0.05**2 + (0.1 * 0.081312) ** 2) / 2  # Cb takes half of blue, Cr -0.081
    torch.testing.assert_close(fine_chroma(blue), torch.tensor(expected), rtol=1e-4, atol=0)
    assert fine_chroma(0.1 * dots.expand(1, 3, 16, 16)) < 1e-9
    torch.testing.assert_close(dots_of(0.1 * dots.expand(1, 3, 16, 16)), torch.tensor(0.01), rtol=1e-4, atol=0)
    stripes = 0.1 * dots[:1].expand(1, 3, 16, 16)  # fine in one direction only: edges are, too
    assert dots_of(stripes) < 1e-9
    torch.testing.assert_close(dots_of(blue), torch.tensor((0.1 * 0.114) ** 2), rtol=1e-4, atol=0)
    levels = np.clip(128 + 20 * dots.numpy()[:, :, None].repeat(3, 2), 0, 255).astype(np.uint8)
    assert validated_dots(levels, np.full((32, 32, 3), 128, np.uint8)) == pytest.approx(20 * 219 / 255, rel=1e-4)
    coarse = torch.cos(2 * torch.pi * 2 / 16 * torch.arange(16.0)).expand(16, 16)
    assert fine_chroma(torch.stack([coarse, 0 * coarse, -coarse])[None]) < 1e-9
