"""Estimates as text."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from engines.support.text import aligned
from export.estimate.layers import Layer
from export.estimate.roofline import Estimate

LONGEST = 10  # layers that are listed one by one
NOTE = (
    "An estimate, worked out from the graph: every layer at its share of the rate of arithmetic or of memory, or, of "
    "our plugins, at the rate at which instructions are issued, whichever takes longest; element-wise operators fused, "
    "but not into plugins; fp16 images filled up to 8 channels. Launches are counted, not timed. Nothing ran on this "
    "device."
)


def text(estimates: Sequence[Estimate]) -> str:
    """Kinds of layers and the longest layers, one block an estimate, and both totals beside each other."""
    parts = [_head(estimates[0]), *(_block(one) for one in estimates), _totals(estimates), NOTE]
    return "\n\n".join(parts)


def label(one: Estimate) -> str:
    """Which operators an estimate counts."""
    if one.stock:
        return "stock operators"
    return "plugins" if any(node.domain == "dinn360" for node in one.file.nodes) else "as in the graph"


def _head(one: Estimate) -> str:
    height, width = one.size
    peaks = one.target.peak_tflops
    return (
        f"{one.file.path} ({one.file.precision}, {one.file.metadata.get('ops', '?')} operators) at {width}x{height}\n"
        f"{one.target.name}: {peaks['fp16']:g} fp16 and {peaks['fp32']:g} fp32 TFLOPS, "
        f"{one.target.bandwidth_gb_s:g} GB/s, {one.target.memory_gb:g} GB\n"
        f"counted with {one.shares.bandwidth:.0%} of the bandwidth and {one.shares.products:.0%} of the matrix products"
    )


def _block(one: Estimate) -> str:
    kinds: dict[str, list[int]] = defaultdict(list)
    for index, layer in enumerate(one.layers):
        kinds[layer.kind].append(index)
    rows = []
    for kind, indices in kinds.items():
        layers = [one.layers[index] for index in indices]
        rows.append((sum(one.seconds[index] for index in indices), kind, layers))
    rows.sort(key=lambda row: row[0], reverse=True)
    lines = [["layers", "number", "GMAC", "GB moved", "MAC/byte", "ms", "share"]]
    for seconds, kind, layers in rows:
        if seconds >= one.total / 1000:
            lines.append([kind, str(len(layers)), *_figures(layers, seconds), f"{seconds / one.total:.1%}"])
    longest = sorted(range(len(one.layers)), key=lambda index: one.seconds[index], reverse=True)[:LONGEST]
    detail = [["longest layers", "fused", "GMAC", "GB moved", "MAC/byte", "ms", "bound by"]]
    for index in longest:
        layer, seconds = one.layers[index], one.seconds[index]
        bound = one.bound(index)
        detail.append([f"{layer.kind} {layer.name}", str(layer.fused), *_figures([layer], seconds), bound])
    return f"With {label(one)}\n{aligned(lines)}\n\n{aligned(detail)}"


def _figures(layers: Sequence[Layer], seconds: float) -> list[str]:
    macs, moved = sum(layer.macs for layer in layers), sum(layer.bytes for layer in layers)
    return [f"{macs / 1e9:.1f}", f"{moved / 1e9:.2f}", f"{macs / moved:.1f}", f"{1000 * seconds:.2f}"]


def _totals(estimates: Sequence[Estimate]) -> str:
    lines = [
        [
            "total",
            "layers",
            "launches",
            "GMAC",
            "GB moved",
            "MAC/byte",
            "ms at least",
            "images/s at most",
            "peak activations",
        ]
    ]
    for one in estimates:
        lines.append(
            [
                label(one),
                str(len(one.layers)),
                str(one.launches),
                *_figures(one.layers, one.total),
                f"{1 / one.total:.1f}",
                f"{one.activations / 2**30:.2f} GiB",
            ]
        )
    return aligned(lines)
