"""Pictures that show a reconstruction to people: error as heat, and a close-up of the busiest place."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from dinn360.evaluation.metrics import luma
from engines.support.arrays import Image8

WHITE_AT = 32  # luma levels of error at which the heat is white


def heat(restored: Image8, image: Image8) -> Image8:
    """Absolute luma error of `restored` as colour: black 0, then purple and orange, white from WHITE_AT levels on.

    All images are uint8 (H,W,3).
    """
    x = np.clip(np.abs(luma(restored) - luma(image)) / WHITE_AT, 0, 1)
    stops = np.array([[0, 0, 4], [87, 16, 110], [188, 55, 84], [249, 142, 9], [252, 255, 240]], dtype=float)
    at = np.linspace(0, 1, len(stops))
    channels = [np.interp(x, at, stops[:, c]) for c in range(3)]
    return np.stack(channels, axis=-1).round().astype(np.uint8)


def error_picture(image: Image8, restored: dict[str, Image8]) -> Image8:
    """The heat of each reconstruction, one above the other, with titles."""
    title = "|error| {}: black 0, white >= {} levels"
    parts = [titled(heat(other, image), title.format(name, WHITE_AT)) for name, other in restored.items()]
    return np.concatenate(parts, axis=0)


def closeup(image: Image8, pictures: dict[str, Image8], size: int = 128, zoom: int = 3) -> Image8:
    """The most detailed square of the original, side by side in each picture, enlarged without smoothing."""
    size = min(size, image.shape[0], image.shape[1])
    top, left = busiest(luma(image), size)
    parts = []
    for name, picture in pictures.items():
        square = picture[top : top + size, left : left + size].repeat(zoom, axis=0).repeat(zoom, axis=1)
        parts.append(titled(square, name))
    return np.concatenate(parts, axis=1)


def busiest(y: NDArray[np.float64], size: int) -> tuple[int, int]:
    """Top left corner of the square with the largest mean gradient, weighted by its area on the sphere."""
    steps = np.abs(np.diff(y, axis=0))[:, :-1] + np.abs(np.diff(y, axis=1))[:-1]
    rows = np.cos((np.arange(steps.shape[0]) + 0.5) / steps.shape[0] * np.pi - np.pi / 2)
    total = np.pad(np.cumsum(np.cumsum(steps * rows[:, None], axis=0), axis=1), ((1, 0), (1, 0)))
    span = size - 1
    sums = total[span:, span:] - total[:-span, span:] - total[span:, :-span] + total[:-span, :-span]
    top, left = np.unravel_index(int(sums.argmax()), sums.shape)
    return int(top), int(left)


def titled(picture: Image8, title: str) -> Image8:
    """The picture below a dark line of text."""
    canvas = Image.new("RGB", (picture.shape[1], picture.shape[0] + 16), (24, 24, 24))
    canvas.paste(Image.fromarray(picture), (0, 16))
    ImageDraw.Draw(canvas).text((4, 2), title, fill=(255, 255, 255))
    return np.asarray(canvas)
