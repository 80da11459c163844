"""Decoded tiles, the latest used kept, within a limit of memory. Safe for many threads."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

Key = TypeVar("Key", bound=Hashable)
Pixels = NDArray[np.uint8]


class TileCache(Generic[Key]):
    """Arrays by their key, at most `limit` bytes of them; the least recently used go first.

    What is missing is made by the caller's function, one caller at a time: a tile that another thread is making is
    waited for and not made twice.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._held: OrderedDict[Key, Pixels] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()  # of what is held
        self._making = threading.Lock()  # a graph runs on all cores: two at once are no faster

    @property
    def bytes(self) -> int:
        """Bytes that are held."""
        with self._lock:
            return self._bytes

    def get(self, keys: Iterable[Key], make: Callable[[list[Key]], dict[Key, Pixels]]) -> dict[Key, Pixels]:
        """The arrays of `keys`. The missing ones come from `make`, which may give more than it is asked for."""
        wanted = list(dict.fromkeys(keys))
        found = self._find(wanted)
        if len(found) == len(wanted):
            return found
        with self._making:
            found |= self._find([key for key in wanted if key not in found])
            missing = [key for key in wanted if key not in found]
            if missing:
                made = make(missing)
                found |= {key: made[key] for key in missing}
                self._keep(made, missing)
        return found

    def _find(self, keys: list[Key]) -> dict[Key, Pixels]:
        with self._lock:
            found = {key: self._held[key] for key in keys if key in self._held}
            for key in found:
                self._held.move_to_end(key)
        return found

    def _keep(self, made: dict[Key, Pixels], wanted: list[Key]) -> None:
        """Holds what was made, what nobody asked for as the oldest of it."""
        asked = set(wanted)
        with self._lock:
            for key in sorted(made, key=lambda key: key in asked):
                if key not in self._held:
                    self._held[key] = made[key]
                    self._bytes += made[key].nbytes
            while self._bytes > self.limit and self._held:
                _, pixels = self._held.popitem(last=False)
                self._bytes -= pixels.nbytes
