"""How far beyond its edge a tile looks: a choice between exact and cheap, made by the errors that a graph states."""

from __future__ import annotations

import json

from engines.runtimes.base import Session
from engines.support.errors import UserError

SHARE = 1e-4  # of the 8-bit values that may differ from the untiled result
LARGEST = 1 / 255  # by one level


def choose_halo(session: Session, exact: bool) -> int:
    """The LR pixels that a tile computes beyond what it keeps.

    A graph states the halo beyond which nothing changes (`tile_halo`) and, if it is new enough, what shorter ones cost
    (`tile_halo_errors`, JSON: halo to [share of 8-bit values that differ, largest difference of a range of 1]). The
    shortest that keeps 8-bit values within one level on 0.01 % is taken; with `exact` the full one.

    Raises:
        UserError: the graph states no halo, or its errors are not readable.
    """
    full = _number(session, "tile_halo")
    table = session.metadata.get("tile_halo_errors")
    if exact or table is None:
        return full
    try:
        errors = {int(halo): (float(share), float(largest)) for halo, (share, largest) in json.loads(table).items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise UserError(
            f"{session.path}: tile_halo_errors: expected halos with two numbers each, found {table!r}"
        ) from error
    cheap = [halo for halo, (share, largest) in errors.items() if halo > 0 and share <= SHARE and largest <= LARGEST]
    return min([*cheap, full])


def _number(session: Session, key: str) -> int:
    text = session.metadata.get(key, "")
    if not text.isdecimal() or not int(text):
        raise UserError(f"{session.path}: has no tile data ({key}); export it again or give none", "tile")
    return int(text)
