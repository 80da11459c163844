"""The invertible networks: one file an architecture, with its config and its presets. What others import is here."""

from dinn360.networks.base import SCALES, LevelsConfig, NetworkConfig, Reconstruction, RescalingNetwork, Split
from dinn360.networks.dinn360 import DINN360, LevelConfig, ModelConfig
from dinn360.networks.flat import FlatDINN360
from dinn360.networks.flat_config import FlatConfig
from dinn360.networks.hcflow import HCFlow, HCFlowConfig, HCFlowLevel
from dinn360.networks.irn import IRN, IRNConfig, IRNLevel
from dinn360.networks.presets import ARCHITECTURES, PRESETS, build_network, preset

__all__ = [
    "ARCHITECTURES",
    "DINN360",
    "IRN",
    "PRESETS",
    "SCALES",
    "FlatConfig",
    "FlatDINN360",
    "HCFlow",
    "HCFlowConfig",
    "HCFlowLevel",
    "IRNConfig",
    "IRNLevel",
    "LevelConfig",
    "LevelsConfig",
    "ModelConfig",
    "NetworkConfig",
    "Reconstruction",
    "RescalingNetwork",
    "Split",
    "build_network",
    "preset",
]
