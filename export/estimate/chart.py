"""The roofline as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from engines.support.errors import UserError
from engines.support.files import atomic_path
from export.estimate.roofline import Estimate
from export.estimate.table import label

SHOWN = 6  # kinds of layers with a colour of their own


def draw(estimates: Sequence[Estimate], path: Path) -> None:
    """Layers as points under the device's roof, and the time by kind of layer as bars. Writes a PNG.

    Raises UserError when matplotlib is missing or the file cannot be written.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UserError(f"{path}: needs the package matplotlib, which is not installed", about="plot") from error
    first = estimates[0]
    figure = Figure(figsize=(11, 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    roof, bars = figure.subplots(1, 2, width_ratios=(1.25, 1))
    kinds = _longest_kinds(estimates)
    colours = {kind: f"C{index}" for index, kind in enumerate(kinds)}

    layers = [layer for layer in first.layers if layer.macs]
    intensity = np.array([layer.intensity for layer in layers])
    seconds = np.array([time for layer, time in zip(first.layers, first.seconds, strict=True) if layer.macs])
    reached = np.array([2 * layer.macs for layer in layers]) / seconds / 1e12
    line = np.geomspace(min(0.1, intensity.min() / 2), max(1000, intensity.max() * 2), 200)
    for precision, style in (("fp16", "-"), ("fp32", "--")):
        peak = first.target.peak_tflops[precision]
        rates = peak * first.shares.products, first.target.bandwidth_gb_s / 1000 * first.shares.bandwidth
        limit = np.minimum(rates[0], 2 * line * rates[1])
        roof.loglog(line, limit, style, color="0.35", lw=1.2, label=f"{precision}: {peak:g} TFLOPS")
    for kind in dict.fromkeys(layer.kind for layer in layers):
        chosen = [index for index, layer in enumerate(layers) if layer.kind == kind]
        size = 8 + 250 * seconds[chosen] / seconds.max()
        roof.scatter(intensity[chosen], reached[chosen], size, color=colours.get(kind, "0.6"), alpha=0.6, label=kind)
    roof.set(xlabel="multiply-accumulates a byte", ylabel="TFLOPS", title="Layers under the roof (area: time)")
    roof.legend(fontsize=8, markerscale=0.6)
    roof.grid(alpha=0.25)

    for position, one in enumerate(estimates):
        left = 0.0
        for kind in [*kinds, "others"]:
            times = zip(one.layers, one.seconds, strict=True)
            share = 1000 * sum(t for layer, t in times if (layer.kind if layer.kind in kinds else "others") == kind)
            name = kind if position == 0 else None
            bars.barh(position, share, left=left, color=colours.get(kind, "0.75"), label=name)
            left += share
        bars.text(left, position, f" {left:.1f} ms", va="center", fontsize=9)
    bars.set(yticks=range(len(estimates)), yticklabels=[label(one) for one in estimates], xlabel="ms, at least")
    bars.set_xlim(right=1200 * max(one.total for one in estimates))
    bars.set_ylim(-0.6, len(estimates) - 0.4 + 0.8)
    bars.legend(fontsize=8, ncols=2, loc="upper right")
    height, width = first.size
    figure.suptitle(f"Estimate, nothing measured: {first.file.path.name} at {width}x{height} on {first.target.name}")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png")


def _longest_kinds(estimates: Sequence[Estimate]) -> list[str]:
    """The kinds of layers that take most of the time, over all estimates."""
    times: dict[str, float] = {}
    for one in estimates:
        for layer, seconds in zip(one.layers, one.seconds, strict=True):
            times[layer.kind] = times.get(layer.kind, 0.0) + seconds
    return sorted(times, key=lambda kind: times[kind], reverse=True)[:SHOWN]
