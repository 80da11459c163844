"""Small networks for the tests, with weights that leave nothing at zero."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from dinn360.networks import (
    FlatConfig,
    HCFlowConfig,
    HCFlowLevel,
    IRNConfig,
    IRNLevel,
    LevelConfig,
    ModelConfig,
    NetworkConfig,
    RescalingNetwork,
    build_network,
)

_LEVEL = LevelConfig(
    blocks=1,
    width=8,
    heads=2,
    dst="eta",
    projections=1,
    projection_width=8,
    content_blocks=1,
    content_width=8,
    latitude_width=2,
)


def tiny(scale: int = 2, **changes: Any) -> ModelConfig:
    """Every part of the architecture with hardly any weights; `changes` are ModelConfig fields."""
    levels = (replace(_LEVEL, dst="none"),) * (scale.bit_length() - 2) + (replace(_LEVEL, dst="both", blocks=2),)
    values: dict[str, Any] = {
        "levels": levels,
        "window": 4,
        "dconvs": 1,
        "merge_conv": False,
        "offset_kernel": 1,
        "content_block": "residual",
        **changes,
    }
    return ModelConfig(scale=scale, **values)


def tiny_irn(scale: int = 2) -> IRNConfig:
    """IRN with hardly any weights."""
    return IRNConfig(scale=scale, levels=(IRNLevel(blocks=1, growth=4),) * (scale.bit_length() - 1))


def tiny_hcflow(scale: int = 2) -> HCFlowConfig:
    """HCFlow with hardly any weights."""
    level = HCFlowLevel(
        steps=2, growth=4, feature_blocks=1, feature_width=6, feature_growth=2, projections=1, projection_width=6
    )
    return HCFlowConfig(scale=scale, levels=(level,) * (scale.bit_length() - 1))


def tiny_flat(scale: int = 2, **changes: Any) -> FlatConfig:
    """Every part of flat DINN360 with hardly any weights; `changes` are fields of its config."""
    values: dict[str, Any] = {
        "blocks": 2,
        "width": 8,
        "heads": 2,
        "deformable": 1,
        "content_blocks": 1,
        "content_width": 8,
        "latitude_width": 8,
        "window": 4,
        "margin": 0,
        **changes,
    }
    return FlatConfig(scale=scale, **values)


def randomise(network: RescalingNetwork, seed: int, std: float = 0.05) -> RescalingNetwork:
    """Fills every parameter that starts at zero with seeded normals, so that no layer is an identity.

    Offset heads, scale heads, couplings, biases and Gaussians all become active. Returns the network in eval
    mode.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if not parameter.any():
                dconv = "dst" not in name and "offset_head" in name
                pixels = 10 if dconv else 1  # half a pixel, not a twentieth
                parameter.copy_(pixels * std * torch.randn(parameter.shape, generator=generator))
    return network.eval()


def build(config: NetworkConfig, seed: int = 0, std: float = 0.05) -> RescalingNetwork:
    """A network with seeded, nowhere trivial weights."""
    torch.manual_seed(seed)
    return randomise(build_network(config), seed, std)


def picture(height: int, width: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """A smooth random image with some noise, (1,3,H,W) in [0,1], cyclic in its columns."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.arange(height, dtype=torch.float64)[:, None] / height
    columns = torch.arange(width, dtype=torch.float64) / width
    x = torch.zeros(1, 3, height, width, dtype=torch.float64)
    for channel in range(3):
        for _ in range(4):
            a, b, phase = torch.rand(3, generator=generator, dtype=torch.float64)
            wave = 6.2832 * (4 * a * rows + torch.round(1 + 3 * b) * columns + phase)
            x[0, channel] += 0.1 * torch.sin(wave)
    noise = torch.rand(x.shape, generator=generator, dtype=torch.float64) - 0.5
    return (0.5 + x + 0.2 * noise).clamp(0, 1).to(dtype)
