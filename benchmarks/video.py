"""What a long video and a static camera cost: python -m benchmarks.video still|memory --model up.onnx.

still: an LR clip in which little moves is upscaled with every tile decoded, and with unchanged tiles kept.
memory: the resident memory of upscale-video over a long clip, part by part.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import av
import click
import numpy as np
from PIL import Image

from benchmarks.record import Table, report
from engines.commands import Group
from engines.commands.types import SIZE, TILE
from engines.panorama.rescaler import Rescaler, Tile
from engines.panorama.still import StillRescaler
from engines.panorama.video import rescale_video
from engines.session import open_session
from engines.support.arrays import Image8
from engines.support.images import read_panorama

ROOT = Path(__file__).parents[1]
MODEL = click.option("--model", type=click.Path(path_type=Path), required=True, help="up.onnx.")
SAVE = click.option("--save", metavar="NAME", help="Also store the table as benchmarks/results/NAME.json.")
PARTS = 6  # of the clip, whose memory is told apart
_PAUSE = 0.2  # seconds between two looks at a process


def write_clip(path: Path, size: tuple[int, int], frames: int, fps: int, moving: bool) -> None:
    """A lossless clip of a shipped panorama that stands still but for a square, or all of which turns (`moving`)."""
    image = Image.fromarray(read_panorama(ROOT / "assets" / "courtyard.png")).resize((size[1], size[0]))
    still = np.asarray(image)
    side = size[0] // 8
    with av.open(str(path), "w") as out:
        video = out.add_stream("ffv1", rate=fps)
        video.height, video.width, video.pix_fmt = *size, "bgr0"
        for number in range(frames):
            picture: Image8 = np.roll(still, number, axis=1) if moving else still.copy()
            if not moving:
                left = (side // 2 * number) % (size[1] - side)
                picture[size[0] // 2 : size[0] // 2 + side, left : left + side] = still[:side, :side]
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            out.mux(video.encode(frame.reformat(format="bgr0")))
        out.mux(video.encode(None))


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """What a long video and a static camera cost."""


@main.command()
@MODEL
@SAVE
@click.option("--lr", type=SIZE, default="256x128", show_default=True, help="Of the frames.")
@click.option("--frames", type=int, default=6, show_default=True)
@click.option("--tile", type=TILE, default="32x32", show_default=True)
def still(model: Path, save: str | None, lr: tuple[int, int], frames: int, tile: Tile) -> None:
    """CPU time of a clip with a static camera and one small thing that moves, with and without the reuse of tiles."""
    rows = []
    with tempfile.TemporaryDirectory() as folder, open_session(model) as session:
        clip = Path(folder) / "lr.mkv"
        write_clip(clip, lr, frames, 25, moving=False)
        kept = StillRescaler(session, "up")
        seconds = []
        for rescaler in (Rescaler(session, "up"), kept):
            started = time.process_time()
            rescale_video(rescaler, clip, Path(folder) / "hr.mp4", tile=tile, foreign=True)
            seconds.append(time.process_time() - started)
        rows.append([frames, kept.reused / (kept.reused + kept.computed), seconds[1] / seconds[0]])
    columns = {"frames": "{}", "tiles reused": "{:.0%}", "CPU time, beside that without reuse": "{:.0%}"}
    notes = [
        f"LR {lr[1]}x{lr[0]}, tiles {tile}; without reuse {seconds[0]:.1f} s of CPU time, coding of the video included."
    ]
    report([Table("A static camera", columns, [list(row) for row in rows])], notes, save)


@main.command()
@MODEL
@SAVE
@click.option("--lr", type=SIZE, default="64x32", show_default=True, help="Of the frames.")
@click.option("--seconds", type=int, default=60, show_default=True, help="Of the clip.")
@click.option("--fps", type=int, default=4, show_default=True)
def memory(model: Path, save: str | None, lr: tuple[int, int], seconds: int, fps: int) -> None:
    """Resident memory of upscale-video over a clip in which everything moves, in parts of equal time."""
    with tempfile.TemporaryDirectory() as folder:
        clip, target = Path(folder) / "lr.mkv", Path(folder) / "hr.mp4"
        write_clip(clip, lr, seconds * fps, fps, moving=True)
        command = [sys.executable, "-m", "engines", "upscale-video", str(clip), str(target), "--foreign", "--quiet"]
        process = subprocess.Popen([*command, "--model", str(model)])
        found: list[float] = []
        while process.poll() is None:
            found.append(resident(process.pid))
            time.sleep(_PAUSE)
        if process.returncode:
            raise click.ClickException(f"upscale-video ended with {process.returncode}")
    parts = [max(part) for part in np.array_split([mib for mib in found if mib], PARTS) if len(part)]
    columns = {f"part {number} of {PARTS}": "{:.0f} MiB" for number in range(1, len(parts) + 1)}
    notes = [f"{seconds} s at {fps} frames/s, LR {lr[1]}x{lr[0]}: the most of each part of the run."]
    report([Table("Resident memory over a clip", columns, [[float(part) for part in parts]])], notes, save)


def resident(process: int) -> float:
    """Its memory in MiB; 0 when it is gone."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS")), 0.0)


if __name__ == "__main__":
    main(prog_name="python -m benchmarks.video")
