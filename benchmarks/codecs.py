"""What the benchmarks of codecs share: options, panoramas, and how a report ends.

A benchmark is a parser (`parser_of`, and options of its own) and a function of what was given; `main_of` joins them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks import record
from dinn360.data.crops import read_folder
from dinn360.evaluation.figures import rate_distortion_plot
from dinn360.evaluation.rate_distortion import Curve, in_words
from engines.support.arrays import Image8
from engines.support.errors import UserError


def parser_of(description: str | None, qualities: Sequence[int]) -> argparse.ArgumentParser:
    """With the options that all have. description: a module's docstring, of which the first line is shown."""
    parser = argparse.ArgumentParser(description=(description or "").split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of panoramas")
    parser.add_argument("--images", type=int, help="the first N of them")
    parser.add_argument("--quality", default=",".join(map(str, qualities)), help="1 to 100; of video 100 is CRF 0")
    parser.add_argument("--plot", type=Path, help="draw the curves into this PNG")
    record.add_option(parser)
    return parser


def main_of(parser: argparse.ArgumentParser, run: Callable[[argparse.Namespace], None]) -> None:
    """Runs with the options of the command line; a user's mistake ends the process in one line."""
    options = parser.parse_args()
    try:
        run(options)
    except UserError as error:
        sys.exit(f"error: {error}")


def panoramas(options: argparse.Namespace, scale: int) -> dict[str, Image8]:
    """The first --images panoramas (H,W,3) of --data by name. UserError where none can be used at this scale."""
    return dict(list(read_folder(options.data, 8 * scale, "panoramas").items())[: options.images])


def finish(
    options: argparse.Namespace,
    tables: list[record.Table],
    notes: list[str],
    curves: Sequence[Curve],
    drawn: Sequence[Curve] | None = None,
) -> None:
    """Prints, stores what --save names, and draws what --plot names.

    The notes go on with what the curves say in words. drawn: the curves of the plot, where they are others.
    """
    record.report(tables, [*notes, *in_words(curves)], options.save)
    if options.plot:
        rate_distortion_plot(curves if drawn is None else drawn, options.plot)
