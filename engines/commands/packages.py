"""Which extra of this package brings a package that is not installed."""

from __future__ import annotations

EXTRAS = {
    "av": ("video",),
    "jinja2": ("export",),
    "matplotlib": ("export", "train"),
    "onnx": ("export",),
    "onnx_ir": ("export",),
    "onnxruntime": ("ort", "export"),
    "ray": ("ray",),
    "safetensors": ("export", "train"),
    "tensorboard": ("tensorboard",),
    "tifffile": ("tiff",),
    "tomli_w": ("train",),
    "torch": ("export", "train"),
}


def advice(error: ModuleNotFoundError) -> str | None:
    """One line that names the package and the extra; None for a module that no extra brings: no user's fault."""
    package = (error.name or "").partition(".")[0]
    if package not in EXTRAS:
        return None
    commands = " or ".join(f"pip install 'dinn360[{extra}]'" for extra in EXTRAS[package])
    return f"this command needs the package {package}, which is not installed: {commands}"
