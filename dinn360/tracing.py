"""What an exporter is told while it traces a network: which part of it an operator belongs to."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch.fx.traceback import annotate

ROLE = "role"
_ELSEWHERE: AbstractContextManager[None] = nullcontext()


def role(name: str) -> AbstractContextManager[None]:
    """What is traced inside has the role `name` (export.precision.roles lists them); the innermost one counts.

    An export chooses by it what stays in fp32. Outside of torch.export it does nothing.
    """
    return annotate({ROLE: name}) if torch.compiler.is_exporting() else _ELSEWHERE
