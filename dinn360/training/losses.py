"""Algorithm 1 of the slides as one differentiable step."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from dinn360.codec.layer import Channel
from dinn360.networks import RescalingNetwork
from dinn360.networks.colour import LUMA
from dinn360.sphere import Frame

Measure = Literal["l1", "rms"]

UNSEEN = 0.25 / 255  # an error too small to show in 8 bits; keeps the root's gradient finite
TO_CHROMA = ((-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))  # Cb and Cr of R, G and B


@dataclass(frozen=True)
class Losses:
    """Means. hr: of x - x^, a share of it of luma; lr: l2(y, y^); latent: l2(z, z~), None when it was not computed.

    bits: of the LR file per HR pixel, None where no codec was at work.
    """

    total: Tensor
    hr: Tensor
    lr: Tensor
    latent: Tensor | None
    bits: Tensor | None = None


@dataclass(frozen=True)
class Coding:
    """How the LR image reaches the decoder, and what its file and its looks cost.

    channel: y (B,3,h,w), rounded, and the files that it is to go through, to what the decoder gets; seed: of their
    draw. lambda_rate: weight of the bits per HR pixel. lambda_chroma, lambda_dots: weights of `fine_chroma` and `dots`;
    where the encoder knows the file, of samples with halved colours and of those with losses only. bicubic: the LR
    image is the guide y^, so that only the decoder learns.
    """

    channel: Channel | None = None
    seed: tuple[int, ...] = (0,)
    lambda_rate: float = 0.0
    lambda_chroma: float = 0.0
    lambda_dots: float = 0.0
    bicubic: bool = False


CLEAN = Coding()


def quantise(y: Tensor) -> Tensor:
    """Rounds y to the 8-bit grid k/255 of the stored file, clipped to [0,1].

    The gradient passes straight through the rounding but not through the clipping: where it did, nothing but lambda_L
    held y back once it had left [0,1], and a trained network drifted to values of 5 to 10 in bright places.
    """
    clipped = y.clamp(0, 1)
    return clipped + ((clipped.detach() * 255).round() / 255 - clipped.detach())


def reference_lr(x: Tensor, scale: int) -> Tensor:
    """The guide y^: anti-aliased bicubic of x (B,3,H,W) (IRN's and HCFlow's practice)."""
    return F.interpolate(x, scale_factor=1 / scale, mode="bicubic", antialias=True).clamp(0, 1)


def fine_chroma(apart: Tensor) -> Tensor:
    """Mean square of what y - y^ (B,3,h,w) holds in Cb and Cr above half of Nyquist, in either direction.

    There 4:2:0 loses it, and there it shows as coloured dots: the LR image is to stay a picture (our choice).
    """
    return _fine(F.conv2d(apart, apart.new_tensor(TO_CHROMA)[:, :, None, None]), corner=False)


def dots(apart: Tensor) -> Tensor:
    """Mean square of what y - y^ (B,3,h,w) holds in luma above half of Nyquist in both directions.

    There a network hides what a codec would take from colours, as checkerboards along edges; an image of the world has
    hardly anything there (our choice).
    """
    return _fine(F.conv2d(apart, apart.new_tensor(LUMA)[None, :, None, None]), corner=True)


def _fine(planes: Tensor, corner: bool) -> Tensor:
    """Mean square of planes (B,C,h,w) above half of Nyquist: in both directions (corner), or in either of them."""
    _, _, height, width = planes.shape
    waves = torch.fft.rfft2(F.pad(planes, (0, width % 2, 0, height % 2)), norm="ortho")
    rows = torch.fft.fftfreq(waves.shape[2], device=planes.device).abs()[:, None] > 0.25
    columns = torch.fft.rfftfreq(2 * (waves.shape[3] - 1), device=planes.device)[None] > 0.25
    twice = torch.full((waves.shape[3],), 2.0, device=planes.device)
    twice[0] = twice[-1] = 1.0  # all other columns stand for two
    power = waves.abs().square() * (rows & columns if corner else rows | columns) * twice
    return power.sum() / planes.numel()


def difference(error: Tensor, measure: Measure) -> Tensor:
    """How large `error` (B,C,H,W) is: "l1", the slides', or "rms", the root mean square of each crop, averaged.

    rms (our choice) is what PSNR measures. Trained for long by l1, a network goes on making small errors smaller at the
    expense of the large ones: its l1 goes on falling, and so does its PSNR on panoramas that it never saw. Taken crop
    by crop, a busy crop doesn't drown the others, as PSNR is averaged over panoramas.
    """
    if measure == "l1":
        return error.abs().mean()
    return (error.square().mean(dim=(1, 2, 3)) + UNSEEN**2).sqrt().mean()


def algorithm_1(
    network: RescalingNetwork,
    x: Tensor,
    frame: Frame,
    weights: tuple[float, float, float],
    alpha: float,
    latent: bool,
    sample: bool,
    luma: float = 0.0,
    coding: Coding = CLEAN,
    measure: Measure = "l1",
) -> Losses:
    """One step of Algorithm 1 for HR crops x (B,3,H,W).

    weights: lambda_H, lambda_L, lambda_z. alpha: backflow, h <- alpha h~ + (1 - alpha) h before projection; 0 is off.
    luma: share of the HR loss that is taken of luma, the rest of R, G and B (our choice: luma is what the eye resolves
    and what the paper's metrics see, and an LR image holds only so much).
    measure: of the HR loss, see `difference`.
    latent: whether to compute the z loss at all. sample: draw z~ from N(0,1), else z~ = 0.
    c is computed from the rounded y, which is all that a decoder has (our choice, as the ancestors), as it comes out of
    the codec of `coding`.
    """
    needed = not coding.bicubic or latent or sample  # behind bicubic the encoder only says what z is
    files = None if coding.channel is None else coding.channel.draw(len(x), coding.seed)
    if files is not None:
        frame = replace(frame, coarseness=x.new_tensor(files.coarseness()), halved=x.new_tensor(files.halved()))
    split = network.split(x, frame) if needed else None
    guide = reference_lr(x, network.config.scale)
    y = quantise(guide if split is None or coding.bicubic else split.y)
    received = None
    if coding.channel is not None and files is not None:
        received = coding.channel(y, files)
        y = received.y
    prior: list[Tensor | None] | None = None
    if split is not None:
        prior = [torch.randn_like(h) if sample else None for h in split.high]
    restored = network.reconstruct(y, prior, frame)

    error = restored.x - x
    of_luma = (error * x.new_tensor(LUMA)[:, None, None]).sum(1, keepdim=True)
    hr = (1 - luma) * difference(error, measure) + luma * difference(of_luma, measure)
    apart = None if split is None else split.y - guide
    lr = hr.new_zeros(()) if apart is None else apart.square().mean()
    total = weights[0] * hr + weights[1] * lr
    bits = None
    if received is not None and len(received.bits):
        bits = received.bits.mean() / (x.shape[2] * x.shape[3])
        total = total + coding.lambda_rate * bits
    of_halved, of_lossy = ([1.0] * len(x),) * 2
    if network.config.knows_file and files is not None:
        of_halved, of_lossy = files.halved(), files.lossy()
    penalties = ((coding.lambda_chroma, fine_chroma, of_halved), (coding.lambda_dots, dots, of_lossy))
    for weight, penalty, of in penalties:
        if weight and apart is not None:
            with torch.autocast(x.device.type, enabled=False):
                total = total + weight * penalty(apart.float() * x.new_tensor(of)[:, None, None, None])
    latent_loss = None
    if latent and split is not None and prior is not None:
        mixed = [alpha * p + (1 - alpha) * h if alpha else h for p, h in zip(restored.high, split.high, strict=True)]
        latents = network.project(mixed, y, frame, split.kept)
        values = sum(z.numel() for z in latents)
        differences = [z if zt is None else z - zt for z, zt in zip(latents, prior, strict=True)]
        latent_loss = torch.stack([d.float().square().sum() for d in differences]).sum() / values
        total = total + weights[2] * latent_loss
    return Losses(total, hr, lr, latent_loss, bits)
