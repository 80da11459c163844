"""Muon on kernels, Adam on the rest."""

from __future__ import annotations

import copy

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from networks import build, tiny
from torch import nn

from dinn360.training.optimiser import Method, Muon, Optimiser, orthogonalise


@settings(max_examples=30, deadline=None)
@given(rows=st.integers(1, 40), columns=st.integers(1, 40), seed=st.integers(0, 999), size=st.floats(1e-6, 1e6))
def test_singular_values_come_near_one(rows: int, columns: int, seed: int, size: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    matrix = size * torch.randn(2, rows, columns, generator=generator)
    before, after = torch.linalg.svd(matrix), torch.linalg.svdvals(orthogonalise(matrix))
    kept = before.S > 0.02 * before.S.square().sum(-1, keepdim=True).sqrt()  # smaller ones need more iterations
    assert bool(((after > 0.6) & (after < 1.3))[kept].all())


def test_the_singular_vectors_stay() -> None:
    matrix = torch.randn(1, 6, 20, generator=torch.Generator().manual_seed(0))
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    turned = u.mT @ orthogonalise(matrix) @ v.mT
    assert float((turned - torch.diag_embed(turned.diagonal(dim1=1, dim2=2))).abs().max()) < 1e-4


@pytest.mark.parametrize("shape", [(8, 16, 3, 3), (64, 3, 3, 3), (5, 7, 1, 1)])
def test_a_step_changes_a_kernel_by_its_rate(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    kernel = nn.Parameter(torch.randn(shape))
    before = kernel.detach().clone()
    kernel.grad = 1e-4 * torch.randn(shape)
    Muon([kernel], lr=0.01).step()
    change = kernel.detach() - before
    assert float(change.square().mean().sqrt()) == pytest.approx(0.01, rel=0.25)
    assert float((change * kernel.grad).sum()) < 0


def test_kernels_of_one_shape_do_not_mix() -> None:
    torch.manual_seed(0)
    kernels = [nn.Parameter(torch.randn(4, 3, 3, 3)) for _ in range(3)]
    alone = [nn.Parameter(kernel.detach().clone()) for kernel in kernels]
    for kernel, twin in zip(kernels, alone, strict=True):
        twin.grad = kernel.grad = torch.randn(4, 3, 3, 3)
    kernels[1].grad = None
    Muon(kernels, lr=0.1).step()
    for index, twin in enumerate(alone):
        if index == 1:
            continue
        Muon([twin], lr=0.1).step()
        torch.testing.assert_close(twin, kernels[index])
    assert torch.equal(kernels[1], alone[1])


def test_every_parameter_of_a_network_has_its_method() -> None:
    network = build(tiny(2), seed=0)
    optimiser = Optimiser("muon", network, 1e-3)
    kernels, others = (
        {id(p) for group in optimiser.parts[name].param_groups for p in group["params"]} for name in ("muon", "adam")
    )
    assert kernels and others and not kernels & others
    assert kernels | others == {id(p) for p in network.parameters()}
    assert all(p.ndim == 4 for p in network.parameters() if id(p) in kernels)
    assert set(Optimiser("adam", network, 1e-3).parts) == {"adam"}


@pytest.mark.parametrize("method", ["muon", "adam"])
def test_heads_have_a_rate_of_their_own(method: Method) -> None:
    steps = []
    for head_rate in (1.0, 10.0):
        network = build(tiny(2))
        before = {name: p.detach().clone() for name, p in network.named_parameters()}
        for index, p in enumerate(network.parameters()):
            p.grad = torch.randn(p.shape, generator=torch.Generator().manual_seed(index))
        Optimiser(method, network, 1e-3, head_rate).step()
        steps.append({name: (p.detach() - before[name]) for name, p in network.named_parameters()})
    heads = {name for name in steps[0] if "offset_head" in name or "scale_head" in name}
    assert {name.split(".")[-2] for name in heads} == {"offset_head", "scale_head"}
    for name, step in steps[0].items():
        torch.testing.assert_close(steps[1][name], step * (10 if name in heads else 1), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("method", ["muon", "adam"])
def test_a_stored_state_continues_alike(method: Method) -> None:
    networks = [build(tiny(2), seed=0) for _ in range(2)]
    first, second = (Optimiser(method, network, 1e-3) for network in networks)

    def step(network: nn.Module, optimiser: Optimiser, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        for parameter in network.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimiser.step()
        optimiser.zero_grad()

    step(networks[0], first, 0)
    networks[1].load_state_dict(networks[0].state_dict())
    second.load_state_dict(copy.deepcopy(first.state_dict()))  # tensors of a state are shared, not copied
    for network, optimiser in zip(networks, (first, second), strict=True):
        step(network, optimiser, 1)
    for one, other in zip(networks[0].parameters(), networks[1].parameters(), strict=True):
        assert torch.equal(one, other)
        assert one.grad is None


def test_muon_and_channels_last_agree() -> None:
    results = []
    for layout in (torch.contiguous_format, torch.channels_last):
        network = build(tiny(2)).to(memory_format=layout)  # type: ignore[call-overload]
        for index, parameter in enumerate(network.parameters()):
            generator = torch.Generator().manual_seed(index)
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        Optimiser("muon", network, 1e-2).step()
        results.append(torch.cat([p.detach().flatten() for p in network.parameters()]))
    torch.testing.assert_close(*results)
