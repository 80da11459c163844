"""From a config to its network."""

from __future__ import annotations

from typing import Any

from dinn360.networks.config import HCFlowConfig, IRNConfig, ModelConfig, NetworkConfig
from dinn360.networks.dinn360 import DINN360
from dinn360.networks.hcflow import HCFlow
from dinn360.networks.irn import IRN
from dinn360.networks.network import RescalingNetwork

_NETWORKS: dict[type[NetworkConfig], Any] = {ModelConfig: DINN360, IRNConfig: IRN, HCFlowConfig: HCFlow}


def build_network(config: NetworkConfig) -> RescalingNetwork:
    """A fresh network of this config; its weights come from PyTorch's random state."""
    return _NETWORKS[type(config)](config)
