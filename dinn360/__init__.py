"""DINN360: a deformable invertible network that rescales 360-degree panoramas (CVPR 2023).

    import dinn360
    model = dinn360.load("x4")   # a released checkpoint, or a file
    lr = model.downscale(image)  # a Pillow image or an array, uint8 (H, W, 3)
    hr = model.upscale(lr)

The model, its training and its evaluation. This storey needs torch; what runs on a device lives in `engines`.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from engines import __version__

if sys.version_info < (3, 11):
    raise ImportError(f"dinn360 needs Python 3.11 or newer, found {sys.version_info[0]}.{sys.version_info[1]}")

if TYPE_CHECKING:
    from dinn360.session import load
    from engines.model import Model, save

__all__ = ["Model", "__version__", "load", "save"]


def __getattr__(name: str) -> Any:
    if name == "load":  # not imported above: torch takes seconds, and `--help` does without it
        from dinn360.session import load

        return load
    if name in __all__:
        from engines import model

        return getattr(model, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
