"""What runs on the device: images in, sessions over ONNX graphs and TensorRT engines, images out.

    import engines
    model = engines.load("build/x4")  # a folder with down.onnx and up.onnx
    lr = model.downscale(image)       # a Pillow image or an array, uint8 (H, W, 3)
    hr = model.upscale(lr)

This storey needs numpy, Pillow and one runtime. It never imports torch or onnx, so a Jetson can carry it without them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engines.model import Model, load, save

__version__ = "0.2.0"
__all__ = ["Model", "load", "save"]


def __getattr__(name: str) -> Any:
    if name in __all__:  # not imported above: that would make every module of engines import all the others
        from engines import model

        return getattr(model, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
