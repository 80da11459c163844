"""The slides' ablations: the full network and five of its kind with one part off, each trained under one budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from dinn360.checkpoint import load_checkpoint
from dinn360.data.crops import Crops
from dinn360.evaluation.evaluate import Result
from dinn360.evaluation.published import ABLATION
from dinn360.evaluation.validate import Validation
from dinn360.info import describe
from dinn360.networks import FlatConfig, ModelConfig, NetworkConfig
from dinn360.ops.cpu import choose_kernels
from dinn360.training.config import TrainConfig
from dinn360.training.logger import read_csv
from dinn360.training.processes import Processes
from dinn360.training.run_file import RunConfig
from dinn360.training.state import has_state, sole_writer
from dinn360.training.train import Trainer
from engines.support.errors import UserError
from engines.support.files import atomic_path, folder_for

matplotlib.use("Agg")  # no display is needed

FULL = "full"


@dataclass(frozen=True)
class Variant:
    """One run. name: its row, as in `published.ABLATION` where the slides have it. Several may share a name."""

    name: str
    model: NetworkConfig
    training: TrainConfig

    @property
    def folder(self) -> str:
        """Of the run, below the study's folder: "full-1", "without-dst-0"; the number is the seed."""
        words = self.name.lower().replace("w/o", "without").split()
        return "-".join([*words, str(self.training.seed)])


def variants(model: ModelConfig | FlatConfig, training: TrainConfig, seeds: int) -> list[Variant]:
    """The full network with `seeds` seeds, counted from that of `training`, and the five ablations with the first.

    A part that the network does not have is not taken away.
    """
    without = {"w/o DST": "dst", "w/o deform": "deform", "w/o latitude head": "latitude_head"}
    without["w/o content head"] = "content_head"
    ablated = [
        Variant(name, replace(model, **{field: False}), training)  # type: ignore[arg-type]
        for name, field in without.items()
        if getattr(model, field)
    ]
    return [
        *with_seeds(FULL, model, training, seeds),
        *ablated,
        Variant("w/o feedback", model, replace(training, alpha=0.0)),
    ]


def with_seeds(name: str, model: NetworkConfig, training: TrainConfig, seeds: int) -> list[Variant]:
    """One network with `seeds` seeds, counted from that of `training`."""
    return [Variant(name, model, replace(training, seed=training.seed + i)) for i in range(seeds)]


# What flat DINN360 may have beside: rows of `ablate --also`.
ADDITIONS: dict[str, dict[str, bool]] = {
    "spherical offsets": {"sphere_offsets": True},
    "latitude offsets": {"latitude_offsets": True},
    "spherical and latitude offsets": {"sphere_offsets": True, "latitude_offsets": True},
    "with DST": {"dst": True},
    "with spherical DST": {"dst": True, "sphere_windows": True},
}


def addition(name: str, model: NetworkConfig) -> NetworkConfig:
    """The network with an entry of ADDITIONS. Raises UserError for one that is not flat DINN360."""
    if not isinstance(model, FlatConfig):
        raise UserError(f"expected a preset of flat DINN360, as flat-edge, for {name!r}, found {model.preset}", "also")
    return replace(model, **ADDITIONS[name])  # type: ignore[arg-type]


def train_variant(
    variant: Variant, crops: Crops, validation: Validation | None, out: Path, run: RunConfig, processes: Processes
) -> Path | None:
    """Trains a variant in a folder of its own below `out`, or goes on where it was stopped; returns its checkpoint,
    or None when Ctrl-C or SIGTERM stopped the run.

    The checkpoint holds the averaged weights of the last step, not those of the best validation: a budget is a budget.

    Raises:
        UserError: the folder holds a run with other settings, or another process trains there.
    """
    folder = out / variant.folder
    path = folder / "last.pth"
    model, training = variant.model, variant.training
    trainer = Trainer(model, training, crops.with_seed(training.seed), validation, folder, processes, run.tensorboard)
    choose_kernels(run.kernels)
    with folder_for(folder), sole_writer(folder):
        if has_state(folder):
            if path.exists() and load_checkpoint(path).provenance["training"] != asdict(training):
                raise UserError(f"{folder}: expected a run with these settings, found one with others", "out")
            trainer.resume()
        return None if trainer.run() else path


@dataclass(frozen=True)
class Outcome:
    """What became of one run."""

    variant: Variant
    result: Result

    def psnr(self) -> NDArray[np.float64]:
        """WS-PSNR Y (dB) of each panorama."""
        values = self.result.column("psnr_y")
        assert values is not None
        return values


def markdown(outcomes: Sequence[Outcome]) -> str:
    """The slides' ablation table: each row's mean over panoramas beside the published one.

    Differences are to the mean of all full runs, with the standard error of the paired difference over panoramas.
    """
    full = [outcome for outcome in outcomes if outcome.variant.name == FULL]
    reference = np.mean([outcome.psnr() for outcome in full], axis=0) if full else None
    lines = [
        [
            "variant",
            "seed",
            "WS-PSNR Y",
            "WS-SSIM Y",
            "to full",
            "published",
            "published to full",
            "parameters",
            "MAC",
            "bytes",
        ],
        ["---"] * 10,
    ]
    for outcome in outcomes:
        variant, psnr = outcome.variant, outcome.psnr()
        ssim = outcome.result.column("ssim_y")
        assert ssim is not None
        info = describe(variant.model)
        printed = ABLATION.get(variant.name)
        lines.append(
            [
                variant.name,
                str(variant.training.seed),
                f"{psnr.mean():.3f} ± {psnr.std():.2f}",
                f"{100 * ssim.mean():.2f} ± {100 * ssim.std():.2f}",
                "–" if reference is None else _apart(psnr - reference),
                f"{printed.psnr:.2f} / {printed.ssim:.2f}" if printed else "–",
                f"{printed.psnr - ABLATION[FULL].psnr:+.2f}" if printed else "–",
                f"{info.total:,}",
                f"{info.macs['downscale'] / 1e3:.1f} + {info.macs['upscale'] / 1e3:.1f} k",
                f"{info.traffic['downscale']:.0f} + {info.traffic['upscale']:.0f}",
            ]
        )
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n\n" + _noise(full)


def _apart(differences: NDArray[np.float64]) -> str:
    """Mean ± standard error of the paired differences, one a panorama."""
    count = len(differences)
    error = differences.std(ddof=1) / count**0.5 if count > 1 else float("nan")
    return f"{differences.mean():+.3f} ± {error:.3f}"


def _noise(full: Sequence[Outcome]) -> str:
    means = [float(outcome.psnr().mean()) for outcome in full]
    text = (
        "Means ± deviation over panoramas; differences ± standard error of the paired difference. MAC and bytes moved "
        "(fp16, element-wise work fused): per HR pixel, down + up. Published: WS-PSNR / WS-SSIM of the slides, other "
        "data and budget."
    )
    if not means:
        return text
    if len(means) == 1:
        return f"{text} One seed of the full network only: the noise between runs is unknown."
    return (
        f"{text} The full network's {len(means)} seeds lie {max(means) - min(means):.3f} dB apart "
        f"(deviation {np.std(means, ddof=1):.3f} dB): a difference of that size is noise."
    )


def draw_curves(variants: Sequence[Variant], folder: Path, path: Path) -> None:
    """Validation of every run so far by step: the gain over bicubic on Y."""
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for variant in variants:
        rows = read_csv(folder / variant.folder / "val.csv")
        axes.plot(
            [float(row["step"]) for row in rows],
            [float(row["gain_y"]) for row in rows],
            marker="o",
            markersize=3,
            linestyle="--" if variant.name == FULL else "-",
            label=f"{variant.name}, seed {variant.training.seed}",
        )
    axes.set(xlabel="step", ylabel="WS-PSNR Y over bicubic (dB)")
    axes.legend(fontsize=7)
    axes.grid(alpha=0.3)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png")
