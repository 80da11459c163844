"""Training: Algorithm 1 with staged deformation, averaged weights, and checkpoints that resume exactly."""

from __future__ import annotations

import copy
import csv
import os
import signal
import subprocess
import threading
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any, Literal

import torch
from torch import Tensor, nn
from tqdm import tqdm

from dinn360.checkpoint import Checkpoint, load_tensors, save_checkpoint
from dinn360.data.crops import Crops
from dinn360.evaluation.validate import Validation, as_dict
from dinn360.networks.architectures import build_network
from dinn360.networks.config import NetworkConfig
from dinn360.training.losses import algorithm_1
from engines.errors import UserError
from engines.files import atomic_path

STATE_FORMAT = "dinn360-training"


@dataclass(frozen=True)
class TrainConfig:
    """How to train. No value is public: lambdas and alpha after HCFlow and the slides' symbols, the rest our choice.

    lambda_h, lambda_l, lambda_z: loss weights (means). alpha: backflow ratio in the first `backflow` share of steps.
    latent_interval: the z loss is computed every n-th step with n-fold weight (it costs a third of a step).
    sample_latent: draw z~ ~ N(0,1) in training; False trains the z = 0 decoder that is deployed.
    lr: Adam's peak; linear warmup over `warmup` steps, constant, then linear to zero over the last `decay` share.
    deform_from: share of steps after which offsets are on (before, the same weights run as plain convolutions).
    average: decay of the exponential average of the weights, which is what is validated and released.
    precision: bf16 runs convolutions and matrix products in bf16, couplings and coordinates in fp32.
    """

    steps: int = 20_000
    batch: int = 8
    crop: int = 96
    lr: float = 1e-3
    warmup: int = 200
    decay: float = 0.3
    lambda_h: float = 1.0
    lambda_l: float = 0.05
    lambda_z: float = 1e-5
    alpha: float = 0.1
    backflow: float = 0.2
    latent_interval: int = 8
    sample_latent: bool = False
    deform_from: float = 0.6
    clip_norm: float = 1.0
    average: float = 0.999
    precision: Literal["fp32", "bf16"] = "fp32"
    photograph_share: float = 0.5
    validate_every: int = 1000
    save_every: int = 200
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "crop", "latent_interval", "validate_every", "save_every"):
            if getattr(self, name) < 1:
                raise UserError(f"--{name.replace('_', '-')}: expected at least 1, found {getattr(self, name)}")
        for name in ("decay", "backflow", "deform_from", "photograph_share", "alpha"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"--{name.replace('_', '-')}: expected a share of 0 to 1, found {getattr(self, name)}")

    def lr_at(self, step: int) -> float:
        fade = max(1.0, self.decay * self.steps)
        return self.lr * min(1.0, (step + 1) / max(1, self.warmup), max(0.0, (self.steps - step) / fade))


class Trainer:
    """A run in a folder: state.pth (resume), best.pth and last.pth (checkpoints), train.csv and val.csv (logs)."""

    def __init__(
        self, model: NetworkConfig, config: TrainConfig, crops: Crops, validation: Validation | None, out: Path
    ) -> None:
        torch.manual_seed(config.seed)
        self.model, self.config, self.crops, self.validation, self.out = model, config, crops, validation, out
        self.network = build_network(model).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = {name: tensor.detach().clone() for name, tensor in self.network.state_dict().items()}
        self.optimiser = torch.optim.Adam(self.network.parameters(), lr=config.lr, betas=(0.9, 0.99), foreach=True)
        self.step = self.skipped = 0
        self.best = float("-inf")

    def start_from(self, checkpoint: Checkpoint) -> None:
        """Takes the weights of a checkpoint of the same architecture; step, optimiser and average begin anew."""
        if replace(checkpoint.config, preset=self.model.preset) != self.model:
            raise UserError("--init: the checkpoint is of another architecture; choose its --preset and --scale")
        self.network.load_state_dict(checkpoint.build().state_dict())
        self.average = {name: tensor.detach().clone() for name, tensor in self.network.state_dict().items()}

    def resume(self) -> None:
        """Continues from state.pth, or from the state before it when that one is damaged. UserError when neither is."""
        state: Any = None
        failures = []
        for name in ("state.pth", "state.previous.pth"):
            try:
                state = load_tensors(self.out / name)
                if not isinstance(state, dict) or state.get("format") != STATE_FORMAT:
                    raise UserError(f"{self.out / name}: expected a {STATE_FORMAT} file")
                break
            except UserError as error:
                state = None
                failures.append(str(error))
        if state is None:
            raise UserError(f"--resume: {failures[0]}")
        if state["model"] != self.model.to_dict():
            raise UserError(f"--resume: {self.out}: the run was started with another model config")
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.average = state["average"]
        self.step, self.skipped, self.best = state["step"], state["skipped"], state["best"]
        torch.set_rng_state(state["rng"])

    def save_state(self) -> None:
        path = self.out / "state.pth"
        if path.exists():
            os.replace(path, self.out / "state.previous.pth")
        state = {
            "format": STATE_FORMAT,
            "model": self.model.to_dict(),
            "config": asdict(self.config),
            "network": self.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "average": self.average,
            "step": self.step,
            "skipped": self.skipped,
            "best": self.best,
            "rng": torch.get_rng_state(),
        }
        with atomic_path(path) as temporary:
            torch.save(state, temporary)

    def checkpoint(self, figures: dict[str, float]) -> Checkpoint:
        """The averaged weights as a checkpoint, with where they come from."""
        provenance = {
            "data": self.crops.description,
            "steps": self.step,
            "training": asdict(self.config),
            "revision": git_revision(),
            "figures": figures,
        }
        return Checkpoint(self.model, dict(self.average), provenance)

    def run(self) -> None:
        """Trains to config.steps; validates and saves at intervals. Ctrl-C ends the step, saves and returns."""
        log = _Log(self.out / "train.csv", ["step", "loss", "hr", "lr", "latent", "rate", "norm", "seconds"])
        with (
            _Interrupt() as interrupt,
            tqdm(total=self.config.steps, initial=self.step, unit="step", dynamic_ncols=True) as bar,
        ):
            while self.step < self.config.steps and not interrupt.requested:
                started = time.perf_counter()
                row = self._step()
                self.step += 1
                log.write([self.step, *row, time.perf_counter() - started])
                bar.update()
                bar.set_postfix(hr=f"{row[1]:.4f}", lr=f"{row[2]:.5f}", best=f"{self.best:.2f}", refresh=False)
                if self.step % self.config.validate_every == 0 or self.step == self.config.steps:
                    self._validate(bar)
                last = self.step == self.config.steps or interrupt.requested
                if self.step % self.config.save_every == 0 or last:
                    self.save_state()

    def _step(self) -> list[float]:
        config = self.config
        self.network.set_deformation(self.model.deform and self.step >= config.deform_from * config.steps)
        rate = config.lr_at(self.step)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        batch = self.crops(self.step)
        x = batch.x.contiguous(memory_format=torch.channels_last)
        latent = config.lambda_z > 0 and self.step % config.latent_interval == 0
        with torch.autocast("cpu", torch.bfloat16, enabled=config.precision == "bf16"):
            losses = algorithm_1(
                self.network,
                x,
                batch.frame,
                (config.lambda_h, config.lambda_l, config.lambda_z * config.latent_interval),
                config.alpha if self.step < config.backflow * config.steps else 0.0,
                latent,
                config.sample_latent,
            )
        self.optimiser.zero_grad(set_to_none=True)
        losses.total.backward()
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), config.clip_norm)
        if torch.isfinite(norm) and torch.isfinite(losses.total):
            self.optimiser.step()
            self._update_average()
        else:
            self.skipped += 1
        values = (losses.total, losses.hr, losses.lr, losses.latent)
        return [float("nan") if v is None else v.item() for v in values] + [rate, float(norm)]

    def _update_average(self) -> None:
        decay = min(self.config.average, (self.step + 1) / (self.step + 10))
        current: dict[str, Tensor] = self.network.state_dict()
        torch._foreach_lerp_([self.average[n] for n in current], list(current.values()), 1 - decay)

    def _validate(self, bar: tqdm) -> None:
        figures: dict[str, float] = {}
        if self.validation is not None:
            network = copy.deepcopy(self.network)  # a fresh one would draw from the random stream of the run
            network.load_state_dict(self.average)
            network.set_deformation(self.model.deform and self.step >= self.config.deform_from * self.config.steps)
            figures = as_dict(self.validation(network))
            log = _Log(self.out / "val.csv", ["step", *figures])
            log.write([self.step, *figures.values()])
            bar.write("  ".join([f"step {self.step}"] + [f"{name} {value:.3f}" for name, value in figures.items()]))
        checkpoint = self.checkpoint(figures)
        save_checkpoint(self.out / "last.pth", checkpoint)
        if figures.get("ws_psnr_y", float("inf")) > self.best:
            self.best = figures.get("ws_psnr_y", self.best)
            save_checkpoint(self.out / "best.pth", checkpoint)


class _Interrupt:
    """Notes a first Ctrl-C instead of breaking off in the middle of a step; a second one breaks off."""

    def __init__(self) -> None:
        self.requested = False

    def __enter__(self) -> _Interrupt:
        self.main = threading.current_thread() is threading.main_thread()  # only there are handlers allowed
        if self.main:
            self.before = signal.signal(signal.SIGINT, self._note)
        return self

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
        signal.signal(signal.SIGINT, self.before)

    def __exit__(self, *_: object) -> None:
        if self.main:
            signal.signal(signal.SIGINT, self.before)


class _Log:
    """Appends rows to a CSV file, with a header when the file is new."""

    def __init__(self, path: Path, header: list[str]) -> None:
        self.path = path
        if not path.exists():
            self.write(header)

    def write(self, row: list[Any]) -> None:
        with self.path.open("a", newline="") as file:
            csv.writer(file).writerow([f"{v:.6g}" if isinstance(v, float) else v for v in row])


def git_revision() -> str:
    """Commit of the source tree, or "unknown" outside a checkout."""
    try:
        command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
