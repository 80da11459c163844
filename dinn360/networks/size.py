"""How large a network may become: a config from a file must not fill the memory before anybody notices."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from dinn360.networks.errors import ConfigError

LARGEST = 2**28  # parameters: 1 GiB in fp32, thirty times the largest preset
LARGEST_WINDOW = 64  # pixels a side: attention grows with the fourth power
LARGEST_NUMBER = 1024  # of blocks, channels and the like in one level


@contextmanager
def at_most(parameters: int) -> Iterator[None]:
    """Count the parameters of modules that are made in the block, and stop as soon as there are more.

    Raises:
        ConfigError: there are more.
    """
    made = 0

    def count(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        nonlocal made
        made += 0 if parameter is None else parameter.numel()
        if made > parameters:
            raise ConfigError(f"model config: expected a network of at most {parameters:,} parameters, found more")

    handle = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        handle.remove()
