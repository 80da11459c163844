"""How many instructions our kernels issue: their machine code, counted along its loops.

A multiprocessor issues four instructions of a warp a clock. Sampling costs a kernel far more instructions than its
tensor cores have work, so this bounds our plugins before arithmetic does. plugins/cuda/instructions.json has the
lengths of the loops by architecture (`make -C plugins report`); here is how often they run. Other loops count once.
"""

from __future__ import annotations

import functools
import json
import math
from pathlib import Path

from engines.onnx_file import OnnxNode
from engines.targets import Target
from export.estimate.shapes import Shape

TABLE = Path(__file__).resolve().parents[2] / "plugins" / "cuda" / "instructions.json"
WARP = 32
KEYS, UNITS, QUERIES, WARPS = 64, 4, 64, 4  # of a block of the attention: plugins/cuda/dst_plan.cuh


@functools.cache
def _lengths(kernel: str, capability: str) -> tuple[int, int, int, int] | None:
    """Of the kernel, its outermost and its innermost loop, and of what the latter may skip; None: not known here."""
    if not TABLE.is_file():
        return None
    found = json.loads(TABLE.read_text(encoding="utf-8")).get(kernel, {}).get(capability.replace(".", ""))
    return tuple(found) if found else None


def seconds(node: OnnxNode, shapes: dict[str, Shape], half: bool, target: Target) -> float:
    """The least time in which a device issues the instructions of a plugin node; 0 where the kernel is not known."""
    if not half or node.domain != "dinn360":
        return 0.0
    capability = target.compute_capabilities[0]
    count = {"DeformConv2d": _deform_conv, "DSTAttention": _dst_attention}[node.op_type]
    return count(node, shapes, capability) / _rate(target)


def _rate(target: Target) -> float:
    """Instructions of a warp a second. 128 fp32 lanes a multiprocessor, 64 with compute capability 8.0."""
    lanes = 64 if target.compute_capabilities[0] == "8.0" else 128
    return 4 * target.peak_tflops["fp32"] * 1e12 / 2 / lanes


def _number(node: OnnxNode, attribute: str) -> int:
    value = node.attributes[attribute]
    assert isinstance(value, int)
    return value


def _deform_conv(node: OnnxNode, shapes: dict[str, Shape], capability: str) -> float:
    """A warp takes 32 pixels of a row: four spots (channels of one field at one tap) a turn of the outer loop, 32
    products of the inner dimension a turn of the inner one."""
    batch, outputs, height, width = shapes[node.outputs[0]]
    group, fields = _number(node, "group"), _number(node, "offset_group")
    channels, taps = shapes[node.inputs[0]][1], math.prod(shapes[node.inputs[2]][2:])
    segment = math.gcd(channels // group, channels // fields)
    spots = channels // group // segment * taps
    steps = -(-spots * -(-segment // 8) // 4)
    tiles = next((tiles for tiles in (2, 4) if outputs // group <= 8 * tiles), 8)
    lengths = _lengths(f"deform_conv_half<{tiles}, true>", capability)
    if lengths is None:
        return 0.0
    total, outer, inner, _ = lengths
    warps = batch * group * height * -(-width // WARP) * -(-(outputs // group) // (8 * tiles))
    return warps * (total - outer + -(-spots // 4) * (outer - inner) + steps * inner)


def _dst_attention(node: OnnxNode, shapes: dict[str, Shape], capability: str) -> float:
    """A block of four warps takes 64 queries of up to four units (one head in one window); what is loaded for all of
    them once stands in the loop over them, behind a branch."""
    batch, channels, height, width = shapes[node.outputs[0]]
    heads, window = _number(node, "heads"), _number(node, "window")
    depth = next((depth for depth in (8, 16, 32) if channels // heads <= depth), 64)
    lengths = _lengths(f"dst_attention<__half, {depth}, true>", capability)
    if lengths is None:
        return 0.0
    total, _, inner, once = lengths
    tokens = window * window
    units = batch * -(-height // window) * -(-width // window) * heads * -(-tokens // QUERIES)
    blocks = -(-units // UNITS) if tokens <= KEYS else units
    return WARPS * (blocks * (total - inner + once) + units * -(-tokens // KEYS) * (inner - once))
