"""A camera in the middle of a panorama: which point of the equirectangular picture each pixel of a view shows."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engines.support.errors import UserError

WIDEST = 170.0  # degrees; a rectilinear picture of 180 has no edge
LARGEST = 2**28  # pixels of a view: 16384 x 16384
_ROWS = 128  # of the view that are worked on at a time


@dataclass(frozen=True)
class View:
    """What somebody looks at, as a rectilinear picture. Angles in degrees.

    yaw: to the right of the panorama's middle column. pitch: upwards, -90 to 90. roll: the camera turns clockwise.
    fov: horizontal field of view. width, height: pixels of the picture.
    """

    yaw: float = 0.0
    pitch: float = 0.0
    roll: float = 0.0
    fov: float = 90.0
    width: int = 1920
    height: int = 1080

    def __post_init__(self) -> None:
        """Raises UserError for values that no camera has."""
        if not all(map(math.isfinite, (self.yaw, self.pitch, self.roll, self.fov))):
            raise UserError(f"view: expected finite angles, found {self.yaw}, {self.pitch}, {self.roll}, {self.fov}")
        if not -90 <= self.pitch <= 90:
            raise UserError(f"expected -90 to 90 degrees, found {self.pitch:g}", "pitch")
        if not 0 < self.fov <= WIDEST:
            raise UserError(f"expected more than 0 and at most {WIDEST:g} degrees, found {self.fov:g}", "fov")
        if self.width < 1 or self.height < 1:
            raise UserError(f"expected at least 1x1, found {self.width}x{self.height}", "size")
        if self.width * self.height > LARGEST:
            raise UserError(f"expected at most {LARGEST} pixels, found {self.width}x{self.height}", "size")

    def blocks(self) -> list[slice]:
        """The rows of the picture in blocks that are worked on at a time."""
        return [slice(row, min(row + _ROWS, self.height)) for row in range(0, self.height, _ROWS)]

    def positions(
        self, rows: slice, height: int, width: int, span: float = 360.0
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Where the picture's `rows` lie in a panorama of `height` x `width`: x and y, float64 (rows, view's width).

        The centre of pixel (row 0, column 0) is at (0, 0); x lies in [-0.5, width - 0.5], y in [-0.5, height - 0.5].
        span: degrees across of the panorama; of less than 360, x of what it does not show lies outside of it.
        """
        focal = 0.5 * self.width / math.tan(math.radians(self.fov) / 2)
        across = (np.arange(self.width) + 0.5 - 0.5 * self.width) / focal
        down = (np.arange(rows.start, rows.stop) + 0.5 - 0.5 * self.height)[:, None] / focal
        roll, pitch, yaw = (math.radians(angle) for angle in (self.roll, self.pitch, self.yaw))
        right = across * math.cos(roll) - down * math.sin(roll)
        up = -(across * math.sin(roll) + down * math.cos(roll))
        forward = math.cos(pitch) - up * math.sin(pitch)
        upward = math.sin(pitch) + up * math.cos(pitch)
        longitude = np.arctan2(right, forward) + yaw
        latitude = np.arctan2(upward, np.hypot(right, forward))
        turns = longitude / (2 * math.pi) + 0.5
        across_all = turns - np.floor(turns)
        if span < 360:
            across_all = (across_all - 0.5) * (360 / span) + 0.5
        return across_all * width - 0.5, (0.5 - latitude / math.pi) * height - 0.5


@dataclass(frozen=True)
class Corners:
    """The four pixels around positions, and how much the second of each pair counts.

    rows, columns: int64 (2, 2, …), [upper or lower][left or right]. down, across: float32 (…), in [0, 1].
    """

    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    down: NDArray[np.float32]
    across: NDArray[np.float32]


def corners(x: NDArray[np.float64], y: NDArray[np.float64], height: int, width: int, wraps: bool = True) -> Corners:
    """The pixels for bilinear interpolation at `View.positions`.

    Columns continue around the circle. Beyond a pole lies the same row, half a circle away. Of a panorama that does not
    go around the circle the outer pixels repeat.
    """
    left, upper = np.floor(x), np.floor(y)
    columns = left.astype(np.int64)[None] + np.arange(2).reshape(2, *[1] * x.ndim)
    rows = upper.astype(np.int64)[None] + np.arange(2).reshape(2, *[1] * y.ndim)
    beyond = (rows < 0) | (rows >= height)
    opposite = np.where(beyond, width // 2, 0)[:, None] + columns[None]
    inside = np.clip(rows, 0, height - 1)
    beside = opposite % width if wraps else np.broadcast_to(columns.clip(0, width - 1)[None], opposite.shape)
    return Corners(
        np.broadcast_to(inside[:, None], opposite.shape),
        beside,
        (y - upper).astype(np.float32),
        (x - left).astype(np.float32),
    )


def blend(pixels: NDArray[np.float32], at: Corners) -> NDArray[np.float32]:
    """Bilinear interpolation of the four pixels (2, 2, …, C) of `corners`: (…, C)."""
    across, down = at.across[..., None], at.down[..., None]
    rows = pixels[:, 0] + (pixels[:, 1] - pixels[:, 0]) * across
    return rows[0] + (rows[1] - rows[0]) * down
