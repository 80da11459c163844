"""What should work, on small files: the commands of the README and of docs/."""

from __future__ import annotations

from trial.outcome import Trial

DOWN = ("--model", "down.onnx")
UP = ("--model", "up.onnx")


def all_of() -> list[Trial]:
    """Each with what it makes."""
    found = [
        Trial(("engines", "downscale", "in.png", f"out.{suffix}", *DOWN), makes=(f"out.{suffix}",))
        for suffix in ("png", "webp", "tif", "jpg", "avif")
    ]
    found += [Trial(("engines", "upscale", name, "out.png", *UP), makes=("out.png",)) for name in ("lr.png", "lr.webp")]
    for words, makes in (
        (("engines", "downscale", ".", "small", *DOWN, "--json"), "small/in.png"),
        (("engines", "downscale", "*.png", "--out", "small", *DOWN, "--quiet"), "small/in.png"),
        (("engines", "downscale", "in.png", "rgb.jpg", "-o", "small", *DOWN), "small/rgb.png"),
        (("engines", "downscale", "in.png", "out.png", "--model", "."), "out.png"),
        (("engines", "upscale", "in.png", "out.png", *UP, "--foreign"), "out.png"),
        (("engines", "downscale-video", "in.mkv", "out.mkv", *DOWN), "out.mkv"),
        (("engines", "downscale-video", "in.mkv", "lr.mkv", "--out", "small", *DOWN, "--overwrite"), "small/in.mkv"),
        (("engines", "upscale-video", "lr.mkv", "out.mp4", *UP), "out.mp4"),
        (("engines", "batch", ".", "small", *DOWN), "small/manifest.jsonl"),
        (("engines", "triton", "down.onnx", "--out", "models"), "models/*/config.pbtxt"),
        (("engines", "build", "--onnx", "down.onnx", "--target", "jetson-agx-orin", "--print-trtexec"), "down.onnx"),
        (("engines", "inspect", "down.onnx", "--json"), "down.onnx"),
        (("engines", "inspect", "down.engine"), "down.engine"),
        (("engines", "--version"), "in.png"),
        (("dinn360", "info", "--ckpt", "x2.pth"), "x2.pth"),
        (("dinn360", "downscale", "in.png", "out.png", "--ckpt", "x2.pth"), "out.png"),
        (("dinn360", "evaluate", "--ckpt", "x2.pth", "--data", ".", "--out", "told"), "told/results.md"),
        (("dinn360", "train", "--config", "run.toml", "--data", ".", "--out", "run"), "run/state.pth"),
        (("export", "onnx", "--ckpt", "x2.pth", "--out", "graphs"), "graphs/up.onnx"),
        (("export", "estimate", "--onnx", "down.onnx", "--target", "h100", "--size", "256x128"), "down.onnx"),
    ):
        beside = ("in.png", "down.engine.json") if "down.engine" in words else ("in.png",)
        found.append(Trial(words, files=(*beside, "down.onnx") if "." in words else beside, makes=(makes,)))
    return found
