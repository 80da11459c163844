"""How to train a network. No value is public: lambdas and alpha after HCFlow and the slides' symbols, the rest ours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from dinn360.codec.layer import Codec, Plan, Subsampling
from dinn360.training.losses import Measure
from dinn360.training.optimiser import Method
from dinn360.training.settings import COUNT, DECAY, NOT_NEGATIVE, POSITIVE, SHARE, Rule, check, setting


def _is_range(text: str) -> bool:
    parts = text.split(":")
    return len(parts) == 2 and all(part.isdecimal() for part in parts) and 1 <= int(parts[0]) <= int(parts[1]) <= 100


QUALITIES = Rule("two whole numbers of 1 to 100, the lower first, as 50:95", _is_range)


@dataclass(frozen=True)
class TrainConfig:
    """Everything that fixes a run besides the network and its data; `help` of each field says what it is.

    Together with the crops this fixes every step, on one process or on several (but for rounding, and a sampled z~).
    """

    steps: int = setting(20_000, "Optimiser steps.", COUNT)
    batch: int = setting(8, "Crops a step, over all processes.", COUNT)
    crop: int = setting(96, "HR pixels a side of a crop, a multiple of the scale.", COUNT)
    optimiser: Method = setting("muon", "muon: Muon for convolution kernels, Adam for the rest; adam: for all.")
    lr: float = setting(5e-4, "Peak rate: Adam's, and the root mean square of Muon's steps.", POSITIVE)
    warmup: int = setting(200, "Steps in which the rate rises linearly.", NOT_NEGATIVE)
    decay: float = setting(0.3, "Last share of steps, in which the rate falls linearly to 0.", SHARE)
    lambda_h: float = setting(1.0, "Weight of the HR loss, of x - x^.", NOT_NEGATIVE)
    hr_loss: Measure = setting("l1", "l1: the slides'; rms: the root mean square of each crop, as PSNR sees it.")
    luma: float = setting(0.5, "Share of the HR loss which is of luma, the rest of R, G and B.", SHARE)
    lambda_l: float = setting(0.05, "Weight of l2(y, y^), a mean.", NOT_NEGATIVE)
    lambda_z: float = setting(1e-5, "Weight of l2(z, z~), a mean.", NOT_NEGATIVE)
    alpha: float = setting(0.1, "Backflow ratio; 0 is off (the ablation).", SHARE)
    backflow: float = setting(0.2, "First share of steps, in which backflow acts.", SHARE)
    latent_interval: int = setting(
        8, "The z loss every n-th step with n-fold weight: it costs a third of a step.", COUNT
    )
    sample_latent: bool = setting(False, "Draw z~ from N(0,1); else z~ = 0, as the deployed decoder has it.")
    deform_from: float = setting(
        0.6, "Share of steps after which offsets are on; before, the same weights run as plain convolutions.", SHARE
    )
    head_rate: float = setting(
        1.0, "Rate of the heads that say where to sample, as a multiple of the others'.", POSITIVE
    )
    codec: Codec = setting("none", "Codec that the LR image goes through; none: it stays as it is, lossless.")
    quality: str = setting("50:95", "Of the codec, from the lowest to the highest, 1 to 100.", QUALITIES)
    subsampling: Subsampling = setting("mixed", "Chroma in the codec; mixed: 4:2:0 in three of four.")
    clean_share: float = setting(
        0.2, "Share of samples that the codec spares, so that a lossless LR file keeps its quality.", SHARE
    )
    lambda_rate: float = setting(0.0, "Weight of the LR file's bits per HR pixel.", NOT_NEGATIVE)
    lambda_chroma: float = setting(
        0.0, "Weight of l2(y, y^) in Cb and Cr above half of Nyquist: what 4:2:0 loses.", NOT_NEGATIVE
    )
    lambda_dots: float = setting(
        0.0, "Weight of l2(y, y^) in luma above half of Nyquist in both directions: checkerboards.", NOT_NEGATIVE
    )
    downscaler: Literal["network", "bicubic"] = setting("network", "bicubic: only the decoder is trained.")
    clip_norm: float = setting(1.0, "Largest norm of the gradient.", POSITIVE)
    average: float = setting(0.999, "Decay of the averaged weights, which are validated and released.", DECAY)
    precision: Literal["fp32", "bf16"] = setting(
        "fp32", "bf16: convolutions and matrix products; couplings and coordinates stay fp32."
    )
    photograph_share: float = setting(0.5, "Share of crops that come from photographs, where there are any.", SHARE)
    shrink: int = setting(
        0, "Also take each image shrunk by the square root of 2, once to so many times: sharper ones.", NOT_NEGATIVE
    )
    validate_every: int = setting(1000, "Steps between validations.", COUNT)
    save_every: int = setting(200, "Steps between states to resume from.", COUNT)
    seed: int = setting(0, "Of the first weights, the crops and z~.", NOT_NEGATIVE)

    def __post_init__(self) -> None:
        check(self)

    def coding_plan(self) -> Plan | None:
        """The files that the network is trained for; None: lossless ones."""
        lowest, highest = map(int, self.quality.split(":"))
        return None if self.codec == "none" else Plan(self.codec, lowest, highest, self.subsampling, self.clean_share)

    def lr_at(self, step: int) -> float:
        """The rate of step `step`, counted from 0."""
        fade = max(1.0, self.decay * self.steps)
        return self.lr * min(1.0, (step + 1) / max(1, self.warmup), max(0.0, (self.steps - step) / fade))
