"""The training loop: Algorithm 1 with staged deformation and averaged weights, on one process or several."""

from __future__ import annotations

import copy
import subprocess
import time
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dinn360.checkpoint import Checkpoint, save_checkpoint
from dinn360.codec.layer import Channel
from dinn360.configs import config_from_dict, configs_are_checked
from dinn360.data.crops import Batch, Crops
from dinn360.data.prefetcher import Prefetcher
from dinn360.evaluation.validate import Figures, Validation, as_dict
from dinn360.networks import NetworkConfig, RescalingNetwork, build_network
from dinn360.networks.coarseness import take_weights
from dinn360.networks.untied import Untied
from dinn360.training.config import TrainConfig
from dinn360.training.interrupt import Interrupt
from dinn360.training.logger import Logger
from dinn360.training.losses import Coding, algorithm_1
from dinn360.training.optimiser import Optimiser
from dinn360.training.processes import Processes
from dinn360.training.state import State, load_state, save_state
from engines.support.errors import UserError
from engines.support.reading import short, typed

_LATER = ("luma_details", "reads_coarseness", "knows_file")


class Trainer:
    """A run in a folder: state.pth (resume), best.pth and last.pth (checkpoints), and what `Logger` writes.

    crops: of the whole batch; each of the `processes` makes its share. validation: None to go without. out: exists.
    tensorboard: also log to out/tensorboard.
    """

    def __init__(
        self,
        model: NetworkConfig,
        config: TrainConfig,
        crops: Crops,
        validation: Validation | None,
        out: Path,
        processes: Processes | None = None,
        tensorboard: bool = False,
    ) -> None:
        self.processes = processes or Processes()
        self.model, self.config, self.validation, self.out = model, config, validation, out
        self.figures = Figures if validation is None else validation.figures
        self.crops = crops.part(self.processes.rank, self.processes.world)
        self.tensorboard = tensorboard
        torch.manual_seed(config.seed)
        with configs_are_checked():
            self.network: RescalingNetwork = build_network(model)
        self.network.to(self.processes.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = {name: tensor.detach().clone() for name, tensor in self.network.state_dict().items()}
        self.optimiser = Optimiser(config.optimiser, self.network, config.lr, config.head_rate)
        plan = config.coding_plan()
        self.channel = None if plan is None else Channel(plan)
        self.step = self.skipped = 0
        self.best = float("-inf")

    def start_from(self, checkpoint: Checkpoint) -> None:
        """Takes the weights of a checkpoint of the same architecture; step, optimiser and average begin anew.

        Deformation may differ where the checkpoint's offsets are still zero, which is as good as none. The switches
        _LATER may go on: they leave the weights as they are, or add some that are zero.
        """
        model, network = self.model, checkpoint.build()
        parting = model.untie and not checkpoint.config.untie  # the decoder begins as the exact inverse
        same: dict[str, Any] = {"preset": model.preset, "untie": parting or checkpoint.config.untie}
        if not any(p.any() for head in network.sampling_heads() for p in head.parameters()):
            same |= {f.name: model.deform for f in fields(model) if f.name == "deform"}
        same |= {f.name: True for f in fields(model) if f.name in _LATER and getattr(model, f.name)}
        if type(checkpoint.config) is not type(model) or checkpoint.config.scale != model.scale:
            raise UserError("the checkpoint is of another architecture; choose its preset and scale", "init")
        started = replace(checkpoint.config, **same)
        for name, expected in ((f.name, getattr(model, f.name)) for f in fields(model)):
            if (found := getattr(started, name)) != expected:
                differing = f"{name}: expected {short(expected)}, found {short(found)}"
                raise UserError(f"the checkpoint is of another architecture; {differing}", "init")
        weights = network.state_dict()
        if parting and isinstance(self.network, Untied):
            self.network.load_tied(weights)
        else:
            take_weights(self.network, weights)
        self.average = {name: tensor.detach().clone() for name, tensor in self.network.state_dict().items()}

    def run(self) -> int:
        """Trains to config.steps; validates and saves at intervals.

        Ctrl-C or SIGTERM, to any of the processes, ends the step, saves and returns the number of the signal;
        otherwise 0 is returned.
        """
        config, processes = self.config, self.processes
        with (
            Interrupt() as interrupt,
            Prefetcher(self.batch) as batches,
            Logger(self.out, self.step, config.steps, processes.first, self.tensorboard, self.figures) as logger,
        ):
            while self.step < config.steps:
                started = time.perf_counter()
                losses = self.take_step(batches(self.step))
                seconds = time.perf_counter() - started
                logger.step({"step": self.step, **losses, "skipped": self.skipped, "seconds": seconds}, self.best)

                stopped = processes.largest(interrupt.signal)
                finished = self.step == config.steps
                if finished or self.step % config.validate_every == 0:
                    if stopped:
                        self.save()  # whoever sent the signal may not wait for a validation
                    self._validate(logger)
                if finished or stopped or self.step % config.save_every == 0:
                    self.save()
                if stopped and not finished:
                    return stopped
        return 0

    def batch(self, step: int) -> Batch:
        """This process's share of the batch of a step, on its device."""
        return self.crops(step).to(self.processes.device)

    def take_step(self, batch: Batch) -> dict[str, float]:
        """One step of the optimiser. Its losses over all processes (latent, bits: NaN where not computed), its rate,
        and the norm of its gradient. A step whose loss or gradient is not finite changes no weights and is counted."""
        config = self.config
        self._seed()
        self.network.set_deformation(self._deforms())
        rate = config.lr_at(self.step)
        self.optimiser.set_rate(rate)
        with torch.autocast(self.processes.device.type, torch.bfloat16, enabled=config.precision == "bf16"):
            losses = algorithm_1(
                self.network,
                batch.x,
                batch.frame,
                (config.lambda_h, config.lambda_l, config.lambda_z * config.latent_interval),
                config.alpha if self.step < config.backflow * config.steps else 0.0,
                config.lambda_z > 0 and self.step % config.latent_interval == 0,
                config.sample_latent,
                config.luma,
                self._coding(),
                config.hr_loss,
            )
        self.optimiser.zero_grad()
        losses.total.backward()

        latent = torch.full_like(losses.total, float("nan")) if losses.latent is None else losses.latent
        bits = torch.full_like(latent, float("nan")) if losses.bits is None else losses.bits
        means = torch.stack([losses.total, losses.hr, losses.lr, latent, bits]).detach()
        # Which parameters have a gradient depends on the step alone, so it is the same on every process. So are the
        # means, bit by bit, and with them the norm and the decision below.
        gradients = [p.grad for p in self.network.parameters() if p.grad is not None]
        self.processes.average([*gradients, means])
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), config.clip_norm)
        if torch.isfinite(norm) and torch.isfinite(means[0]):
            self.optimiser.step()
            self._update_average()
        else:
            self.skipped += 1
        self.step += 1
        names = ("loss", "hr", "lr", "latent", "bits", "rate", "norm")
        return dict(zip(names, [*means.tolist(), rate, norm.item()], strict=True))

    def _coding(self) -> Coding:
        """The codec of this step; which files are drawn is a pure function of the step and the process, too."""
        config, channel = self.config, self.channel
        seed = (config.seed, self.step, self.processes.rank)
        bicubic = config.downscaler == "bicubic"
        return Coding(channel, seed, config.lambda_rate, config.lambda_chroma, config.lambda_dots, bicubic)

    def _seed(self) -> None:
        """z~, too, is a pure function of the step (and of the process): a resumed run needs no random state."""
        entropy = np.random.SeedSequence([self.config.seed, self.step, self.processes.rank])
        torch.manual_seed(int(entropy.generate_state(1, np.uint64)[0]))

    def _deforms(self) -> bool:
        return self.model.deform and self.step >= self.config.deform_from * self.config.steps

    def _update_average(self) -> None:
        decay = min(self.config.average, (self.step + 1) / (self.step + 10))
        current: dict[str, Tensor] = self.network.state_dict()
        torch._foreach_lerp_([self.average[n] for n in current], list(current.values()), 1 - decay)

    def _validate(self, logger: Logger) -> None:
        """The averaged weights on the validation set and into last.pth and, where they are the best, best.pth."""
        if self.processes.first:
            figures: dict[str, float] = {}
            if self.validation is not None:
                network = copy.deepcopy(self.network)
                network.load_state_dict(self.average)
                network.set_deformation(self._deforms())
                mean, sample = self.validation.with_sample(network)
                figures = as_dict(mean)
                logger.validated(self.step, figures, sample, self.model.scale)
            logger.draw_curve()
            checkpoint = self.checkpoint(figures)
            save_checkpoint(self.out / "last.pth", checkpoint)
            if figures.get(self.figures.best_by, float("inf")) > self.best:
                self.best = figures.get(self.figures.best_by, self.best)
                save_checkpoint(self.out / "best.pth", checkpoint)
        self.processes.wait()

    def checkpoint(self, figures: dict[str, float]) -> Checkpoint:
        """The averaged weights as a checkpoint, with where they come from."""
        provenance = {
            "data": self.crops.description,
            "steps": self.step,
            "skipped": self.skipped,
            "training": asdict(self.config),
            "revision": git_revision(),
            "figures": figures,
        }
        if self.channel is not None:
            provenance["codec"] = self.channel.plan.metadata()
        return Checkpoint(self.model, dict(self.average), provenance)

    def save(self) -> None:
        """Writes the state that `resume` continues from."""
        if self.processes.first:
            state: dict[str, Any] = {
                "model": self.model.to_dict(),
                "config": asdict(self.config),
                "network": self.network.state_dict(),
                "optimiser": self.optimiser.state_dict(),
                "average": self.average,
                "step": self.step,
                "skipped": self.skipped,
                "best": self.best,
            }
            save_state(self.out, state)
        self.processes.wait()

    def resume(self) -> None:
        """Continues from the last whole state in the folder. UserError when there is none, or of another network."""
        self.restore(load_state(self.out), self.out)

    def restore(self, state: State, folder: Path, about: str = "resume") -> None:
        """Continues from the state in `folder`: of this run, or of one that it branches off.

        Raises:
            UserError: it is of another network; the message is about the parameter `about`, which named the folder.
        """
        try:
            self._take(state, folder, about)
        except (KeyError, IndexError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            reason = short(f"{type(error).__name__}: {error}", 200)
            expected = "expected the state of a run like this"
            raise UserError(f"{folder}: {expected}, found another ({reason})", about) from None

    def _take(self, state: State, folder: Path, about: str) -> None:
        if config_from_dict(state["model"]) != self.model:  # a field that is younger than the state has its default
            raise UserError(f"{folder}: the run was started with another model config", about)
        started = state["config"].get("optimiser")
        if started != self.config.optimiser:
            raise UserError(f"{folder} was started with {started}, found {self.config.optimiser}", "optimiser")
        step, skipped = (typed(f"{folder}: {name}", int, state[name]) for name in ("step", "skipped"))
        best = state["best"]
        if not isinstance(best, float):
            raise TypeError(f"best {short(best)}")
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.average = {name: tensor.to(self.processes.device) for name, tensor in state["average"].items()}
        self.step, self.skipped, self.best = step, skipped, best


def git_revision() -> str:
    """Commit of the source tree, or "unknown" outside a checkout."""
    try:
        command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
