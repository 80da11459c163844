"""Views of a panorama that is never decoded as a whole: only the tiles that somebody looks at, kept for the next look.

    with open_session("up.onnx") as session, Viewports.open(Rescaler(session, "up"), Path("lr.png")) as panorama:
        picture = panorama.render(View(yaw=30, pitch=-10, fov=100))
        panorama.look_ahead(View(yaw=35, pitch=-10, fov=100))   # decodes in the background what may come next

Of a stereo pair it is one eye. What a panorama of less than 360 degrees does not show is black.

A view's pixels are those of the same view of the decoded panorama, but for what a halo leaves out (see
`Rescaler.halo`).
"""

from __future__ import annotations

import contextlib
import tempfile
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from types import EllipsisType, TracebackType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from engines.panorama.camera import WIDEST, Corners, View, blend, corners
from engines.panorama.layout import AROUND, Stereo
from engines.panorama.regions import Grid, Tile, regions
from engines.panorama.rescale_file import Options, examine
from engines.panorama.rescaler import Rescaler
from engines.panorama.sources import Source, WholeSource, open_source
from engines.panorama.stereo import eyes_of
from engines.panorama.tile_cache import Pixels, TileCache
from engines.panorama.tiles import MEMORY
from engines.support.errors import UserError

if TYPE_CHECKING:
    from typing import Self  # Python 3.11

SIDE = 32  # LR pixels of a tile: small enough to follow the edge of a view, as regions put neighbours together
CACHE = 256 * 2**20  # bytes of decoded tiles
_AHEAD = 1.35  # times the field of view is decoded ahead


class Viewports:
    """An LR panorama that is decoded where somebody looks. `render` may be called from many threads.

    Attributes:
        height, width: of the decoded panorama. channels: 3, or 4 with alpha.
        decoded: LR pixels that the graph has computed so far, halos included.
    """

    def __init__(
        self,
        rescaler: Rescaler,
        source: Source,
        size: tuple[int, int],
        memory: int = CACHE,
        side: int = SIDE,
        span: float = AROUND,
    ) -> None:
        """
        Args:
            rescaler: an upscaling graph. source: the LR panorama, closed by `close`.
            size: (height, width) of the decoded panorama, at most scale times the source's.
            memory: bytes of decoded tiles that are kept; the tiles of a view being rendered are held besides.
            side: LR rows and columns of a tile.
            span: degrees across of the panorama.

        Raises:
            UserError: the graph does not say how it works in tiles.
        """
        if rescaler.direction != "up":
            raise UserError(f"{rescaler.session.path}: expected an upscaling graph, found a downscaling one")
        halo, align, per_pixel = rescaler.tile_data(8)
        self._rescaler, self._source = rescaler, source
        self.height, self.width = size
        self.channels = source.channels
        self.decoded = 0
        self._span, self._wraps = span, span >= AROUND
        self._grid = Grid.cut(source.height, source.width, side, halo, align, source.wraps)
        self._rows, self._columns = (_Axis.of(edges, rescaler.scale) for edges in (self._grid.rows, self._grid.columns))
        self._most = MEMORY // per_pixel
        self._cache: TileCache[Tile] = TileCache(memory)
        self._wake = threading.Condition()
        self._next: View | None = None
        self._closed = False
        self._thread: threading.Thread | None = None

    @classmethod
    def open(
        cls,
        rescaler: Rescaler,
        path: Path,
        foreign: bool = False,
        memory: int = CACHE,
        side: int = SIDE,
        eye: int = 0,
        stereo: Stereo | None = None,
        span: float | None = None,
    ) -> Viewports:
        """Opens an LR file; the decoded panorama has the size of the original where the file knows it.

        foreign: any picture, without a warning. eye: of a stereo pair, 0 (left) or 1. stereo, span: as `Options`.

        Raises:
            UserError: the file cannot be read or belongs to another model, has one eye where the second is asked for,
                or as `Viewports`.
        """
        with contextlib.closing(open_source(path)) as opened:  # a stream of rows, and a view goes back and forth
            task = examine(rescaler, opened, Options(foreign=foreign, stereo=stereo, span=span))
            other = opened.metadata.other_eye if task.layout.eyes == 1 else None
            if eye and other is not None:
                with tempfile.TemporaryDirectory(prefix="dinn360-") as folder:
                    right = Path(folder) / f"{path.stem}-right"
                    right.write_bytes(other)
                    return cls.open(rescaler, right, foreign, memory, side, 0, "mono", task.layout.span)
            if eye >= task.layout.eyes:
                raise UserError(f"expected a stereo pair, found {task.layout} in {path}", "eye")
            whole = WholeSource(path, opened.rows(0, opened.height), opened.metadata)
        source = eyes_of(whole, task.layout)[eye]
        return cls(rescaler, source, task.layout.of_eye(task.size), memory, side, task.layout.span)

    @property
    def lr_pixels(self) -> int:
        """LR pixels of the panorama; decoding it as a whole computes so many."""
        return self._source.height * self._source.width

    @property
    def cached(self) -> int:
        """Bytes of decoded tiles that are held."""
        return self._cache.bytes

    def tiles(self, view: View) -> set[tuple[int, int]]:
        """The tiles (row, column) that a view shows."""
        needed: set[Tile] = set()
        across = self._grid.across
        for rows in view.blocks():
            at, _ = self._corners(view, rows)
            index = self._rows.tile[at.rows] * across + self._columns.tile[at.columns]
            needed.update((int(tile) // across, int(tile) % across) for tile in np.unique(index))
        return needed

    def area(self, view: View) -> int:
        """LR pixels that the graph computes for a view of which nothing is decoded yet, halos included."""
        return sum(map(self._grid.area, regions(self._grid, self.tiles(view), self._most)))

    def render(self, view: View) -> Pixels:
        """The picture of a view: uint8 (height, width, channels), bilinear.

        Raises:
            UserError: the LR file is damaged, or the graph cannot run.
        """
        tiles = self._cache.get(sorted(self.tiles(view)), self._decode)
        picture = np.zeros((view.height, view.width, self.channels), np.uint8)
        if not tiles:  # it looks where the panorama is not
            return picture
        canvas = _Canvas(tiles, self._rows, self._columns)
        for rows in view.blocks():
            at, seen = self._corners(view, rows)
            picture[rows][seen] = np.rint(blend(canvas.pixels(at), at)).astype(np.uint8)
        return picture

    def _corners(self, view: View, rows: slice) -> tuple[Corners, NDArray[np.bool_] | EllipsisType]:
        """The pixels of some rows of a view, and where in them: everywhere, or where there is panorama."""
        x, y = view.positions(rows, self.height, self.width, self._span)
        if self._wraps:
            return corners(x, y, self.height, self.width), ...
        seen = (x >= -0.5) & (x <= self.width - 0.5)
        return corners(x[seen], y[seen], self.height, self.width, wraps=False), seen

    def look_ahead(self, view: View) -> None:
        """Decodes in the background what lies around a view. A later call takes the place of one that waits."""
        fov = min(view.fov * _AHEAD, WIDEST)
        wide = replace(view, fov=fov, width=max(view.width // 8, 16), height=max(view.height // 8, 16))
        with self._wake:
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="look-ahead", daemon=True)
                self._thread.start()
            self._next = wide
            self._wake.notify()

    def close(self) -> None:
        """Ends the decoding in the background and closes the source; the session stays open."""
        with self._wake:
            self._closed, self._next = True, None
            self._wake.notify()
        if self._thread is not None:
            self._thread.join()
        self._source.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _work(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._closed or self._next is not None)
                if self._closed or self._next is None:
                    return
                view, self._next = self._next, None
            try:
                self._cache.get(sorted(self.tiles(view)), self._decode)
            except UserError:
                pass  # whoever renders the view is told; nobody waits for this result

    def _decode(self, tiles: list[Tile]) -> dict[Tile, Pixels]:
        """The graph's work: some tiles, each (scale * rows, scale * columns, channels)."""
        grid, scale = self._grid, self._rescaler.scale
        made: dict[Tile, Pixels] = {}
        for region in regions(grid, tiles, self._most):
            rows, columns = grid.spans(region)
            kept = self._rescaler.region(self._source, rows, columns)
            self.decoded += grid.area(region)
            top = 0
            for row in range(region.top, region.bottom):
                high = scale * (grid.rows[row + 1] - grid.rows[row])
                left = 0
                for column in range(region.left, region.right):
                    at = column % grid.across
                    wide = scale * (grid.columns[at + 1] - grid.columns[at])
                    made[row, at] = np.ascontiguousarray(kept[top : top + high, left : left + wide])
                    left += wide
                top += high
        return made


@dataclass(frozen=True)
class _Axis:
    """For each row (or column) of the decoded panorama, the tile that it lies in and where in it: int64 (length,)."""

    tile: NDArray[np.int64]
    within: NDArray[np.int64]

    @classmethod
    def of(cls, edges: tuple[int, ...], scale: int) -> _Axis:
        lengths = scale * np.diff(edges)
        tile = np.repeat(np.arange(len(lengths)), lengths)
        return cls(tile, np.arange(len(tile)) - scale * np.asarray(edges)[tile])


class _Canvas:
    """Tiles side by side, so that all pixels of a view are one look-up."""

    def __init__(self, tiles: dict[Tile, Pixels], rows: _Axis, columns: _Axis) -> None:
        self._rows, self._columns = rows, columns
        self._slots = np.zeros((rows.tile[-1] + 1, columns.tile[-1] + 1), np.int64)
        high, wide, channels = (max(pixels.shape[axis] for pixels in tiles.values()) for axis in range(3))
        self._pixels = np.empty((len(tiles), high, wide, channels), np.uint8)
        for slot, (tile, pixels) in enumerate(tiles.items()):
            self._slots[tile] = slot
            self._pixels[slot, : pixels.shape[0], : pixels.shape[1]] = pixels

    def pixels(self, at: Corners) -> NDArray[np.float32]:
        """The pixels (2, 2, …, C) of `corners`."""
        slots = self._slots[self._rows.tile[at.rows], self._columns.tile[at.columns]]
        return self._pixels[slots, self._rows.within[at.rows], self._columns.within[at.columns]].astype(np.float32)
