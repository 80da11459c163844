"""Training: crops that know their latitude, Algorithm 1, and its steps."""

from __future__ import annotations

import csv
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from networks import build, randomise, tiny
from numpy.typing import NDArray
from torch import Tensor
from training_runs import SHORT, make, take, tensors

from dinn360.checkpoint import load_checkpoint
from dinn360.data.crops import Batch, Crops
from dinn360.data.shrunk import shrunk, with_shrunk
from dinn360.networks.layers import DST, DConv
from dinn360.training.config import TrainConfig
from dinn360.training.losses import Losses, algorithm_1, difference, quantise, reference_lr
from dinn360.training.memory import keep_freed_memory
from engines.support.arrays import Image8
from engines.support.errors import UserError

# --- crops


def numbered(height: int, width: int) -> NDArray[np.uint8]:
    """A panorama whose pixels say where they are: row, low digit and high digit of the column."""
    row, column = np.mgrid[:height, :width]
    return np.stack([row, column % 256, column // 256], axis=2).astype(np.uint8)


def test_crops_lie_where_they_say() -> None:
    height, width, size = 200, 400, 24
    crops = Crops([numbered(height, width)], [], size, 6, 7, 0.5)
    seen = set()
    for step in range(12):
        batch = crops(step)
        assert batch.x.shape == (6, 3, size, size) and batch.x.dtype == torch.float32 and not batch.frame.wrap
        assert batch.frame.top is not None and batch.frame.height is not None
        for crop, top, total in zip(batch.x, batch.frame.top, batch.frame.height, strict=True):
            values = (crop * 255).round().long()
            rows, columns = values[0, :, 0], values[1, 0] + 256 * values[2, 0]
            assert int(total) == height
            declared = torch.arange(int(top), int(top) + size)
            upside_down = bool(rows[0] > rows[-1])
            # turned over, a row takes the latitude of its mirror image
            assert torch.equal(rows, height - 1 - declared if upside_down else declared)
            step_right = (columns[1:] - columns[:-1]) % width
            mirrored = int(step_right[0]) != 1
            assert bool((step_right == (width - 1 if mirrored else 1)).all())
            seen.add((upside_down, mirrored))
            across = int(columns.max() - columns.min()) > size
            seen.add(("across the seam", across))
    assert len(seen) == 6


def test_crops_are_taken_uniformly_on_the_sphere() -> None:
    crops = Crops([numbered(256, 512)], [], 8, 200, 0, 0.0)
    frame = crops(0).frame
    assert frame.top is not None
    latitude = ((frame.top + 4.0) / 256 - 0.5) * math.pi
    # half of the sphere's area lies within 30 degrees of the equator; uniform rows would give a third
    assert float((latitude.abs() < math.pi / 6).float().mean()) == pytest.approx(0.5, abs=0.08)


def test_crops_depend_on_seed_and_step_alone(forest: Image8) -> None:
    first, second = (Crops([forest], [forest], 16, 3, 5, 0.5) for _ in range(2))
    first(0)
    for a, b in ((first(4), second(4)),):
        assert torch.equal(a.x, b.x) and a.frame.top is not None and b.frame.top is not None
        assert torch.equal(a.frame.top, b.frame.top)
    assert not torch.equal(first(4).x, first(5).x)
    assert not torch.equal(first(4).x, Crops([forest], [forest], 16, 3, 6, 0.5)(4).x)


def test_photographs_are_stretched_towards_the_poles() -> None:
    stripes = np.zeros((64, 256, 3), np.uint8)
    stripes[:, ::2] = 255  # one pixel wide: any stretching blurs or widens them
    crops = Crops([], [stripes], 32, 40, 0, 1.0)
    batch = crops(0)
    assert batch.frame.top is not None and batch.frame.height is not None
    changes = ((batch.x[:, 0, 0, 1:] > 0.5) != (batch.x[:, 0, 0, :-1] > 0.5)).sum(1)
    latitude = ((batch.frame.top + 16) / batch.frame.height - 0.5) * math.pi
    taken = (32 * torch.cos(latitude)).round().clamp(min=8)  # columns, stretched to 32; eight at least
    assert bool(((changes - (taken - 1)).abs() <= 1).all()) and int(changes.min()) < 10 < 28 < int(changes.max())
    assert float(batch.x.min()) >= 0 and float(batch.x.max()) <= 1


# --- Algorithm 1


def test_shrunk_panoramas_stay_round(forest: Image8) -> None:
    """Turned by two columns and halved is halved and turned by one; a flat image stays flat up to its seam."""
    half = shrunk(forest, 256, 512, cyclic=True)
    turned = shrunk(np.roll(forest, 2, axis=1), 256, 512, cyclic=True)
    assert np.array_equal(turned, np.roll(half, 1, axis=1))
    assert not np.array_equal(half[:, :4], shrunk(forest, 256, 512, cyclic=False)[:, :4])
    sizes = [image.shape for image in with_shrunk(forest, 5, 200, True)]
    assert sizes == [(512, 1024, 3), (362, 724, 3), (256, 512, 3)]  # the next has less than 200 rows
    assert with_shrunk(forest, 0, 1, True)[0] is forest


def algorithm(alpha: float, lambda_z: float = 1.0, latent: bool = True) -> tuple[Losses, dict[str, Tensor]]:
    """Losses and gradients of one step on a fixed batch."""
    network = build(tiny(4))
    x = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    frame = Crops([numbered(200, 400)], [], 16, 2, 0, 0.0)(0).frame
    torch.manual_seed(1)
    losses = algorithm_1(network, x, frame, (1.0, 0.05, lambda_z), alpha, latent, True)
    losses.total.backward()
    return losses, {n: p.grad for n, p in network.named_parameters() if p.grad is not None}


def test_backflow_reaches_only_the_latent_loss() -> None:
    without, with_ = algorithm(0.0), algorithm(0.5)
    assert torch.equal(without[0].hr, with_[0].hr) and torch.equal(without[0].lr, with_[0].lr)
    assert without[0].latent is not None and not torch.equal(without[0].latent, with_[0].latent)
    assert any(not torch.allclose(without[1][name], with_[1][name]) for name in without[1])
    without, with_ = algorithm(0.0, lambda_z=0.0), algorithm(0.5, lambda_z=0.0)
    assert all(torch.equal(without[1][name], with_[1][name]) for name in without[1])


def test_the_latent_loss_can_be_left_out() -> None:
    losses, gradients = algorithm(0.5, latent=False)
    assert losses.latent is None
    torch.testing.assert_close(losses.total, losses.hr + 0.05 * losses.lr)
    assert all(bool(gradient.isfinite().all()) for gradient in gradients.values())


def test_luma_takes_its_share_of_the_loss() -> None:
    network = build(tiny(2))
    x = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    frame = Crops([numbered(200, 400)], [], 16, 2, 0, 0.0)(0).frame
    with torch.no_grad():
        error = network.upscale(quantise(network.split(x, frame).y), frame=frame) - x
        losses = [algorithm_1(network, x, frame, (1, 0, 0), 0, False, False, luma).hr for luma in (0, 0.25, 1)]
    luma = (0.299 * error[:, 0] + 0.587 * error[:, 1] + 0.114 * error[:, 2]).abs().mean()
    expected = torch.stack([error.abs().mean(), 0.75 * error.abs().mean() + 0.25 * luma, luma])
    torch.testing.assert_close(torch.stack(losses), expected)


def test_rms_is_what_psnr_measures_crop_by_crop() -> None:
    error = torch.tensor([0.1, -0.3]).view(2, 1, 1, 1).expand(2, 3, 4, 4)
    torch.testing.assert_close(difference(error, "l1"), torch.tensor(0.2))
    torch.testing.assert_close(difference(error, "rms"), torch.tensor(0.2), atol=1e-5, rtol=0)
    spread, even = torch.zeros(1, 1, 2, 2), torch.full((1, 1, 2, 2), 0.1)
    spread[0, 0, 0, 0] = 0.4  # as large on average, but PSNR sees twice the error
    torch.testing.assert_close(
        difference(spread, "rms") / difference(even, "rms"), torch.tensor(2.0), atol=1e-4, rtol=0
    )
    right = torch.zeros(1, 3, 4, 4, requires_grad=True)
    difference(right, "rms").backward()  # type: ignore[no-untyped-call]
    assert right.grad is not None and bool(right.grad.isfinite().all())


def test_every_parameter_learns() -> None:
    network = build(tiny(4))
    _, gradients = algorithm(0.1)
    assert set(gradients) == {name for name, _ in network.named_parameters()}
    assert [name for name, gradient in gradients.items() if not gradient.any()] == []


def test_rounding_is_to_the_8_bit_grid_and_invisible_to_the_gradient_but_clipping_is_not() -> None:
    y = torch.tensor([-0.2, 0.1, 0.5001, 1.3], requires_grad=True)
    rounded = quantise(y)
    assert torch.allclose(rounded, torch.tensor([0.0, 26 / 255, 128 / 255, 1.0]), atol=1e-6)
    rounded.sum().backward()
    assert y.grad is not None and torch.equal(y.grad, torch.tensor([0.0, 1.0, 1.0, 0.0]))


def test_the_guide_of_a_flat_image_is_flat() -> None:
    assert torch.allclose(reference_lr(torch.full((1, 3, 16, 16), 0.3), 4), torch.full((1, 3, 4, 4), 0.3))


# --- steps


def test_the_loss_falls(tmp_path: Path, courtyard: Image8) -> None:
    """From weights that garble the image. (A fresh network is a box mean, which takes long to surpass.)"""
    config = replace(SHORT, steps=30, crop=32, deform_from=0.5)
    trainer = make(tmp_path, courtyard, config)
    randomise(trainer.network, 0, std=0.02).train()
    fixed = Crops([courtyard], [], 32, 8, 99, 0.0)(0)

    def loss() -> float:
        with torch.no_grad():
            return float(algorithm_1(trainer.network, fixed.x, fixed.frame, (1, 0, 0), 0, False, False).hr)

    before = loss()
    trainer.run()
    assert loss() < 0.4 * before and trainer.skipped == 0 and trainer.step == 30
    rows = list(csv.DictReader((tmp_path / "train.csv").open()))
    assert [int(row["step"]) for row in rows] == list(range(1, 31))
    assert [math.isnan(float(row["latent"])) for row in rows[:4]] == [False, True, False, True]
    checkpoint = load_checkpoint(tmp_path / "last.pth")
    assert checkpoint.provenance["steps"] == 30 and checkpoint.provenance["data"] == "forest"
    for name, tensor in checkpoint.build().state_dict().items():
        assert torch.equal(tensor, trainer.average[name])


def test_deformation_is_switched_on_late(tmp_path: Path, forest: Image8) -> None:
    trainer = make(tmp_path, forest, replace(SHORT, deform_from=0.5))
    parts = [m for m in trainer.network.modules() if isinstance(m, DConv | DST)]
    heads = [p for n, p in trainer.network.named_parameters() if "offset_head" in n or "scale_head" in n]
    assert len(parts) > 2 and len(heads) > 4
    for step in range(6):
        trainer.step = step
        take(trainer)
        assert {part.deform for part in parts} == {step >= 3}
        assert any(bool(head.any()) for head in heads) == (step >= 3)
    never = make(tmp_path, forest, replace(SHORT, deform_from=0.0), deform=False)
    take(never)
    assert not any(m.deform for m in never.network.modules() if isinstance(m, DConv | DST))


def test_a_step_that_is_not_finite_is_skipped_and_counted(tmp_path: Path, forest: Image8) -> None:
    trainer = make(tmp_path, forest)
    take(trainer)
    before = {name: tensor.clone() for name, tensor in tensors(trainer).items()}
    crops = trainer.crops
    trainer.crops = lambda step: Batch(crops(step).x * float("nan"), crops(step).frame)  # type: ignore[assignment]
    take(trainer)
    assert trainer.skipped == 1
    after = tensors(trainer)
    assert [name for name in before if not torch.equal(before[name], after[name])] == []
    trainer.crops = crops
    take(trainer)
    assert trainer.skipped == 1 and all(bool(tensor.isfinite().all()) for tensor in tensors(trainer).values())


def test_bf16_trains(tmp_path: Path, forest: Image8) -> None:
    trainer = make(tmp_path, forest, replace(SHORT, precision="bf16", deform_from=0.0))
    row = take(trainer)
    assert trainer.skipped == 0 and math.isfinite(row["loss"])
    exact = take(make(tmp_path, forest, replace(SHORT, deform_from=0.0)))
    assert row["hr"] == pytest.approx(exact["hr"], rel=0.05)
    assert {p.dtype for p in trainer.network.parameters()} == {torch.float32}


@pytest.mark.parametrize(
    ("name", "value"), [("steps", 0), ("crop", 0), ("alpha", 1.5), ("deform_from", -0.1), ("batch", -1)]
)
def test_a_wrong_setting_is_refused(name: str, value: float) -> None:
    with pytest.raises(UserError, match=f"{name}: expected"):
        TrainConfig(**{name: value})


def test_the_rate_warms_up_and_fades() -> None:
    config = TrainConfig(steps=100, lr=1.0, warmup=10, decay=0.2)
    rates = [config.lr_at(step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1) and rates[50] == 1 and rates[-1] == pytest.approx(0.05)
    assert rates[:10] == sorted(rates[:10]) and rates[80:] == sorted(rates[80:], reverse=True)


def test_keeping_freed_memory_says_whether_it_did() -> None:
    assert keep_freed_memory() in (True, False)
