"""Rescale one panorama through an exported graph: 8-bit image in, 8-bit image out.

The downscaling graph maps `hr` (1, 3, H, W) to `lr`, not rounded (the 8-bit image made here rounds it); the
upscaling graph maps `lr` to `hr`, clamped to [0, 1]. Both are float32 in [0, 1] and carry their factor as the
metadata entry `scale`. Graphs with 8-bit edges map uint8 (1, H, W, 3) to uint8 (1, h, w, 3) instead and need no
conversion here; the pixels are the same.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.runtimes.base import Session
from engines.support.arrays import Image8, check_image8, to_image, to_tensor
from engines.support.errors import UserError


def scale_of(session: Session) -> int:
    """Return the rescaling factor (2, 4, 8) that the graph file carries.

    Raises:
        UserError: the entry is missing or not a whole number of at least 2.
    """
    text = session.metadata.get("scale")
    if text is None or not text.isdecimal() or int(text) < 2:
        raise UserError(f"{session.path}: expected the metadata entry scale (2, 4 or 8), found {text!r}")
    return int(text)


def downscale_image(session: Session, image: Image8) -> Image8:
    """Make the low-resolution panorama.

    Args:
        session: a downscaling graph, `hr` -> `lr`.
        image: uint8 (H, W, 3), any H and W of at least 1.

    Returns:
        uint8 (ceil(H / s), ceil(W / s), 3); store it losslessly.

    Raises:
        UserError: the graph is not a downscaling one, or cannot run at this size.
        ValueError: `image` is not a uint8 (H, W, 3).
    """
    check_direction(session, "hr", "lr")
    scale = scale_of(session)
    height, width = image.shape[:2]
    return _run(session, "hr", image, "lr", (-(-height // scale), -(-width // scale)))


def upscale_image(session: Session, lr: Image8, size: tuple[int, int] | None = None) -> Image8:
    """Restore the high-resolution panorama.

    Args:
        session: an upscaling graph, `lr` -> `hr`.
        lr: uint8 (h, w, 3), as `downscale_image` made it.
        size: the original (H, W); the result is cropped to it at the bottom and the right, where the
            downscaling graph had padded. None keeps all s*h x s*w pixels.

    Returns:
        uint8 (H, W, 3), or (s*h, s*w, 3) without `size`.

    Raises:
        UserError: the graph is not an upscaling one, cannot run at this size, or `size` does not belong to
            this image.
        ValueError: `lr` is not a uint8 (h, w, 3).
    """
    check_direction(session, "lr", "hr")
    scale = scale_of(session)
    height, width = lr.shape[:2]
    if size is not None and (-(-size[0] // scale), -(-size[1] // scale)) != (height, width):
        low, high = (
            f"{scale * (width - 1) + 1} x {scale * (height - 1) + 1}",
            f"{scale * width} x {scale * height}",
        )
        raise UserError(f"size: expected {low} to {high} (width x height), found {size[1]} x {size[0]}")
    hr = _run(session, "lr", lr, "hr", (scale * height, scale * width))
    return hr if size is None else np.ascontiguousarray(hr[: size[0], : size[1]])


def has_8_bit_edges(session: Session) -> bool:
    """Whether the graph takes and gives uint8 (B, H, W, 3) pixels instead of floats (B, 3, H, W)."""
    return all(spec.dtype == np.uint8 for spec in (*session.inputs, *session.outputs))


def _run(session: Session, source: str, image: Image8, result: str, size: tuple[int, int]) -> Image8:
    """Run the graph on one image; `size` is what the result must have."""
    if has_8_bit_edges(session):
        check_image8(image)
        pixels = session.run(**{source: np.ascontiguousarray(image[None])})[result]
        _check_output(session, pixels, (1, *size, 3))
        return pixels[0]
    x = session.run(**{source: to_tensor(image)})[result]
    _check_output(session, x, (1, 3, *size))
    return to_image(x)


def check_direction(session: Session, source: str, result: str) -> None:
    """Refuse a graph whose input is not `source` or that does not give `result`.

    Raises:
        UserError: the graph goes the other way, or is none of ours.
    """
    found = ({spec.name for spec in session.inputs}, {spec.name for spec in session.outputs})
    if found[0] == {source} and result in found[1]:
        return
    kind = {"hr": "a downscaling", "lr": "an upscaling"}
    if found[0] == {result} and source in found[1]:
        what = f"{kind[result]} one ({result} -> {source})"
    else:
        what = f"{', '.join(sorted(found[0]))} -> {', '.join(sorted(found[1]))}"
    raise UserError(f"{session.path}: expected {kind[source]} graph ({source} -> {result}), found {what}")


def _check_output(session: Session, x: NDArray[Any], shape: tuple[int, ...]) -> None:
    if x.shape != shape:
        raise UserError(f"{session.path}: expected an output of shape {shape}, found {x.shape}")
