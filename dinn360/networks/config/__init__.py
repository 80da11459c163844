"""What a network is made of: one frozen dataclass an architecture, their presets, and the way to a file and back."""

from dinn360.networks.config.base import SCALES, NetworkConfig
from dinn360.networks.config.dinn360 import LevelConfig, ModelConfig
from dinn360.networks.config.hcflow import HCFlowConfig, HCFlowLevel
from dinn360.networks.config.irn import IRNConfig, IRNLevel
from dinn360.networks.config.presets import ARCHITECTURES, PRESETS, config_from_dict, preset

__all__ = [
    "ARCHITECTURES",
    "PRESETS",
    "SCALES",
    "HCFlowConfig",
    "HCFlowLevel",
    "IRNConfig",
    "IRNLevel",
    "LevelConfig",
    "ModelConfig",
    "NetworkConfig",
    "config_from_dict",
    "preset",
]
