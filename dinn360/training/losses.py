"""Algorithm 1 of the slides as one differentiable step."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from dinn360.networks import RescalingNetwork
from dinn360.sphere import Frame

LUMA = (0.299, 0.587, 0.114)  # BT.601, without its offset


@dataclass(frozen=True)
class Losses:
    """Means. hr: l1(x, x^), a share of it of luma; lr: l2(y, y^); latent: l2(z, z~), None when it was not computed."""

    total: Tensor
    hr: Tensor
    lr: Tensor
    latent: Tensor | None


def quantise(y: Tensor) -> Tensor:
    """Rounds y to the 8-bit grid k/255 of the stored file, clipped to [0,1].

    The gradient passes straight through the rounding but not through the clipping: where it did, nothing but lambda_L
    held y back once it had left [0,1], and a trained network drifted to values of 5 to 10 in bright places.
    """
    clipped = y.clamp(0, 1)
    return clipped + ((clipped.detach() * 255).round() / 255 - clipped.detach())


def reference_lr(x: Tensor, scale: int) -> Tensor:
    """The guide y^: anti-aliased bicubic of x (B,3,H,W) (IRN's and HCFlow's practice)."""
    return F.interpolate(x, scale_factor=1 / scale, mode="bicubic", antialias=True).clamp(0, 1)


def algorithm_1(
    network: RescalingNetwork,
    x: Tensor,
    frame: Frame,
    weights: tuple[float, float, float],
    alpha: float,
    latent: bool,
    sample: bool,
    luma: float = 0.0,
) -> Losses:
    """One step of Algorithm 1 for HR crops x (B,3,H,W).

    weights: lambda_H, lambda_L, lambda_z. alpha: backflow, h <- alpha h~ + (1 - alpha) h before projection; 0 is off.
    luma: share of the HR loss that is taken of luma, the rest of R, G and B (our choice: luma is what the eye resolves
    and what the paper's metrics see, and an LR image holds only so much).
    latent: whether to compute the z loss at all. sample: draw z~ from N(0,1), else z~ = 0.
    c is computed from the rounded y, which is all that a decoder has (our choice, as the ancestors).
    """
    split = network.split(x, frame)
    y = quantise(split.y)
    prior: list[Tensor | None] = [torch.randn_like(h) if sample else None for h in split.high]
    restored = network.reconstruct(y, prior, frame)

    error = restored.x - x
    hr = (1 - luma) * error.abs().mean() + luma * (error * x.new_tensor(LUMA)[:, None, None]).sum(1).abs().mean()
    lr = (split.y - reference_lr(x, network.config.scale)).square().mean()
    total = weights[0] * hr + weights[1] * lr
    latent_loss = None
    if latent:
        mixed = [alpha * p + (1 - alpha) * h if alpha else h for p, h in zip(restored.high, split.high, strict=True)]
        latents = network.project(mixed, y, frame, split.kept)
        values = sum(z.numel() for z in latents)
        apart = [z if zt is None else z - zt for z, zt in zip(latents, prior, strict=True)]
        latent_loss = torch.stack([d.float().square().sum() for d in apart]).sum() / values
        total = total + weights[2] * latent_loss
    return Losses(total, hr, lr, latent_loss)
