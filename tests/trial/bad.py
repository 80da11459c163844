"""Inputs that must be refused in one line, by class."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from trial.outcome import Trial
from trial.pool import WRONG, Pool

DOWN = ("--model", "down.onnx")
UP = ("--model", "up.onnx")
LONG = "x" * 300 + ".png"


def all_of(pool: Pool) -> dict[str, list[Trial]]:
    """The trials of each class."""
    return {
        "images": list(_images(pool)),
        "targets": list(_targets()),
        "graphs and engines": list(_models()),
        "sidecars": list(_sidecars()),
        "numbers": list(_numbers()),
        "checkpoints": list(_checkpoints()),
        "run files": list(_run_files()),
        "videos": list(_videos()),
        "data": list(_data()),
        "other commands": list(_others()),
    }


def _images(pool: Pool) -> Iterator[Trial]:
    for name in pool.names():
        for damage in ("empty", "text", "head"):
            yield Trial(("engines", "downscale", f"{name}!{damage}", "out.png", *DOWN), name)
        for damage in ("half", "flipped"):  # a decoder may still make a picture of it
            yield Trial(("engines", "downscale", f"{name}!{damage}", "out.png", *DOWN), name, may_work=True)
    yield Trial(("engines", "downscale", "rgb.png!huge", "out.png", *DOWN), "rgb.png")
    for name in ("lr.png", "lr.webp", "lr.tif"):
        for damage in ("empty", "text", "head"):
            yield Trial(("engines", "upscale", f"{name}!{damage}", "out.png", *UP), name)


def _targets() -> Iterator[Trial]:
    for command, source, model in (("downscale", "in.png", DOWN), ("upscale", "lr.png", UP)):
        start = ("engines", command, source)
        for target, says in (
            ("out.gif", "found .gif"),
            ("out.xyz", "found .xyz"),
            ("none/out.png", "the folder none does not exist"),
            ("", "an empty text"),
            (LONG, "255 bytes"),
            ("/dev/null/out.png", "/dev/null"),
            ("/proc/out.png", "/proc/out.png"),
            (source, "is there already"),
            ("in.png/out.png", "in.png"),
        ):
            yield Trial((*start, target, *model), says, files=("in.png",))
        yield Trial((*start, source, *model, "--overwrite"), "is the source itself")
        yield Trial((*start, *model), "found one name only")
        yield Trial((*start, "out.png", "--model", ""), "an empty text")
        yield Trial(("engines", command, "", "out.png", *model), "an empty text", files=(model[1],))
        yield Trial(("engines", command, "none.png", "out.png", *model), "no such file")
        yield Trial(("engines", command, "*.jpg", "out", *model), "found none")
        yield Trial(("engines", command, ".", "out", *model), "found none")
        yield Trial((*start, source, "out.png", *model), "expected a folder for 2 sources")
        yield Trial((*start, "out.png", *model, "--bits", "12"), "--bits")
        yield Trial((*start, "out.png", *model, "--tile", "0x0"), "--tile")
        yield Trial((*start, "out.png", *model, "--provider", "Vulkan"), "Vulkan")
        yield Trial((*start, "out.png", *model, "--bogus"), "--bogus")
    yield Trial(("engines", "downscale", "alpha.png", "out.jpg", *DOWN), "no alpha channel")
    yield Trial(("engines", "downscale", "deep.png", "out.webp", *DOWN), "--bits")
    yield Trial(("engines", "downscale", "in.png", "out.jpg", *DOWN, "--subsampling", "420"), "4:2:0")
    yield Trial(("engines", "downscale", "in.png", "out.jpg", *DOWN, "--quality", "10"), "--quality")
    yield Trial(("engines", "upscale", "lr.png", "out.png", *UP, "--size", "99x99"), "--size")
    for option, value in (
        ("--yaw", "nan"),
        ("--pitch", "91"),
        ("--fov", "0"),
        ("--size", "0x5"),
        ("--size", "99999x99999"),
    ):
        yield Trial(("engines", "view", "lr.png", "out.png", *UP, option, value), option)
    yield Trial(("engines", "view", "lr.png", "out.jpg", *UP), "ends in .png")
    yield Trial(("engines", "view", "lr.png", "none/out.png", *UP), "does not exist")


def _models() -> Iterator[Trial]:
    start = ("engines", "downscale", "in.png", "out.png", "--model")
    for damage in ("empty", "text", "head", "half", "pickle"):
        yield Trial((*start, f"down.onnx!{damage}"), "down.onnx")
        yield Trial(("engines", "inspect", f"down.onnx!{damage}"), "down.onnx")
        yield Trial(("engines", "triton", f"down.onnx!{damage}", "--out", "models"), "down.onnx")
        yield Trial(("export", "estimate", "--target", "h100", "--onnx", f"down.onnx!{damage}"), "down.onnx")
    for model, says in (
        ("up.onnx", "up.onnx"),
        ("none.onnx", "none.onnx"),
        (".", "down.onnx or an engine"),
        ("in.png", "in.png"),
        ("down.engine", "down.engine"),
        ("/dev/null", "/dev/null"),
    ):
        yield Trial((*start, model), says)
    for file, says in (("none.onnx", "none.onnx"), ("in.png", "in.png"), (".", ".onnx"), ("", "an empty text")):
        yield Trial(("engines", "inspect", file), says)


def _sidecars() -> Iterator[Trial]:
    import json

    fields = (
        *("format", "version", "engine_sha256", "engine_bytes", "onnx_sha256", "runtime", "runtime_version"),
        *("target", "compute_capabilities", "precision", "profile", "inputs", "outputs", "metadata", "layers", "tile"),
    )
    right = {"target": (str,), "precision": (str,), "layers": (dict,), "metadata": (dict,), "engine_bytes": (int,)}
    for key in fields:
        for value in WRONG:
            if type(value) not in right.get(key, ()) and not (key == "tile" and value is None):
                given = f"down.engine.json!{key}={json.dumps(value)}"
                yield Trial(("engines", "inspect", "down.engine"), "down.engine", files=(given,))


def _numbers() -> Iterator[Trial]:
    """Every number of every command beyond both ends of its range, and no number at all."""
    import dinn360.cli
    import engines.cli
    import export.cli

    groups = {"dinn360": dinn360.cli.main, "engines": engines.cli.main, "export": export.cli.main}
    for group, main in groups.items():
        for name in main.list_commands(click.Context(main)):
            command = main.get_command(click.Context(main), name)
            for option in command.params if command else ():
                kind: Any = option.type
                if isinstance(kind, click.IntRange | click.FloatRange):
                    for value in (kind.min - 1, kind.max + 1, 10**30, "x", "", "nan", "1e400"):
                        yield Trial((group, name, f"{option.opts[0]}={value}"), option.opts[0])


def _checkpoints() -> Iterator[Trial]:
    for damage in ("empty", "text", "half", "flipped", "zip", "pickle"):
        for words in (
            ("dinn360", "info", "--ckpt"),
            ("dinn360", "downscale", "in.png", "out.png", "--ckpt"),
            ("export", "onnx", "--out", "out", "--ckpt"),
        ):
            yield Trial((*words, f"x2.pth!{damage}"), "x2.pth")
        if damage != "zip":
            yield Trial(("dinn360", "info", "--ckpt", f"x2.safetensors!{damage}"), "x2.safetensors")
    for ckpt in ("x3", "none.pth", "in.png", ".", ""):
        yield Trial(("dinn360", "info", "--ckpt", ckpt), "--ckpt" if not ckpt else ckpt)


def _run_files() -> Iterator[Trial]:
    """Settings of a run, in its file."""
    start = ("dinn360", "train", "--out", "out", "--data", "none", "--config")
    for setting in (
        *("train.steps=0", "train.steps=true", 'train.steps="9"', "train.steps=9e99", "train.batch=-1"),
        *("train.batch=1000000000", "train.crop=7", "train.lr=nan", "train.lr=0", "train.decay=2", "train.alpha=-1"),
        *('train.quality="95:50"', 'train.optimiser="sgd"', "train.bogus=1", "run.threads=5000", 'run.device="tpu"'),
        *("model.scale=3", "model.scale=4.0", 'model.preset="huge"', "model.window=0", "model.levels=[]"),
        *("model.dconvs=1000000000", 'data.layout="heap"', "data.train=5", "bogus.x=1", "train.seed=-1"),
    ):
        yield Trial((*start, f"run.toml!{setting}"))
    for damage in ("text", "half", "pickle"):
        yield Trial((*start, f"run.toml!{damage}"))
    yield Trial((*start, "none.toml"), "none.toml")
    yield Trial(("dinn360", "train", "--out", "out"), "--data")
    yield Trial(("dinn360", "train", "--data", ".", "--out", ""), "an empty text")
    yield Trial(("dinn360", "train", "--data", "none", "--out", "in.png"), "in.png", files=("in.png",))
    yield Trial(("dinn360", "train", "--resume", "--out", "none"), "--out")
    yield Trial(("dinn360", "train", "--data", ".", "--out", "out", "--batch", "1000000000"), "--batch")


def _videos() -> Iterator[Trial]:
    for name in ("in.mkv", "in.mp4"):
        for damage in ("empty", "text", "head"):
            yield Trial(("engines", "downscale-video", f"{name}!{damage}", "out.mkv", *DOWN), name)
    start = ("engines", "downscale-video", "in.mkv")
    for rest, says in (
        (("out.mp4",), "does not hold ffv1"),
        (("out.gif",), "found .gif"),
        (("none/out.mkv",), "does not exist"),
        (("in.mkv",), "is there already"),
        (("in.mkv", "--overwrite"), "is the source itself"),
        (("out.mkv", "--crf", "5"), "--crf"),
        (("out.mkv", "--codec", "h264", "--crf", "60"), "--crf"),
        (("out.mkv", "--codec", "h264", "--subsampling", "420"), "4:2:0"),
        (("out.mkv", "--codec", "mpeg2"), "--codec"),
        ((), "found one name only"),
    ):
        yield Trial((*start, *rest, *DOWN), says)
    yield Trial(("engines", "downscale-video", "in.png", "none.mkv", "out.mkv", *DOWN), "expected a folder")
    yield Trial(("engines", "downscale-video", "none.mkv", "out.mkv", *DOWN), "no such file")
    yield Trial(("engines", "upscale-video", "lr.mkv!flipped", "out.mp4", *UP), "lr.mkv")
    yield Trial(("engines", "upscale-video", "lr.mkv!half", "out.mp4", *UP), "lr.mkv", may_work=True)


def _data() -> Iterator[Trial]:
    evaluate = ("dinn360", "evaluate", "--scale", "2", "--data")
    for rest, says in (
        (("none",), "none"),
        (("in.png",), "in.png"),
        ((".", "--baselines", "magic"), "magic"),
        ((".", "--baselines", "none"), "at least one system"),
        ((".", "--ckpt", "none.pth"), "none.pth"),
        ((".", "--codec", "gif"), "gif"),
        ((".", "--codec", "jpeg", "--quality", "0"), "--quality"),
        ((".", "--upscaler", "none.onnx"), "none.onnx"),
        ((".", "--rescaler", "down.onnx", "none.onnx"), "none.onnx"),
        ((".", "--baselines", "lanczos", "--per-panorama"), "--per-panorama"),
        ((".", "--out", "in.png"), "in.png"),
        ((".", "--split", "bogus"), "--split"),
        ((".", "--names", "none.txt"), "none.txt"),
    ):
        yield Trial((*evaluate, *rest), says, files=("in.png",))
    for rest in (("none",), ("in.png",), (".", "--exclude", "none.txt"), (".", "--layout", "heap"), ("",)):
        yield Trial(("dinn360", "data", "check", *rest), files=("in.png",))
    yield Trial(("dinn360", "ablate", "--data", ".", "--out", "out"), "--val", files=("in.png",))
    yield Trial(("dinn360", "ablate", "--data", ".", "--val", ".", "--out", "out", "--only", "nothing"), "--only")


def _others() -> Iterator[Trial]:
    build = ("engines", "build", "--onnx", "down.onnx", "--target")
    for words, says in (
        ((*build, "toaster"), "toaster"),
        ((*build, "h100", "--max", "1x1", "--print-trtexec"), "--max"),
        ((*build, "h100", "--tensorrt", "10.3"), "--tensorrt"),
        ((*build, "h100", "--tensorrt", "ten", "--print-trtexec"), "ten"),
        (("engines", "build", "--onnx", "none.onnx", "--target", "h100"), "none.onnx"),
        (("engines", "build", "--onnx", "/", "--target", "h100"), "--onnx"),
        (("engines", "batch", "none", "out", *DOWN), "none"),
        (("engines", "batch", ".", "out.png", *DOWN), "out.png"),
        (("engines", "batch", ".", "out", "--model", "."), "--model"),
        (("engines", "triton", "in.png", "--out", "models"), "in.png"),
        (("engines", "triton", "down.onnx", "down.onnx", "--out", "models"), "down"),
        (("engines", "polygraphy", "--model", "none.onnx", "--out", "out"), "none.onnx"),
        (("engines", "polygraphy", "--model", "down.onnx", "--out", "out", "--panorama", "in.png!empty"), "in.png"),
        (("engines", "bogus"), "bogus"),
        (("dinn360", "bogus"), "bogus"),
        (("export", "bogus"), "bogus"),
        (("export", "onnx", "--ckpt", "x2", "--opset", "7"), "--opset"),
        (("export", "onnx", "--ckpt", "x2", "--out", "in.png"), "in.png"),
        (("export", "onnx", "--ckpt", "x2", "--ops", "cpu", "--precision", "fp16"), "--precision"),
        (("export", "onnx", "--ckpt", "x2", "--fold-deformation", "auto"), "--calibration"),
        (("export", "check", "--ckpt", "x2", "--onnx", "none", "--image", "in.png"), "none"),
        (("export", "report", "--ckpt", "x2", "--image", "none.png", "--out", "in.png/x.html"), "in.png"),
        (("export", "report", "--ckpt", "x2", "--image", "none.png", "--out", "new.html"), "none.png"),
        (("export", "release", "--ckpt", "none.pth", "--out", "out"), "none.pth"),
        (("export", "release", "--ckpt", "x2", "--ckpt", "x2", "--out", "out"), "twice"),
        (("export", "estimate", "--onnx", "down.onnx", "--target", "toaster"), "toaster"),
        (("export", "estimate", "--onnx", "down.onnx", "--target", "h100", "--size", "x"), "--size"),
        (("export", "web", "--ckpt", "x2.pth", "in.png!text", "--out", "site"), "in.png"),
        (("export", "web", "--ckpt", "x2.pth", "in.png", "--out", "."), "."),
        (("export", "demo", "--image", "none.png"), "none.png"),
    ):
        yield Trial(words, says, files=("in.png",))
