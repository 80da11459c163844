"""One command on any machine with an NVIDIA GPU: what this project computes there, proven and timed.

python -m tests.device.gpu [--out build/gpu] [--graphs FOLDER]

Asks nothing and writes <out>/gpu_report.json and .html, which can be attached to an issue. A step that cannot run says
why; a step that fails does not stop the others. The exit status is 1 where a step failed. tests/device/README.md.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from engines.support.errors import UserError
from plugins.build import BuildError
from tests.device import steps, timing
from tests.device.page import page
from tests.device.steps import Machine, UnableError

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Outcome:
    """What came of a step. status: "passed", "failed" or "not run"; why: of the latter two. seconds: it took."""

    step: str
    status: str
    why: str = ""
    seconds: float = 0.0
    found: dict[str, Any] = field(default_factory=dict)


STEPS: dict[str, Callable[[Machine], dict[str, Any]]] = {
    "plugin library": steps.build_libraries,
    "ONNX Runtime's operators": steps.build_onnxruntime,
    "kernels against their references": steps.check_kernels,
    "compute-sanitizer": steps.sanitize,
    "graphs": steps.export_graphs,
    "TensorRT engines": steps.build_tensorrt,
    "TensorRT-RTX engines": steps.build_rtx,
    "parity": steps.compare,
    "times by trtexec": timing.time_by_trtexec,
    "times of sessions": timing.time_sessions,
    "times in ONNX Runtime": timing.time_in_onnxruntime,
    "estimate": timing.estimate_beside,
}


def run(machine: Machine, chosen: dict[str, Callable[[Machine], dict[str, Any]]] = STEPS) -> list[Outcome]:
    """Every step in order, after the GPU was looked for; without one each says so."""
    outcomes = [_outcome("device", lambda: steps.describe(machine))]
    for name, step in chosen.items():
        if machine.device is None:
            outcomes.append(Outcome(name, "not run", f"no GPU: {outcomes[0].why}"))
        else:
            outcomes.append(_outcome(name, lambda step=step: step(machine)))  # type: ignore[misc]
        print(f"{outcomes[-1].status:8} {name}: {outcomes[-1].why or 'see the report'}", flush=True)
    return outcomes


def _outcome(name: str, work: Callable[[], dict[str, Any]]) -> Outcome:
    started = time.perf_counter()
    try:
        return Outcome(name, "passed", found=work(), seconds=time.perf_counter() - started)
    except UnableError as error:
        status, why = "not run", str(error)
    except (UserError, BuildError, AssertionError) as error:
        status, why = "failed", str(error)
    except Exception as error:  # a step's own fault is a result as well, and the others still run
        status, why = "failed", f"{type(error).__name__}: {error}"
    return Outcome(name, status, " ".join(why.split()), time.perf_counter() - started)


def report(outcomes: list[Outcome]) -> dict[str, Any]:
    """All that was found, for JSON."""
    return {
        "format": "dinn360-gpu-report 1",
        "machine": {
            "system": platform.platform(),
            "python": platform.python_version(),
            "processor": platform.machine(),
        },
        "steps": [asdict(outcome) for outcome in outcomes],
    }


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "gpu", help="folder of the report")
    parser.add_argument("--graphs", type=Path, help="exported graphs, FOLDER/<ops>-<precision>/{down,up}.onnx")
    parser.add_argument("--ckpt", type=Path, default=ROOT / "checkpoints" / "x4.pth", help="the network")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    outcomes = run(Machine(options.out, options.ckpt, options.graphs))
    found = report(outcomes)
    (options.out / "gpu_report.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    (options.out / "gpu_report.html").write_text(page(found), encoding="utf-8")
    print(f"{options.out / 'gpu_report.json'}\n{options.out / 'gpu_report.html'}")
    return 1 if any(outcome.status == "failed" for outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
