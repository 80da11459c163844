"""Deformable convolutions that sample where a plain one does: they are exported as plain ones, without their heads.

A deformable convolution costs several times a plain one on every device, and a network may have learnt to leave it
alone. Which ones can go is measured, not guessed: what the round trip of calibration panoramas loses without them.
Both graphs are made of the same folded network, so that they stay inverses of each other.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence

import numpy as np
import torch
from torch import nn

from dinn360.evaluation.metrics import luma, ws_psnr
from dinn360.networks import RescalingNetwork
from dinn360.networks.layers import DConv
from engines.support.arrays import Image8, to_image, to_tensor
from engines.support.errors import UserError

FOLDED = "folded_deformation"  # the entry of a graph's metadata: the names of what was folded, as JSON
MOST_LOSS = 0.01  # dB of WS-PSNR (luma), all folded convolutions together, mean over the calibration panoramas


def deformable(network: nn.Module) -> dict[str, DConv]:
    """The deformable convolutions of a network by name."""
    return {name: part for name, part in network.named_modules() if isinstance(part, DConv) and part.deform}


def fold(network: nn.Module, names: Collection[str]) -> None:
    """Makes these deformable convolutions plain ones. Raises UserError for a name that is none."""
    found = deformable(network)
    for name in names:
        if name not in found:
            raise UserError(f"{name}: expected a deformable convolution of the network, found none of that name")
        found[name].deform = False


def folded_in(metadata: Mapping[str, str]) -> list[str]:
    """What was folded in a graph, by its metadata. Raises UserError where that entry holds no list of names."""
    text = metadata.get(FOLDED, "[]")
    try:
        names = json.loads(text)
    except ValueError:
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UserError(f"metadata entry {FOLDED}: expected a JSON list of names, found {text!r}")
    return names


def foldable(network: RescalingNetwork, images: Sequence[Image8], most: float = MOST_LOSS) -> list[str]:
    """The names of the deformable convolutions whose plain form loses less than `most` dB, all of them together.

    images: calibration panoramas, uint8 (H,W,3). All are tried at once; if that loses too much, they are taken one
    after the other, the one that loses least first, as long as the sum stays below. `network` stays as it is.
    """
    layers = deformable(network)
    if not layers:
        return []
    before = _quality(network, images)

    def loss(names: Collection[str]) -> float:
        try:
            fold(network, names)
            return before - _quality(network, images)
        finally:
            for name in names:
                layers[name].deform = True

    if loss(list(layers)) < most:
        return list(layers)
    alone = {name: loss([name]) for name in layers}
    chosen: list[str] = []
    for name in sorted(alone, key=alone.__getitem__):
        if alone[name] < most and loss([*chosen, name]) < most:
            chosen.append(name)
    return [name for name in layers if name in chosen]


def _quality(network: RescalingNetwork, images: Sequence[Image8]) -> float:
    """Mean WS-PSNR (luma) in dB of the round trip through an 8-bit LR image."""
    found = []
    with torch.inference_mode():
        for image in images:
            lr = to_image(network.downscale(torch.from_numpy(to_tensor(image))).numpy())
            hr = network.upscale(torch.from_numpy(to_tensor(lr)), size=(image.shape[0], image.shape[1]))
            found.append(ws_psnr(luma(to_image(hr.clamp(0, 1).numpy())), luma(image)))
    return float(np.mean(found))
