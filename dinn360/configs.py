"""Configs from a user's hand: what a network says of a wrong one becomes the user's mistake."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from dinn360.networks import ARCHITECTURES, ModelConfig, NetworkConfig
from dinn360.networks.errors import ConfigError
from engines.support.errors import UserError
from engines.support.reading import from_table, short


@contextmanager
def configs_are_checked() -> Iterator[None]:
    """In the block, a ConfigError is a UserError with the same message."""
    try:
        yield
    except ConfigError as error:
        raise UserError(error.reason, error.about) from error


def config_from_dict(values: Mapping[str, Any]) -> NetworkConfig:
    """The inverse of `NetworkConfig.to_dict`; without a tag the architecture is DINN360.

    Raises:
        UserError: the architecture or a name is unknown, a name is missing, a value has another type or does not fit.
    """
    architecture = values.get("architecture", ModelConfig.architecture)
    if not isinstance(architecture, str) or architecture not in ARCHITECTURES:
        expected = f"expected one of {tuple(ARCHITECTURES)}"
        raise UserError(f"model config: unknown architecture {short(architecture)}, {expected}")
    fields = {name: value for name, value in values.items() if name != "architecture"}
    with configs_are_checked():
        return from_table("model config", ARCHITECTURES[architecture], fields)
