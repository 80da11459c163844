"""The training kernels against the composed definition: values and all gradients, at every instruction set.

Expected values are computed in fp64 from the very numbers that the kernels were given; a kernel may differ by 1e-5 of
the largest. Offsets keep off whole numbers, where a bilinear sample has two slopes and the composed definition, which
normalises its coordinates, takes the one that rounding chooses.
"""

from __future__ import annotations

import copy
import functools
import math
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cpu_cases
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kernels_native import WHY_NOT, Array
from networks import randomise, tiny
from torch import Tensor

from dinn360.data.crops import Crops
from dinn360.networks import DINN360
from dinn360.ops import cpu as cpu_kernels
from dinn360.ops import deform_conv, registry
from dinn360.sphere import Frame
from dinn360.training.losses import algorithm_1
from dinn360.training.train import TrainConfig, Trainer
from engines.support.arrays import Image8
from engines.support.errors import UserError
from plugins.build import ROOT
from plugins.cpu.training import library
from plugins.testing import cpu_operators as cpu

pytestmark = pytest.mark.skipif(WHY_NOT is not None, reason=f"the kernels cannot be built: {WHY_NOT}")
SETS = cpu.instruction_sets() if WHY_NOT is None else []
NAMES = ("x", "offset", "weight", "bias", "mask")
Arguments = dict[str, Any]


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    """The choice of kernels holds for the whole process: each test leaves the composed definition behind."""
    yield
    cpu_kernels.choose_kernels("composed")


def bounded_deform_conv2d(*, offset: Tensor, max_offset: float, **others: Any) -> Tensor:
    """The composed definition of offsets that are clamped first, which the kernels do themselves."""
    return deform_conv.composed(offset=offset.clamp(-max_offset, max_offset), max_offset=max_offset, **others)


def arguments(
    *,
    channels: int,
    out: int,
    size: tuple[int, int],
    batch: int = 1,
    kernel: int = 3,
    fields: int = 1,
    mask: bool = False,
    wrap: bool = False,
    max_offset: float = 2.75,
    seed: int = 0,
) -> Arguments:
    """Random arguments of deform_conv2d in fp32; a third of the offsets lie beyond the bound."""
    generator = torch.Generator().manual_seed(seed)
    normal = functools.partial(torch.randn, generator=generator)
    taps = kernel * kernel
    return {
        "x": normal(batch, channels, *size),
        "offset": max_offset * normal(batch, 2 * fields * taps, *size),
        "weight": normal(out, channels, kernel, kernel) / math.sqrt(channels * taps),
        "bias": normal(out),
        "mask": torch.rand(batch, fields * taps, *size, generator=generator) if mask else None,
        "max_offset": max_offset,
        "wrap": wrap,
    }


def differentiated(operator: Any, given_: Arguments, dtype: torch.dtype) -> dict[str, Tensor]:
    """y, and the gradients of a random function of it."""
    tensors = {name: given_[name].to(dtype).requires_grad_() for name in NAMES if given_[name] is not None}
    y = operator(**{**given_, **tensors})
    slope = torch.randn(y.shape, generator=torch.Generator().manual_seed(7)).to(dtype)
    grads = torch.autograd.grad(y, list(tensors.values()), slope)
    return {"y": y.detach(), **dict(zip(tensors, grads, strict=True))}


def assert_close(
    found: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float = 1e-5, least: float = 0.5
) -> None:
    """least: what the largest value counts as at least; a sum can cancel out."""
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        error = float((found[name] - value).abs().max() / value.abs().max().clamp(min=least))
        assert error <= tolerance, f"{name}: {error:.2e}"


@pytest.fixture(params=SETS)
def instruction_set(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each of this CPU's, which the kernels of the test then use."""
    for call in ("forward", "backward"):
        monkeypatch.setattr(library, call, functools.partial(getattr(library, call), instruction_set=request.param))
    return request.param


CASES: dict[str, dict[str, Any]] = {
    "fine level": dict(batch=2, channels=16, out=16, size=(9, 13)),
    "coarse level": dict(channels=32, out=32, size=(5, 11), wrap=True),
    "mask": dict(batch=2, channels=16, out=24, size=(7, 6), mask=True, wrap=True),
    "odd channels": dict(channels=5, out=3, size=(6, 9), mask=True),
    "many channels": dict(channels=72, out=70, size=(3, 5), wrap=True),
    "offset groups": dict(channels=12, out=7, size=(5, 8), fields=2, mask=True, wrap=True),
    "narrow offset groups": dict(channels=6, out=4, size=(4, 7), fields=6),
    "1x1": dict(channels=4, out=9, size=(5, 7), kernel=1, mask=True),
    "5x5": dict(channels=4, out=4, size=(7, 5), kernel=5, wrap=True),
    "one pixel": dict(channels=3, out=2, size=(1, 1), wrap=True),
    "narrower than its reach": dict(channels=4, out=4, size=(3, 2), max_offset=8.75, wrap=True),
    "bands": dict(batch=2, channels=4, out=4, size=(97, 7), wrap=True),
    "far bands": dict(channels=4, out=4, size=(93, 5), max_offset=20.25, mask=True),
    "no bound": dict(channels=4, out=4, size=(70, 5), max_offset=math.inf),
}


@pytest.mark.usefixtures("instruction_set")
@pytest.mark.parametrize("case", CASES)
def test_values_and_gradients(case: str) -> None:
    options = CASES[case]
    bound = options.get("max_offset", 2.75)
    given_ = {**arguments(**{**options, "max_offset": min(bound, 90.5)}), "max_offset": bound}
    expected = differentiated(bounded_deform_conv2d, given_, torch.float64)
    assert_close(differentiated(cpu_kernels.deform_conv2d, given_, torch.float32), expected)


@settings(max_examples=40, deadline=None)
@given(
    channels=st.integers(1, 20),
    out=st.integers(1, 20),
    size=st.tuples(st.integers(1, 40), st.integers(1, 9)),
    kernel=st.sampled_from([1, 3, 5]),
    mask=st.booleans(),
    wrap=st.booleans(),
    seed=st.integers(0, 99),
)
def test_any_size(**options: Any) -> None:
    given_ = arguments(**options)
    expected = differentiated(bounded_deform_conv2d, given_, torch.float64)
    assert_close(differentiated(cpu_kernels.deform_conv2d, given_, torch.float32), expected)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_any_layout_of_the_tensors(layout: torch.memory_format) -> None:
    given_ = arguments(channels=8, out=8, size=(6, 7), mask=True)
    expected = differentiated(cpu_kernels.deform_conv2d, given_, torch.float32)
    for name in ("x", "offset", "weight", "mask"):
        given_[name] = given_[name].contiguous(memory_format=layout)
    found = differentiated(cpu_kernels.deform_conv2d, given_, torch.float32)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_only_the_gradients_that_are_wanted() -> None:
    given_ = arguments(channels=4, out=4, size=(5, 6))
    given_["weight"].requires_grad_()
    cpu_kernels.deform_conv2d(**given_).sum().backward()
    assert given_["weight"].grad is not None and given_["x"].grad is None
    with torch.no_grad():
        assert not cpu_kernels.deform_conv2d(**given_).requires_grad


# ---- laws


@pytest.mark.usefixtures("instruction_set")
def test_any_number_of_threads_gives_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    given_ = arguments(batch=3, channels=8, out=8, size=(97, 7), mask=True, wrap=True)
    runs = []
    for threads in (1, 2, 3):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        runs.append(differentiated(cpu_kernels.deform_conv2d, given_, torch.float32))
    assert all(torch.equal(run[name], runs[0][name]) for run in runs for name in run)


@pytest.mark.usefixtures("instruction_set")
def test_at_whole_numbers_the_slope_is_that_towards_the_next_pixel() -> None:
    """The derivative with respect to an offset of 0, or at the bound, is the difference of two pixels."""
    x = torch.randn(1, 4, 6, 7, generator=torch.Generator().manual_seed(0))
    one, none = torch.eye(4).reshape(4, 4, 1, 1), torch.zeros(4)
    for whole in (-1, 0, 1):
        offset = torch.zeros(1, 2, 6, 7)
        offset[:, 1] = whole
        offset.requires_grad_()
        cpu_kernels.deform_conv2d(x, offset, one, none, None, 1.0, True).sum().backward()
        sums = x.sum(1).roll(-whole, -1)
        below = torch.cat([sums[:, 1:], torch.zeros(1, 1, 7)], 1)
        assert offset.grad is not None
        torch.testing.assert_close(offset.grad[:, 0], below - sums)
        torch.testing.assert_close(offset.grad[:, 1], sums.roll(-1, -1) - sums)


@pytest.mark.usefixtures("instruction_set")
@pytest.mark.parametrize("wrap", [True, False])
def test_an_offset_that_is_no_number_spoils_nothing(wrap: bool) -> None:
    given_ = arguments(channels=4, out=4, size=(40, 6), wrap=wrap)
    given_["offset"][0, 4, 20, 3] = math.nan
    given_["offset"][0, 9, 39, 0] = math.nan
    found = differentiated(cpu_kernels.deform_conv2d, given_, torch.float32)
    assert all(value.isfinite().all() for value in found.values())
    assert (found["offset"][0, 4:6, 20, 3] == 0).all() and (found["offset"][0, 8:10, 39, 0] == 0).all()


def test_what_the_kernels_do_not_know_is_composed() -> None:
    given_ = arguments(channels=4, out=4, size=(5, 6))
    given_["offset"] = given_["offset"].clamp(-given_["max_offset"], given_["max_offset"])
    wide: Arguments = {name: value.double() if isinstance(value, Tensor) else value for name, value in given_.items()}
    assert torch.equal(cpu_kernels.deform_conv2d(**wide), bounded_deform_conv2d(**wide))
    compiled = torch.compile(cpu_kernels.deform_conv2d, backend="eager", fullgraph=True)
    assert torch.equal(compiled(**given_), bounded_deform_conv2d(**given_))


def test_16_bit_tensors_are_widened() -> None:
    given_ = arguments(channels=8, out=8, size=(5, 6), wrap=True)
    given_["x"], given_["offset"] = given_["x"].bfloat16(), given_["offset"].bfloat16()
    y = cpu_kernels.deform_conv2d(**given_)
    assert y.dtype == torch.bfloat16
    wide: Arguments = {name: value.float() if isinstance(value, Tensor) else value for name, value in given_.items()}
    assert torch.equal(y, cpu_kernels.deform_conv2d(**wide).bfloat16())


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"kernel": 2}, "odd kernel"), ({"offset_groups": 3}, "groups"), ({"max_offset": math.nan}, "max_offset"),
     ({"height": 1 << 17, "width": 1 << 17}, "pixels"), ({"batch": 0}, "positive"), ({"x": None}, "null"),
     ({"y": None}, "null")],
)  # fmt: skip
def test_a_call_that_cannot_run_says_why(changes: dict[str, Any], words: str) -> None:
    given_ = arguments(channels=4, out=4, size=(3, 3))
    tensors = {name: given_[name] for name in NAMES[:-1]}
    params = cpu_kernels._params((1.0, True), **tensors, mask=None, y=torch.empty(1, 4, 3, 3))
    for name, value in changes.items():
        setattr(params, name, value)
    with pytest.raises(ValueError, match=words):
        library.forward(params, 1)
    with pytest.raises(ValueError, match="instruction set"):
        library.forward(cpu_kernels._params((1.0, True), **tensors, mask=None, y=torch.empty(1, 4, 3, 3)), 1, "sse9")


# ---- the network


def deformed(seed: int) -> DINN360:
    return randomise(DINN360(tiny(2)), seed).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def test_a_training_step_is_that_of_the_composed_network() -> None:
    x = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(3))
    composed = deformed(5)
    changed, exact = copy.deepcopy(composed), copy.deepcopy(composed).double()
    grads = []
    for network in (exact, composed, changed):
        cpu_kernels.choose_kernels("native" if network is changed else "composed")
        image = x.to(next(network.parameters()).dtype)
        losses = algorithm_1(network, image, Frame(wrap=False), (1.0, 0.05, 1e-2), 0.1, True, False)
        losses.total.backward()
        named = {name: p.grad for name, p in network.named_parameters() if p.grad is not None}
        grads.append({"total": losses.total.detach(), **named})
    for found in grads[1:]:
        assert_close(found, grads[0], 1e-4, least=1e-6)  # rounding grows on its way through either


def trainer(folder: Path, image: Image8, kernels: str) -> Trainer:
    config = TrainConfig(steps=3, batch=2, crop=16, deform_from=0.0, latent_interval=2)
    made = Trainer(tiny(2), config, Crops([image], [], 16, 2, 0, 0.0, "forest"), None, folder)
    randomise(made.network, 5)
    cpu_kernels.choose_kernels(kernels)
    return made


def test_a_run_has_the_losses_of_the_composed_one(tmp_path: Path, forest: Image8) -> None:
    rows = []
    for kernels in ("composed", "native"):
        made = trainer(tmp_path / kernels, forest, kernels)
        (tmp_path / kernels).mkdir()
        made.run()
        rows.append((tmp_path / kernels / "train.csv").read_text().splitlines())
    assert len(rows[0]) == len(rows[1]) == 4
    for composed, ours in zip(rows[0][1:], rows[1][1:], strict=True):
        np.testing.assert_allclose(numbers(ours), numbers(composed), rtol=1e-4)


def numbers(row: str) -> Array:
    return np.array([float(cell or "nan") for cell in row.split(",")][:6])


# ---- the choice


def in_use() -> Any:
    """What an eager call of the operator runs."""
    return registry.implementation("deform_conv2d", deform_conv.composed, torch.empty(0))


def test_the_choice_says_what_runs() -> None:
    assert cpu_kernels.choose_kernels("composed") == "deformable convolutions: composed of PyTorch's operators"
    assert in_use() is deform_conv.composed
    assert cpu_kernels.choose_kernels("auto").startswith("deformable convolutions: C++ kernels")
    assert in_use() is cpu_kernels.deform_conv2d


def test_without_the_library_training_goes_on_composed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(library, "load", library.load.__wrapped__)
    monkeypatch.setattr(library, "BUILD", tmp_path)
    missing = "no libdinn360_training.so on this machine; `python -m plugins build --cpu` makes it"
    line = cpu_kernels.choose_kernels("auto")
    assert line == f"deformable convolutions: composed of PyTorch's operators ({missing})"
    assert in_use() is deform_conv.composed
    with pytest.raises(UserError, match=f"kernels: native: {missing}"):
        cpu_kernels.choose_kernels("native")


# ---- other CPUs


def check_agreement(folder: Path, before: list[str], *options: str) -> list[str]:
    """Runs the program that compares the instruction sets with the portable one; returns their names."""
    program = cpu.build("dinn360_training_agreement", folder, *options) / "dinn360_training_agreement"
    done = subprocess.run([*before, str(program)], capture_output=True, text=True, check=True)
    apart = {line.split()[0]: float(line.split()[1]) for line in done.stdout.splitlines()}
    assert apart["portable"] == 0 and max(apart.values()) < 1e-5, apart
    return list(apart)


def test_instruction_sets_agree() -> None:
    assert set(check_agreement(ROOT / "build" / "cpu", [])) == set(SETS)


@pytest.mark.skipif(cpu_cases.why_not() is not None, reason=f"NEON code cannot be run: {cpu_cases.why_not()}")
def test_neon_agrees() -> None:
    found = check_agreement(ROOT / "build" / "cpu-aarch64", [cpu_cases.EMULATOR], *cpu_cases.CROSS)
    assert set(found) == {"portable", "neon"}
