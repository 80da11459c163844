"""python -m dinn360 train"""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import click
import torch

from dinn360.checkpoint import load_checkpoint
from dinn360.commands.settings import option, setting_options
from dinn360.data.crops import Crops, read_folder
from dinn360.data.shrunk import with_shrunk
from dinn360.evaluation.validate import Validation
from dinn360.evaluation.validate_codec import CodecValidation
from dinn360.networks import PRESETS, FlatConfig
from dinn360.ops.cpu import choose_kernels
from dinn360.training.config import TrainConfig
from dinn360.training.memory import check_memory, keep_freed_memory
from dinn360.training.processes import Processes, join, restarted
from dinn360.training.run_file import NAME, DataConfig, RunConfig, RunFile, resolve
from dinn360.training.state import State, has_state, load_state, sole_writer
from dinn360.training.train import Trainer
from engines.commands.types import PATH
from engines.support.arrays import Image8
from engines.support.errors import UserError
from engines.support.files import folder_for, probe_output
from engines.support.reading import typed

# The slides' ablations; the fifth is --alpha 0.
ABLATIONS = {
    "deform": "Sampling offsets.",
    "dst": "Deformable Swin transformer modules.",
    "latitude_head": "Latitude head of G_SC.",
    "content_head": "Content head of G_SC.",
}
CODEC = {
    "untie": "The decoder's weights part from the encoder's; they start as its exact inverse.",
    "luma_details": "Flat networks: the LR image's colours change no finer than 4:2:0 keeps them.",
    "reads_coarseness": "Flat networks: the decoder knows how coarsely the LR file was quantised.",
    "knows_file": "Flat networks: the encoder knows how coarsely the LR file is going to be.",
}


@click.command()
@click.option("--config", type=PATH, help="TOML file of settings; options given here override it.")
@click.option("--out", type=PATH, required=True, help="Folder of the run.")
@click.option("--resume", is_flag=True, help="Continue the run in --out with its config.toml.")
@click.option("--branch", type=PATH, help="Branch off the run in this folder, with its config.toml; it stays as it is.")
@click.option("--branch-steps", type=click.IntRange(1, 10**9), help="Of the branch: the rate falls to 0.")
@click.option("--preset", type=click.Choice(PRESETS), help="Size of the network.  [default: edge]")
@click.option("--scale", type=int, help="2, 4 or 8.  [default: 4]")
@setting_options("model", FlatConfig, {**ABLATIONS, **CODEC})
@setting_options("data", DataConfig)
@setting_options("train", TrainConfig)
@setting_options("run", RunConfig)
def train(
    config: Path | None,
    out: Path,
    resume: bool,
    branch: Path | None,
    branch_steps: int | None,
    preset: str | None,
    scale: int | None,
    model: dict[str, Any],
    data: dict[str, Any],
    train: dict[str, Any],
    run: dict[str, Any],
) -> None:
    """Train a network with Algorithm 1 of the slides.

    \b
    On several processes: torchrun --nproc-per-node 2 --local-ranks-filter 0 -m dinn360 train ...
    Ctrl-C or SIGTERM ends the step and saves; --resume continues.
    \b
    A campaign without end, and releases from it at any time:
      train --decay 0 --steps 1000000 --deform-from 0 --out CAMPAIGN ...
      train --branch CAMPAIGN --branch-steps 4000 --out RELEASE
    """
    keep_freed_memory()
    if (branch is None) != (branch_steps is None):
        raise UserError("--branch, --branch-steps: expected both or neither, found one")
    chosen = {name: value for name, value in (("preset", preset), ("scale", scale)) if value is not None}
    # After torchrun has lost a process it runs the same command again.
    resume = resume or (restarted() and has_state(out))
    if resume and config is None and (out / NAME).exists():
        config = out / NAME
    if resume and config is None and not has_state(out):
        raise UserError(f"{out}: expected a run that --resume can go on with, found none", "out")
    started: tuple[Path, State] | None = None
    if branch is not None and branch_steps is not None and not resume:
        config = branch / NAME if config is None else config
        state = load_state(branch, "branch")
        steps = typed(f"--branch: {branch}: step", int, state.get("step")) + branch_steps
        started = branch, state
        train = {**train, "steps": steps, "decay": branch_steps / steps}
    settings = resolve(config, {"model": {**chosen, **model}, "data": data, "train": train, "run": run}, option)
    if settings.run.threads:
        torch.set_num_threads(settings.run.threads)
    with join(settings.run.device) as processes:
        with folder_for(out), sole_writer(out) if processes.first else nullcontext():
            stopped = _run(settings, out, resume, started, processes)
    if stopped:
        click.get_current_context().exit(128 + stopped)


def _run(settings: RunFile, out: Path, resume: bool, started: tuple[Path, State] | None, processes: Processes) -> int:
    """Trains to the end, and returns 0, or until a signal comes, and returns its number.

    started: the folder and the state of the run that this one branches off.
    """
    if not resume and has_state(out):
        raise UserError(f"{out}: holds a run already; continue it with --resume or name another folder", "out")
    if processes.first:
        probe_output(out / NAME)
    trainer = _trainer(settings, out, processes)
    kernels = choose_kernels(settings.run.kernels)
    if processes.first:
        click.echo(kernels, err=True)
    if resume:
        trainer.resume()
    elif started is not None:
        folder, state = started
        trainer.restore(state, folder, "branch")
    elif settings.run.init:
        trainer.start_from(load_checkpoint(settings.run.init))
    if processes.first:
        settings.save(out / NAME)
    stopped = trainer.run()
    if stopped and processes.first:
        click.echo(f"{out}: stopped after step {trainer.step} of {settings.train.steps}; --resume goes on", err=True)
    return stopped


def read_crops(data: DataConfig, config: TrainConfig) -> Crops:
    """The training crops, with their images read. Raises UserError where no image can be used."""
    panoramas = read_folder(data.train, config.crop, "panoramas", data.selection())
    photographs = read_folder(data.photographs, config.crop, "photographs") if data.photographs else {}
    description = f"{len(panoramas)} panoramas ({', '.join(list(panoramas)[:40])})" + (
        f" and {len(photographs)} photographs" if photographs else ""
    )
    if config.shrink:
        description += f", and shrunk up to {config.shrink} times by the square root of 2"
    return Crops(
        _shrunk(panoramas, config, True),
        _shrunk(photographs, config, False),
        config.crop,
        config.batch,
        config.seed,
        config.photograph_share,
        description,
    )


def _shrunk(images: dict[str, Image8], config: TrainConfig, cyclic: bool) -> list[Image8]:
    return [copy for image in images.values() for copy in with_shrunk(image, config.shrink, config.crop, cyclic)]


def _trainer(settings: RunFile, out: Path, processes: Processes) -> Trainer:
    """The run with its images read."""
    data, config = settings.data, settings.train
    check_memory(config, processes.world)
    crops = read_crops(data, config)
    validation = None
    if data.val and processes.first:
        plan, scale = config.coding_plan(), settings.model.scale
        if plan is None:
            validation = Validation(data.val, scale)
        else:
            validation = CodecValidation(data.val, scale, plan.coder(), config.downscaler == "bicubic")
    return Trainer(settings.model, config, crops, validation, out, processes, settings.run.tensorboard)
