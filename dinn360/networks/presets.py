"""Networks and configs by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dinn360.networks import dinn360, flat, flat_config, hcflow, irn
from dinn360.networks.base import SCALES, NetworkConfig, RescalingNetwork
from dinn360.networks.errors import ConfigError
from dinn360.networks.size import LARGEST, at_most
from dinn360.networks.untied import Untied

_PRESETS: dict[str, Callable[[int], NetworkConfig]] = {
    "base": dinn360.base,
    "edge": dinn360.edge,
    "flat-edge": flat_config.edge,
    "irn-base": irn.base,
    "irn-edge": irn.edge,
    "hcflow-base": hcflow.base,
    "hcflow-edge": hcflow.edge,
}
PRESETS = tuple(_PRESETS)
_NETWORKS: dict[type[NetworkConfig], Any] = {
    dinn360.ModelConfig: dinn360.DINN360,
    flat_config.FlatConfig: flat.FlatDINN360,
    irn.IRNConfig: irn.IRN,
    hcflow.HCFlowConfig: hcflow.HCFlow,
}
ARCHITECTURES: dict[str, type[NetworkConfig]] = {config.architecture: config for config in _NETWORKS}


def preset(name: str, scale: int) -> NetworkConfig:
    """The named preset at `scale` (2, 4 or 8). Raises ConfigError for an unknown name or scale."""
    if scale not in SCALES:
        raise ConfigError(f"expected one of {SCALES}, found {scale}", "scale")
    if name not in PRESETS:
        raise ConfigError(f"expected one of {PRESETS}, found {name!r}", "name")
    return _PRESETS[name](scale)


def build_network(config: NetworkConfig, most: int = LARGEST) -> RescalingNetwork:
    """A fresh network of this config; its weights come from PyTorch's random state.

    Raises:
        ConfigError: it would have more than `most` parameters; told before the memory for them is taken.
    """
    build = _NETWORKS[type(config)]
    with at_most(2 * most if config.untie else most):  # parts that only decode are made twice and kept once
        return Untied(config, build(config.of_encoder()), build(config.of_decoder())) if config.untie else build(config)
