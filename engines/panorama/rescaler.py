"""Rescale a panorama of any size through a graph, tile by tile, rows in and rows out.

Memory is set by the tile and by the rows of one band of tiles, not by the height of the panorama.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from engines.engine_file.label import number_in
from engines.panorama.coding import Survives
from engines.panorama.graph import ENDS, Direction, check_direction, scale_of
from engines.panorama.halo import choose_halo
from engines.panorama.sources import Source
from engines.panorama.tiles import Plan, Span, automatic, plan
from engines.runtimes.base import Session
from engines.support.arrays import Samples, to_samples, to_unit
from engines.support.errors import UserError

Tile = Literal["auto", "none"] | tuple[int, int]
_BESIDE = 8  # columns that interpolation of alpha sees around the circle


class Rescaler:
    """A graph with what its file says of scale and tiles.

    Attributes:
        session: the graph. direction: "down" or "up". scale: the factor. model: the checkpoint's hash, empty if
            unknown. exact: whether tiles see all that changes a result (halo.py). survives: the coding that LR images
            of this model were trained for, None: lossless only.
    """

    def __init__(self, session: Session, direction: Direction, exact: bool = False) -> None:
        """Raises UserError when the graph has the other direction or no scale."""
        check_direction(session, direction)
        self.session, self.direction, self.exact = session, direction, exact
        self.scale = scale_of(session)
        self.model = session.metadata.get("checkpoint_sha256", "")
        self.survives = Survives.of(session.metadata, session.path)

    def lr_size(self, source: Source) -> tuple[int, int]:
        """(height, width) of the LR side for this source."""
        if self.direction == "up":
            return source.height, source.width
        return -(-source.height // self.scale), -(-source.width // self.scale)

    def plan(self, source: Source, tile: Tile, bits: int = 8) -> Plan:
        """The tiles for this source. With "auto" that is one, too, for a graph that does not know how to work in tiles.

        bits: of the result.

        Raises:
            UserError: tiles are asked for, and the graph does not say how far it sees or takes no latitude.
        """
        height, width = self.lr_size(source)
        whole = tile == "none" or (tile == "auto" and not (self._placed and "tile_halo" in self.session.metadata))
        if whole and source.wraps:
            return plan(height, width, None, 0, 1)
        if not source.wraps:
            self._check_halo(source)
        halo, align, memory = self._tile_data(bits)
        around = width if source.wraps else width + 2 * halo
        size = automatic(height, around, memory, halo, align) if tile == "auto" else None if tile == "none" else tile
        tiles = plan(height, width, size, halo, align, source.wraps, self._extension)
        if len(tiles.bands) > 1:
            self._check_placed()
        return tiles

    def tile_data(self, bits: int) -> tuple[int, int, int]:
        """The halo for results of `bits`, the grid on which tiles start, and the bytes that each LR pixel takes.

        Raises:
            UserError: the graph does not say how far it sees or takes no latitude.
        """
        self._check_placed()
        return self._tile_data(bits)

    def region(self, source: Source, band: tuple[Span, ...], columns: Span) -> Samples:
        """One region of an LR panorama decoded: uint8, what `band` and `columns` keep of it, `scale` times as large.

        Raises:
            UserError: as `rescale`.
        """
        omitted = Plan(source.height, (band,), (columns,), self._extension).omitted(band)
        result = self._run(source, self._band_rows(source, band), columns, omitted, 8)
        rows = [result[self._kept(band, index), _times(columns.kept, self.scale)] for index in range(len(band))]
        return np.concatenate(rows)

    @property
    def _placed(self) -> bool:
        """Whether the graph can be told on which latitude a tile lies, or does not ask, as most that downscale."""
        return self.direction == "down" or self._asks_where

    @property
    def _asks_where(self) -> bool:
        return any(spec.name == "omitted" for spec in self.session.optional)

    def _check_placed(self) -> None:
        if not self._placed:
            raise UserError(f"{self.session.path}: this graph cannot be told where a tile lies; give none", "tile")

    def _check_halo(self, source: Source) -> None:
        if "tile_halo" not in self.session.metadata:
            raise UserError(
                f"{source.path}: does not go around the circle, and {self.session.path} does not say how far it sees; "
                "export it again"
            )

    def _tile_data(self, bits: int) -> tuple[int, int, int]:
        align, memory = self._number("tile_align"), self._number("bytes_per_pixel")
        return choose_halo(self.session, self.exact or bits > 8), align, memory * self.scale**2

    @property
    def _extension(self) -> int:
        return number_in(self.session.metadata, "tile_extension") or 1

    def _number(self, key: str) -> int:
        number = number_in(self.session.metadata, key)
        if number is None:
            raise UserError(f"{self.session.path}: has no tile data ({key}); export it again or give none", "tile")
        return number

    def rescale(
        self, source: Source, tiles: Plan, bits: int, size: tuple[int, int], advance: Callable[[], None]
    ) -> Iterator[Samples]:
        """Computes the result: blocks of rows (n, W, C), from top to bottom.

        Args:
            tiles: as `plan` gave it. bits: 8 or 16, of the result. size: (height, width) of the result, at most what
                the graph gives; more is cropped at the bottom and the right.
            advance: called after each tile.

        Raises:
            UserError: the source is damaged, or the graph cannot run or gives NaN.
        """
        factor = self.scale if self.direction == "up" else 1
        last: list[Samples] = []
        for band in tiles.bands:
            inputs = self._band_rows(source, band)
            kept = [
                np.empty((factor * (span.stop - span.start), size[1], source.channels), f"u{bits // 8}")
                for span in band
            ]
            for columns in tiles.columns:
                result = self._run(source, inputs, columns, tiles.omitted(band), bits)
                for index, rows in enumerate(kept):
                    inner = self._kept(band, index)
                    out = slice(factor * columns.start, min(factor * columns.stop, size[1]))
                    rows[:, out] = result[inner, _times(columns.kept, factor)][:, : out.stop - out.start]
                advance()
            for span, rows in zip(band, kept, strict=True):
                block = rows[: size[0] - factor * span.start]
                if span.stop == tiles.height:
                    last.append(block)
                else:
                    yield block
        yield from last

    def _band_rows(self, source: Source, band: tuple[Span, ...]) -> Samples:
        return np.concatenate([self._input_rows(source, span) for span in band])

    def _kept(self, band: tuple[Span, ...], index: int) -> slice:
        """The rows of a band's result that its piece `index` keeps."""
        above = sum(span.length for span in band[:index])
        return _times(band[index].kept, self.scale if self.direction == "up" else 1, above)

    def _input_rows(self, source: Source, span: Span) -> Samples:
        """The source's rows of a span: (n, W, C); below the last row it repeats, as the network pads."""
        unit = self.scale if self.direction == "down" else 1
        first, last = unit * span.first, unit * span.last
        rows = source.rows(first, min(last, source.height))
        missing = last - first - len(rows)
        return np.concatenate([rows, np.repeat(rows[-1:], missing, axis=0)]) if missing else rows

    def _run(self, source: Source, rows: Samples, columns: Span, omitted: NDArray[np.int64], bits: int) -> Samples:
        """One tile through the graph: samples (h, w, C) of everything that it computes."""
        unit = self.scale if self.direction == "down" else 1
        index = np.arange(unit * columns.first, unit * columns.last)
        if source.wraps:
            padded = -(-source.width // unit) * unit
            index = index % padded % source.width
        else:  # beyond its sides the picture's outer columns repeat, as its last row does
            index = index.clip(0, source.width - 1)
        region = rows if columns.first == 0 and len(index) == source.width else rows[:, index]
        return self._computed(source, region, columns.first, omitted, bits)

    def _computed(self, source: Source, region: Samples, first: int, omitted: NDArray[np.int64], bits: int) -> Samples:
        """A region of the source, whose first column is `first`, through the graph: samples (h, w, C)."""
        unit = self.scale if self.direction == "down" else 1
        name, result = ENDS[self.direction]
        arrays: dict[str, NDArray[Any]] = {name: self._tensor(region[..., :3], name)}
        if omitted.any() and (self.direction == "up" or self._asks_where):
            arrays["omitted"] = omitted
        coding = source.coding if self.direction == "up" else source.written
        of_file = {"coarseness": coding.coarseness, "halved": float(coding.halved)}
        asked = (spec.name for spec in self.session.optional if spec.name in of_file)
        arrays |= {name: np.array([of_file[name]], np.float32) for name in asked}
        output = self.session.run(**arrays)[result]
        grown = self.scale if self.direction == "up" else 1
        height, width = (grown * count // unit for count in region.shape[:2])
        shape = (1, height, width, 3) if output.dtype == np.uint8 else (1, 3, height, width)
        if output.shape != shape:
            raise UserError(f"{self.session.path}: expected an output of shape {shape}, found {output.shape}")
        colour = _pixels(output, bits)
        if region.shape[2] == 3:
            return colour
        alpha = to_unit(region[..., 3])
        alpha = _shrink(alpha, self.scale) if self.direction == "down" else _enlarge(alpha, self.scale)
        return np.concatenate([colour, to_samples(alpha[..., None], bits)], axis=2)

    def _tensor(self, colour: Samples, name: str) -> NDArray[Any]:
        """Samples (h, w, 3) as the graph wants them: (1, 3, h, w) in [0, 1], or uint8 (1, h, w, 3)."""
        dtype = next(spec.dtype for spec in self.session.inputs if spec.name == name)
        if dtype == np.uint8:
            return to_samples(to_unit(colour), 8)[None] if colour.dtype != np.uint8 else colour[None]
        return np.ascontiguousarray(to_unit(colour).transpose(2, 0, 1)[None], dtype)


def _times(kept: slice, factor: int, above: int = 0) -> slice:
    return slice(factor * (kept.start + above), factor * (kept.stop + above))


def _pixels(x: NDArray[Any], bits: int) -> Samples:
    """A graph's output, (1, 3, h, w) in [0, 1] or uint8 (1, h, w, 3), as samples (h, w, 3)."""
    if x.dtype == np.uint8:
        return x[0] if bits == 8 else x[0].astype(np.uint16) * 257
    return to_samples(x[0].transpose(1, 2, 0), bits)


def _shrink(alpha: NDArray[np.float32], scale: int) -> NDArray[np.float32]:
    """Means of scale x scale pixels."""
    height, width = alpha.shape
    return alpha.reshape(height // scale, scale, width // scale, scale).mean(axis=(1, 3))


def _enlarge(alpha: NDArray[np.float32], scale: int) -> NDArray[np.float32]:
    """Bicubic interpolation, columns around the circle."""
    beside = min(_BESIDE, alpha.shape[1])
    wide = np.concatenate([alpha[:, -beside:], alpha, alpha[:, :beside]], axis=1)
    size = (wide.shape[1] * scale, wide.shape[0] * scale)
    grown = np.asarray(Image.fromarray(wide).resize(size, Image.Resampling.BICUBIC))
    return grown[:, beside * scale : -beside * scale]
