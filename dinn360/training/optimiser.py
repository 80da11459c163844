"""Muon for convolution kernels, Adam for the rest, as one optimiser.

Muon (Jordan et al. 2024) replaces a kernel's averaged gradient, read as a matrix (outputs x inputs and taps), by its
nearest orthogonal matrix: every direction moves by the same amount, also those that Adam hardly ever visits. Its use is
our choice; docs/choices.md has what it gained.
torch.optim.Muon takes matrices only and iterates in bf16, which few CPUs can; this one takes kernels, in fp32, and
works on all kernels of one shape at once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any, Literal

import torch
from torch import Tensor

from dinn360.networks import RescalingNetwork

Method = Literal["muon", "adam"]

# Jordan's quintic: five iterations bring singular values of 0.01 to 1 into 0.7 to 1.2, which is near enough.
QUINTIC = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5


def orthogonalise(matrices: Tensor) -> Tensor:
    """The orthogonal factor of each matrix (N,R,C), by Newton-Schulz iterations: singular values within 0.7 to 1.2."""
    wide = matrices if matrices.shape[1] <= matrices.shape[2] else matrices.mT
    wide = wide / wide.flatten(1).norm(dim=1).clamp(min=1e-12)[:, None, None]
    a, b, c = QUINTIC
    for _ in range(ITERATIONS):
        gram = wide @ wide.mT
        wide = a * wide + (b * gram + c * gram @ gram) @ wide
    return wide if matrices.shape[1] <= matrices.shape[2] else wide.mT


class Muon(torch.optim.Optimizer):
    """Muon with Nesterov's momentum for convolution kernels (O,I,k,k).

    lr: the root mean square of what a step changes in a kernel's elements. A kernel without gradient stays as it is.
    """

    def __init__(self, kernels: Iterable[Any], lr: float, momentum: float = 0.95) -> None:
        super().__init__(kernels, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # no caller of ours has a closure
        for group in self.param_groups:
            alike: dict[tuple[int, int], list[tuple[Tensor, Tensor]]] = defaultdict(list)
            for kernel in group["params"]:
                if kernel.grad is None:
                    continue
                average = self.state[kernel].setdefault("average", torch.zeros_like(kernel))
                average.lerp_(kernel.grad, 1 - group["momentum"])
                ahead = kernel.grad.lerp(average, group["momentum"])
                alike[kernel.shape[0], kernel[0].numel()].append((kernel, ahead.flatten(1)))
            for shape, members in alike.items():
                # The elements of an orthogonal R x C matrix have the root mean square 1 / sqrt(max(R, C)).
                moves = orthogonalise(torch.stack([matrix for _, matrix in members])) * max(shape) ** 0.5
                for (kernel, _), move in zip(members, moves, strict=True):
                    kernel.sub_(move.reshape(kernel.shape), alpha=group["lr"])


class Optimiser:
    """The optimiser of a run: one or two of PyTorch's, under one learning rate.

    method: "muon" (our choice): kernels by Muon, what is left by Adam. "adam": everything by Adam, with HCFlow's betas.
    head_rate: the rate of the heads that say where to sample, as a multiple of the others'.
    """

    def __init__(self, method: Method, network: RescalingNetwork, lr: float, head_rate: float = 1.0) -> None:
        heads = {id(p) for head in network.sampling_heads() for p in head.parameters()}
        groups: dict[str, list[dict[str, Any]]] = {"muon": [], "adam": []}
        for factor, of_heads in ((1.0, False), (head_rate, True)):
            chosen = [p for p in network.parameters() if (id(p) in heads) == of_heads]
            kernels = [p for p in chosen if method == "muon" and _is_kernel(p)]
            others = [p for p in chosen if method == "adam" or not _is_kernel(p)]
            for name, members in (("muon", kernels), ("adam", others)):
                if members:
                    groups[name].append({"params": members, "factor": factor})
        self.parts: dict[str, torch.optim.Optimizer] = {}
        if groups["muon"]:
            self.parts["muon"] = Muon(groups["muon"], lr)
        if groups["adam"]:
            self.parts["adam"] = torch.optim.Adam(groups["adam"], lr=lr, betas=(0.9, 0.99), foreach=True)
        self.set_rate(lr)

    def set_rate(self, lr: float) -> None:
        for part in self.parts.values():
            for group in part.param_groups:
                group["lr"] = lr * group["factor"]

    def zero_grad(self) -> None:
        for part in self.parts.values():
            part.zero_grad(set_to_none=True)

    def step(self) -> None:
        for part in self.parts.values():
            part.step()

    def state_dict(self) -> dict[str, Any]:
        return {name: part.state_dict() for name, part in self.parts.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Raises KeyError or ValueError for the state of another method or network."""
        for name, part in self.parts.items():
            part.load_state_dict(state[name])


def _is_kernel(parameter: Tensor) -> bool:
    """Of a convolution with more than one output and input; one row or column has nothing to orthogonalise."""
    return parameter.ndim == 4 and min(parameter.shape[0], parameter[0].numel()) > 1
