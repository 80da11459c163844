"""Whole files of every sort that the commands read, small ones, made once: what is damaged afterwards."""

from __future__ import annotations

import functools
import io
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from click.testing import CliRunner
from conftest import ASSETS, save_graph
from PIL import Image

METADATA = {"scale": "2", "direction": "", "checkpoint_sha256": "ab" * 32, "fp32_ops": "[]", "precision": "fp32"}
TILES = {"tile_align": "2", "tile_halo": "4", "bytes_per_pixel": "64", "ops": "standard", "io": "float-nchw"}
XMP = """<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:GPano="http://ns.google.com/photos/1.0/panorama/" GPano:FullPanoWidthPixels="32"
 GPano:CroppedAreaLeftPixels="6"><GPano:FullPanoHeightPixels>16</GPano:FullPanoHeightPixels></rdf:Description>
</rdf:RDF></x:xmpmeta>"""


@dataclass(frozen=True)
class Corpus:
    """Made on first use: what a run does not damage costs it nothing. folder: of its own, kept while it lives."""

    folder: Path
    _holder: Any = field(repr=False, default=None)

    @classmethod
    def make(cls) -> Corpus:
        holder = tempfile.TemporaryDirectory(prefix="dinn360-fuzz-")
        return cls(Path(holder.name), holder)

    @functools.cached_property
    def pixels(self) -> np.ndarray:
        """uint8 (16,32,3) of a real panorama."""
        with Image.open(ASSETS / "forest.png") as image:
            return np.ascontiguousarray(np.asarray(image.convert("RGB"))[200:216, :32])

    @functools.cached_property
    def images(self) -> dict[str, bytes]:
        """Image files in ten formats and their variants, by name."""
        return _images(self.pixels)

    @functools.cached_property
    def graphs(self) -> dict[str, bytes]:
        """down.onnx and up.onnx: toys with all metadata of exported graphs."""
        made = {}
        for kind in ("down", "up"):
            path = save_graph(self.folder / f"{kind}.onnx", kind, {**METADATA, "direction": kind, **TILES})
            made[path.name] = path.read_bytes()
        return made

    @functools.cached_property
    def lr(self) -> dict[str, bytes]:
        """LR images as `downscale` makes them, by name."""
        made = {}
        (self.folder / "in.png").write_bytes(self.images["rgb.png"])
        for suffix in (".png", ".webp", ".tif"):
            path = self.folder / f"lr{suffix}"
            if not path.exists():
                self._engines("downscale", self.folder / "in.png", path, "--model", self._graph("down"))
            made[path.name] = path.read_bytes()
        return made

    @functools.cached_property
    def sidecar(self) -> dict[str, Any]:
        """The sidecar of the engine ENGINE, parsed."""
        path = self.folder / "down.engine"
        path.write_bytes(ENGINE)
        told = ("--target", "jetson-agx-orin", "--tensorrt", "10.3.0", "--max", "256x128")
        self._engines("build", "--onnx", self._graph("down"), "--engine", path, *told)
        content: dict[str, Any] = json.loads(path.with_name("down.engine.json").read_text())
        return content

    @functools.cached_property
    def checkpoint(self) -> dict[str, bytes]:
        """x2.pth and x2.safetensors of a tiny network."""
        from networks import build, tiny

        from dinn360.checkpoint import Checkpoint, save_checkpoint

        network = build(tiny(2))
        made = {}
        for name in ("x2.pth", "x2.safetensors"):
            save_checkpoint(self.folder / name, Checkpoint(network.config, network.state_dict(), {"steps": 3}))
            made[name] = (self.folder / name).read_bytes()
        return made

    @functools.cached_property
    def run(self) -> dict[str, bytes]:
        """The files of a finished training run by name, config.toml among them, and data/a.png."""
        from dataclasses import replace

        from training_runs import SHORT, config_file

        from dinn360.cli import main

        data, out = self.folder / "data", self.folder / "run"
        data.mkdir()
        (data / "a.png").write_bytes(self.images["rgb.png"])
        config = config_file(self.folder / "tiny.toml", data, replace(SHORT, steps=2, batch=1, save_every=1))
        done = CliRunner().invoke(main, ["train", "--config", str(config), "--out", str(out)])
        assert done.exit_code == 0, done.output
        kept = [path for path in out.iterdir() if path.is_file() and path.suffix in (".pth", ".csv", ".toml")]
        return {"data/a.png": self.images["rgb.png"]} | {f"run/{path.name}": path.read_bytes() for path in kept}

    @functools.cached_property
    def videos(self) -> dict[str, bytes]:
        """A clip in two containers, and the LR video of one."""
        made = {}
        for name, codec, pixel_format in (("in.mkv", "ffv1", "bgr0"), ("in.mp4", "libx264", "yuv420p")):
            _write_clip(self.folder / name, codec, pixel_format, self.pixels)
            made[name] = (self.folder / name).read_bytes()
        lr = self.folder / "lr.mkv"
        self._engines("downscale-video", self.folder / "in.mkv", lr, "--model", self._graph("down"))
        return {**made, "lr.mkv": lr.read_bytes()}

    @functools.cached_property
    def manifest(self) -> list[dict[str, Any]]:
        """The lines of manifest.jsonl after `batch` over two files, whose names are those of the case."""
        line = {
            "status": "done",
            "attempts": 1,
            "seconds": 0.1,
            "megapixels": 0.1,
            "bytes": 5,
            "error": "",
            "notes": [],
        }
        return [{"source": f"photos/{name}.png", "target": f"out/{name}.png", **line} for name in "ab"]

    def _graph(self, kind: str) -> Path:
        assert self.graphs
        return self.folder / f"{kind}.onnx"

    def _engines(self, *arguments: object) -> None:
        from engines.cli import main

        done = CliRunner().invoke(main, [str(argument) for argument in arguments])
        assert done.exit_code == 0, done.output


ENGINE = b"an engine of TensorRT stands here"


def _images(pixels: np.ndarray) -> dict[str, bytes]:
    rgb = Image.fromarray(pixels)
    other = Image.fromarray(np.roll(pixels, 5, axis=1))
    alpha = rgb.convert("RGBA")
    alpha.putalpha(Image.fromarray(pixels[..., 0]))
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "Maker", 6
    exif.get_ifd(0x8769).update({0xA002: 32, 0xA003: 16})
    deep = Image.fromarray(pixels[..., 1].astype(np.uint16) * 257)
    several: dict[str, Any] = {"save_all": True, "append_images": [other, rgb]}
    made: dict[str, tuple[Image.Image, dict[str, Any]]] = {
        "rgb.png": (rgb, {"exif": exif}),
        "alpha.png": (alpha, {}),
        "palette.png": (rgb.quantize(16), {"transparency": 3}),
        "grey16.png": (deep, {}),
        "rgb.jpg": (rgb, {"exif": exif, "xmp": XMP.encode(), "quality": 90}),
        "progressive.jpg": (rgb, {"progressive": True}),
        "cmyk.jpg": (rgb.convert("CMYK"), {}),
        "two.mpo": (rgb, several),
        "rgb.tif": (rgb, {"exif": exif}),
        "lzw.tif": (rgb, {"compression": "tiff_lzw"}),
        "deflate.tif": (alpha, {"compression": "tiff_deflate"}),
        "jpeg.tif": (rgb, {"compression": "jpeg"}),
        "bits.tif": (rgb.convert("1"), {"compression": "group4"}),
        "lossy.webp": (rgb, {"exif": exif, "xmp": XMP.encode()}),
        "lossless.webp": (alpha, {"lossless": True}),
        "moving.webp": (rgb, several),
        "rgb.bmp": (rgb, {}),
        "palette.bmp": (rgb.quantize(16), {}),
        "rgb.ppm": (rgb, {}),
        "grey.pgm": (rgb.convert("L"), {}),
        "one.gif": (rgb.quantize(32), {}),
        "moving.gif": (rgb.quantize(32), {**several, "loop": 0}),
        "rgb.jp2": (rgb, {}),
        "rgb.avif": (rgb, {"exif": exif}),
    }
    kinds = {".jpg": "JPEG", ".tif": "TIFF", ".jp2": "JPEG2000", ".pgm": "PPM"}
    files = {}
    for name, (image, options) in made.items():
        suffix = Path(name).suffix
        out = io.BytesIO()
        image.save(out, format=kinds.get(suffix, suffix[1:].upper()), **options)
        files[name] = out.getvalue()
    files["deep.png"] = _deep_png(pixels)
    try:
        import tifffile
    except ImportError:
        return files
    out = io.BytesIO()
    tifffile.imwrite(out, pixels.astype(np.uint16) * 257, photometric="rgb")
    return {**files, "deep.tif": out.getvalue()}


def _deep_png(pixels: np.ndarray) -> bytes:
    from engines.panorama.png import PngWriter

    out = io.BytesIO()
    writer = PngWriter(out, pixels.shape[:2], 3, 16, [(b"eXIf", b"II*\0\x08\0\0\0\0\0")])
    writer.write(pixels.astype(np.uint16) * 257)
    writer.finish([])
    return out.getvalue()


def _write_clip(path: Path, codec: str, pixel_format: str, pixels: np.ndarray) -> None:
    import av

    with av.open(str(path), "w") as out:
        video = out.add_stream(codec, rate=25)
        video.height, video.width, video.pix_fmt = *pixels.shape[:2], pixel_format
        sound = out.add_stream("aac" if path.suffix == ".mp4" else "pcm_s16le", rate=8000)
        for number in range(3):
            turned = np.ascontiguousarray(np.roll(pixels, number, axis=1))
            out.mux(video.encode(av.VideoFrame.from_ndarray(turned, format="rgb24").reformat(format=pixel_format)))
        format_, dtype = ("fltp", np.float32) if path.suffix == ".mp4" else ("s16", np.int16)
        samples = av.AudioFrame.from_ndarray(np.zeros((1, 1024), dtype), format=format_, layout="mono")
        samples.sample_rate, samples.pts = 8000, 0
        out.mux(sound.encode(samples))
        out.mux(video.encode(None))
        out.mux(sound.encode(None))


Whole = Callable[[Path], object]


def whole_image(path: Path) -> None:
    """Raises unless the file is an image whose last pixel can be read."""
    with Image.open(path) as image:
        image.load()


def whole_video(path: Path) -> None:
    """Raises unless the file is a video with frames."""
    import av

    with av.open(str(path)) as clip:
        if not list(clip.decode(video=0)):
            raise ValueError("no frame")


def whole_json(path: Path) -> None:
    """Raises unless the file is JSON."""
    json.loads(path.read_text(encoding="utf-8"))
