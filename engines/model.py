"""A model as one object: `model = engines.load("build/x4"); lr = model.downscale(image); hr = model.upscale(lr)`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from engines.kinds import graph_in
from engines.panorama.graph import Direction, direction_of
from engines.panorama.pictures import image_of, save, source_of
from engines.panorama.record import Digest, Record
from engines.panorama.rescale_file import Options, Result, coding_of_result, examine, rescale_file
from engines.panorama.rescaler import Rescaler, Tile
from engines.panorama.sinks import check_format
from engines.panorama.stereo import rescale_eyes
from engines.runtimes.base import Session
from engines.session import open_session
from engines.support.errors import UserError

if TYPE_CHECKING:
    from typing import Self  # Python 3.11

__all__ = ["Model", "load", "save"]

Picture = TypeVar("Picture", Image.Image, NDArray[Any])
_FILES: dict[Direction, str] = {"down": "down.onnx", "up": "up.onnx"}


class Model:
    """Both directions of one network; each is opened when it is first needed. A context manager, or call `close`.

    Pictures are Pillow images or arrays, uint8 or uint16 (H, W, 3 or 4); what comes back is of the same kind, bits and
    channels. Large ones are computed in tiles, which changes nothing but time and memory.
    """

    def __init__(self, name: str, openers: Mapping[Direction, Callable[[], Session]], tile: Tile = "auto") -> None:
        """name: of the folder or file, for messages. openers: of the directions that there are.

        tile: LR rows and columns that are computed at a time, "auto" or "none".
        """
        self.name, self.tile = name, tile
        self._openers = dict(openers)
        self._rescalers: dict[Direction, Rescaler] = {}

    def __repr__(self) -> str:
        return f"<Model {self.name}: {' and '.join(self._openers)}>"

    @property
    def scale(self) -> int:
        """The factor: 2, 4 or 8."""
        return self.rescaler(next(iter(self._openers))).scale

    def rescaler(self, direction: Direction) -> Rescaler:
        """One direction, opened. Raises UserError when there is none, or it cannot be opened here."""
        if direction not in self._openers:
            raise UserError(f"{self.name}: expected {_FILES[direction]} beside it; load the folder that holds both")
        if direction not in self._rescalers:
            session = self._openers[direction]()
            try:
                self._rescalers[direction] = Rescaler(session, direction)
            except UserError:
                session.close()
                raise
        return self._rescalers[direction]

    def downscale(
        self,
        image: Picture,
        file: Path | str | None = None,
        *,
        quality: int | None = None,
        chroma: str | None = None,
        lossy: bool = False,
    ) -> Picture:
        """The low-resolution picture, ceil(H / scale) x ceil(W / scale).

        A Pillow image carries in `info` what `upscale` needs to know of it, and its metadata with sizes adapted;
        `engines.save` writes it with both.

        Args:
            file: what the picture is going to be stored as, by its suffix: a model that was made for a codec hides as
                much as such a file keeps. None: a lossless file. Nothing is written.
            quality, chroma, lossy: of that file, as `engines.panorama.rescale_file.Options` has them.

        Raises:
            UserError: the graph cannot be opened or cannot run at this size; such a file cannot hold the picture, or
                would destroy what it hides.
            TypeError, ValueError: it is no picture, or no 8- or 16-bit one; a quality or chroma of no file.
        """
        if file is None and (quality is not None or chroma is not None or lossy):
            raise TypeError("expected a file with quality, chroma or lossy, as file='lr.jpg'; found none")
        options = Options(tile=self.tile, quality=quality, chroma=chroma, lossy=lossy)
        return self._rescale("down", image, options, None if file is None else Path(file))

    def upscale(self, lr: Picture, size: tuple[int, int] | None = None) -> Picture:
        """The high-resolution picture.

        Args:
            lr: as `downscale` made it; any other picture is upscaled too, without hidden detail.
            size: (height, width) of the original; None: what a Pillow image says of itself, else scale times its own.

        Raises:
            UserError: as `downscale`; the picture was downscaled by another model; `size` does not belong to it.
            TypeError, ValueError: as `downscale`.
        """
        return self._rescale("up", lr, Options(tile=self.tile, size=size))

    def _rescale(self, direction: Direction, picture: Picture, options: Options, file: Path | None = None) -> Picture:
        source = source_of(picture)
        rescaler = self.rescaler(direction)
        if file is not None:
            source.written = coding_of_result(rescaler, file, options)
        task = examine(rescaler, source, replace(options, foreign=source.record is None))
        if file is not None:
            check_format(file, task.size, source.channels, source.bits)
        blocks = rescale_eyes(rescaler, source, task.layout, self.tile, source.bits, task.size)
        samples = np.concatenate(list(blocks))
        if isinstance(picture, np.ndarray):
            return samples
        factor = rescaler.scale if direction == "up" else 1 / rescaler.scale
        own = (source.height, source.width)
        eyes = (task.layout.of_eye(own), task.layout.of_eye(task.size))
        metadata = source.metadata.rescaled([(own, task.size), eyes], factor).with_record(None)
        if direction == "up":
            return image_of(samples, metadata, None)
        digest = Digest()
        digest.update(samples)
        original = (source.width, source.height, source.bits)
        layout = task.layout.to_text()
        written = "" if source.written.lossless else str(source.written)
        record = Record(rescaler.scale, rescaler.model, *original, digest.text(), written, layout)
        return image_of(samples, metadata, record)

    def downscale_file(self, source: Path | str, target: Path | str, **options: Any) -> Result:
        """Downscale a file of any size in little memory; 16 bits, alpha and metadata are kept.

        options: of `engines.panorama.rescale_file.Options`. Raises UserError as `rescale_file` does.
        """
        return self._rescale_file("down", source, target, options)

    def upscale_file(self, source: Path | str, target: Path | str, **options: Any) -> Result:
        """The inverse of `downscale_file`, with the same options."""
        return self._rescale_file("up", source, target, options)

    def _rescale_file(
        self, direction: Direction, source: Path | str, target: Path | str, options: dict[str, Any]
    ) -> Result:
        return rescale_file(
            self.rescaler(direction), Path(source), Path(target), Options(**{"tile": self.tile, **options})
        )

    def close(self) -> None:
        """Free the graphs; the model opens them again when it is used again."""
        while self._rescalers:
            self._rescalers.popitem()[1].session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def load(
    path: Path | str | None = None,
    *,
    down: Path | str | None = None,
    up: Path | str | None = None,
    threads: int | None = None,
    provider: str | None = None,
    plugins: Path | str | None = None,
    tile: Tile = "auto",
) -> Model:
    """A model from exported graphs or engines. Needs neither torch nor onnx.

    Args:
        path: a folder with down.onnx and up.onnx, or with engines named after them (down.engine, up.h100.engine), of
            which one that this machine can run goes first; or one such file, for one direction.
        down, up: the two files, where they are not in one folder.
        threads, provider, plugins: as `engines.session.open_session`.
        tile: LR rows and columns that are computed at a time, "auto" or "none".

    Raises:
        UserError: there is no such file, or a file is none of ours. What is wrong inside a file, or on this machine,
            is raised when a direction is first used.
    """
    if (path is None) == (down is None and up is None):
        raise TypeError("expected either a path, or down and up")

    def opener(file: Path) -> Callable[[], Session]:
        return functools.partial(open_session, file, threads, provider, plugins)

    files: dict[Direction, Path] = {}
    if path is None:
        files.update({"down": Path(down)} if down is not None else {})
        files.update({"up": Path(up)} if up is not None else {})
    elif Path(path).is_dir():
        for direction in _FILES:
            found = graph_in(Path(path), direction)
            files.update({direction: found} if found is not None else {})
        if not files:
            raise UserError(f"{path}: expected a folder with down.onnx and up.onnx, or engines, found none of them")
    else:
        with open_session(path, threads, provider, plugins) as session:
            way = direction_of(session)
        if way is None:
            raise UserError(f"{path}: expected a graph with the input hr or lr, found none of ours")
        files[way] = Path(path)
    for file in files.values():
        if not file.is_file():
            raise UserError(f"{file}: expected a graph or an engine, found no such file")
    name = str(path if path is not None else " + ".join(map(str, files.values())))
    return Model(name, {way: opener(file) for way, file in files.items()}, tile)
