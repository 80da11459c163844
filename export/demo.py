"""The main job on one panorama: export, downscale, upscale, compare, and show."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dinn360.checkpoint import load_checkpoint
from dinn360.evaluation.interpolation import bicubic_round_trip, resize
from dinn360.evaluation.metrics import luma, psnr, ws_psnr, ws_ssim
from dinn360.networks import NetworkConfig
from engines.panorama.rescale_file import rescale_file
from engines.panorama.rescale_image import downscale_image, upscale_image
from engines.panorama.rescaler import Rescaler
from engines.session import open_session
from engines.support.arrays import Image8
from engines.support.files import make_folder
from engines.support.images import read_panorama, write_png
from engines.support.text import aligned
from export.config import ExportConfig, Lowering
from export.onnx import export_checkpoint
from export.parity import Row, compare
from export.pictures import closeup, error_picture
from export.web.site import write_site
from plugins.libraries import MissingLibraryError
from plugins.onnxruntime import library


@dataclass(frozen=True)
class Demo:
    """What the demo found and made."""

    parity: list[Row]
    quality: str
    files: dict[str, Path]


def best_lowering() -> tuple[Lowering, str | None]:
    """The lowering that runs fastest on this machine's cores, and what is missing for a faster one."""
    try:
        library.find()
    except MissingLibraryError as error:
        return "standard", f"{error}; meanwhile the graphs are of ops standard"
    return "cpu", None


def run(ckpt: Path, image_path: Path, out: Path, lowering: Lowering = "standard") -> Demo:
    """Everything of `make demo`; pictures and graphs go to `out`."""
    image = read_panorama(image_path)
    make_folder(out)
    exported = export_checkpoint(ckpt, out, ExportConfig(lowering))
    config = load_checkpoint(ckpt).config
    with open_session(exported.down) as down, open_session(exported.up) as up:
        lr = downscale_image(down, image)
        hr = upscale_image(up, lr, (image.shape[0], image.shape[1]))
    bicubic = bicubic_round_trip(image, config.scale)
    files = {
        "downscale graph": exported.down,
        "upscale graph": exported.up,
        "LR image": out / "lr.png",
        "reconstruction": out / "reconstruction.png",
        "error picture": out / "error.png",
        "close-up": out / "closeup.png",
    }
    write_png(files["LR image"], lr)
    write_png(files["reconstruction"], hr)
    write_png(files["error picture"], error_picture(image, {"bicubic": bicubic, config.title: hr}))
    write_png(files["close-up"], closeup(image, {"original": image, "bicubic": bicubic, config.title: hr}))
    return Demo(compare(ckpt, out, image), aligned(quality_table(image, lr, hr, bicubic, config)), files)


def site(ckpt: Path, image_path: Path, out: Path) -> Path:
    """The panorama as a site for browsers, in the folder `out`, its LR picture with the record; `run` comes first.

    Raises:
        UserError: the site's npm packages cannot be had.
    """
    lr = out.parent / f"{image_path.stem}.png"
    with open_session(out.parent / "down.onnx") as down:
        rescale_file(Rescaler(down, "down"), image_path, lr)
    return write_site(ckpt, [lr], out)[0]


def quality_table(image: Image8, lr: Image8, hr: Image8, bicubic: Image8, config: NetworkConfig) -> list[list[str]]:
    """Reconstructions against the original, and the LR image against anti-aliased bicubic; header first."""
    guide = resize(image, (lr.shape[0], lr.shape[1]), "bicubic")
    lines = [["reconstruction", "WS-PSNR Y", "WS-PSNR RGB", "WS-SSIM Y", "LR against bicubic"]]
    for name, restored, small in (
        (f"bicubic x{config.scale}", bicubic, None),
        (f"{config.title} x{config.scale}", hr, lr),
    ):
        lines.append(
            [
                name,
                f"{ws_psnr(luma(restored), luma(image)):.2f} dB",
                f"{ws_psnr(restored, image):.2f} dB",
                f"{ws_ssim(luma(restored), luma(image)):.4f}",
                "-" if small is None else f"{psnr(small, guide):.2f} dB",
            ]
        )
    return lines
