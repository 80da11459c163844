"""Steps per second of training on a CPU, one row for each way to run it: python -m benchmarks.training.

    --scale 4 --batch 5 --crop 128 --threads 1 --rounds 10 [--compile] [--breakdown]

`edge` network, Algorithm 1 on random crops, forward and backward. All rows of a table run in one process and take
turns, a step each, so that what disturbs the machine disturbs all; times are those of the process (not of the clock),
ratios are medians over the rounds. The second table repeats two rows in processes of their own, by turns with and
without `keep_freed_memory`, which holds for a whole process. --compile adds torch.compile: minutes before it begins.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from benchmarks import record
from dinn360.networks import DINN360, ModelConfig, preset
from dinn360.ops.cpu import choose_kernels
from dinn360.sphere import Frame
from dinn360.training.config import TrainConfig
from dinn360.training.losses import algorithm_1
from dinn360.training.memory import keep_freed_memory

Step = Callable[[], None]
PLAIN, COMPOSED, NATIVE = "plain", "deformed, composed", "deformed, native"
OPERATORS = {PLAIN: "composed", COMPOSED: "composed", NATIVE: "native"}
OPTIONS = TrainConfig()
CHILDREN = {"keep": "kept for the process", "free": "given back to the system"}

GROUPS = {
    "deformable convolution, native": ("_DeformConv2d",),
    "bilinear sampling": ("aten::grid_sampler",),
    "convolutions": ("aten::convolution", "aten::mkldnn_convolution", "aten::_slow_conv2d", "aten::thnn_conv2d"),
    "matrix products": ("aten::mm", "aten::bmm", "aten::addmm"),
    "copies": ("aten::copy_", "aten::cat", "aten::index_select", "aten::fill_", "aten::index"),
    "activations and softmax": ("aten::leaky_relu", "aten::gelu", "aten::relu", "aten::sigmoid", "aten::_softmax",
                                "aten::threshold", "aten::tanh", "aten::exp", "aten::atan"),
    "arithmetic": ("aten::add", "aten::sub", "aten::mul", "aten::div", "aten::neg", "aten::sum", "aten::abs",
                   "aten::where", "aten::clamp", "aten::le", "aten::ge", "aten::remainder", "aten::sgn"),
    "normalisation": ("aten::native_layer_norm", "aten::native_group_norm"),
}  # fmt: skip


def network(scale: int, kind: str) -> DINN360:
    """`edge` with random weights, the same for every kind."""
    torch.manual_seed(0)
    config = preset("edge", scale)
    assert isinstance(config, ModelConfig)
    made = DINN360(config)
    made.set_deformation(kind != PLAIN)
    for name, parameter in made.named_parameters():
        if "offset_head" in name:
            nn.init.normal_(parameter, std=0.1)  # offsets of about a pixel: zeros would be kinder to caches
    return made


def step(made: nn.Module, x: Tensor, bf16: bool, kernels: str = "composed") -> Step:
    """One step on x, as the Trainer takes it, without the optimiser. kernels: of the deformable convolution."""
    frame = Frame(False, torch.zeros(len(x), dtype=torch.long), torch.full((len(x),), 1024))
    weights = (OPTIONS.lambda_h, OPTIONS.lambda_l, OPTIONS.lambda_z)

    def run() -> None:
        choose_kernels(kernels)
        made.zero_grad(set_to_none=True)
        context: AbstractContextManager[None] = torch.autocast("cpu", torch.bfloat16, enabled=bf16)
        with context:
            losses = algorithm_1(made, x, frame, weights, 0.0, False, False)  # type: ignore[arg-type]
        losses.total.backward()

    return run


def contenders(scale: int, x: Tensor, compiled: bool) -> dict[str, Step]:
    """A step of each row of the table."""
    last = x.contiguous(memory_format=torch.channels_last)
    steps: dict[str, Step] = {}
    for kind in (PLAIN, COMPOSED, NATIVE):
        base, kernels = network(scale, kind), OPERATORS[kind]
        channels_last = copy.deepcopy(base).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        steps[f"{kind}, fp32, channels last"] = step(channels_last, last, False, kernels)
        steps[f"{kind}, fp32, contiguous"] = step(base, x, False, kernels)
        steps[f"{kind}, bf16, channels last"] = step(copy.deepcopy(channels_last), last, True, kernels)
        if compiled and kind != NATIVE:  # a compiled network runs the composed form
            other = copy.deepcopy(channels_last)
            other.split, other.merge = (torch.compile(half, dynamic=False) for half in (other.split, other.merge))
            steps[f"{kind}, fp32, channels last, torch.compile"] = step(other, last, False)
    return steps


def measure(steps: dict[str, Step], rounds: int) -> dict[str, list[float]]:
    """Seconds of processor time of each step in each round; a first round warms up."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for index in range(rounds + 1):
        for name, run in steps.items():
            start = time.process_time()
            run()
            if index:
                times[name].append(time.process_time() - start)
    return times


def table(title: str, times: dict[str, list[float]], threads: int) -> record.Table:
    """Ratios are to the first row."""
    first = next(iter(times.values()))
    columns = {"": "{}", "ms a step, median": "{:.0f}", "least": "{:.0f}", "steps/s": "{:.2f}", "times first": "{:.2f}"}
    rows: list[list[record.Cell]] = []
    for name, values in times.items():
        ratio = statistics.median(a / b for a, b in zip(values, first, strict=True))
        median = statistics.median(values) / threads
        rows.append([name, 1e3 * median, 1e3 * min(values) / threads, 1 / median, ratio])
    return record.Table(title, columns, rows)


def breakdown(steps: dict[str, Step]) -> record.Table:
    """Where a step's time goes, by groups of operators: ms of the clock and share of the step.

    An operator's time is its own, without what it calls; on a busy machine only the shares mean something.
    """
    columns: dict[str, dict[str, float]] = {}
    for name, run in steps.items():
        run()
        with profile(activities=[ProfilerActivity.CPU]) as profiled:
            for _ in range(3):
                run()
        spent = dict.fromkeys([*GROUPS, "the rest"], 0.0)
        for event in profiled.key_averages():
            group = next((g for g, heads in GROUPS.items() if event.key.startswith(heads)), "the rest")
            spent[group] += event.self_cpu_time_total / 3e3
        columns[name] = spent
    heads = {"": "{}"}
    for name in columns:
        heads |= {f"{name}, ms": "{:.0f}", f"{name}, share": "{:.0%}"}
    rows: list[list[record.Cell]] = []
    for group in (*GROUPS, "the rest"):
        shares = [(spent[group], spent[group] / sum(spent.values())) for spent in columns.values()]
        rows.append([group, *(value for pair in shares for value in pair)])
    return record.Table("Where the time of a step goes", heads, rows)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("scale", 4), ("batch", 5), ("crop", 128), ("threads", 1), ("rounds", 10)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--breakdown", action="store_true")
    parser.add_argument("--child", choices=tuple(CHILDREN), help=argparse.SUPPRESS)
    record.add_option(parser)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    x = torch.rand(options.batch, 3, options.crop, options.crop, generator=torch.Generator().manual_seed(0))
    if options.child != "free":
        keep_freed_memory()
    if options.child:
        last = x.contiguous(memory_format=torch.channels_last)
        kinds = (PLAIN, NATIVE)
        made = {k: network(options.scale, k).to(memory_format=torch.channels_last) for k in kinds}  # type: ignore[call-overload]
        print(json.dumps(measure({k: step(made[k], last, False, OPERATORS[k]) for k in kinds}, options.rounds)))
        return
    title = f"edge x{options.scale}, batch {options.batch} of {options.crop}x{options.crop}"
    steps = contenders(options.scale, x, options.compile)
    times = measure(steps, options.rounds)
    tables = [table(f"{title}, {options.threads} threads, {options.rounds} rounds", times, options.threads)]
    rows: dict[str, list[float]] = {}
    for child in ("keep", "free", "keep", "free"):
        given = [f"--{name}={getattr(options, name)}" for name in ("scale", "batch", "crop", "threads", "rounds")]
        command = [sys.executable, "-m", "benchmarks.training", "--child", child, *given]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        for kind, values in json.loads(done.stdout).items():
            rows.setdefault(f"{kind}, {CHILDREN[child]}", []).extend(values)
    freed = f"Memory that is freed, in processes of their own: {title}, fp32, channels last"
    tables.append(table(freed, rows, options.threads))
    if options.breakdown:
        tables.append(breakdown({kind: steps[f"{kind}, fp32, channels last"] for kind in (PLAIN, COMPOSED, NATIVE)}))
    record.report(tables, [], options.save)


if __name__ == "__main__":
    main()
