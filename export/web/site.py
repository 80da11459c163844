"""A static site of LR panoramas: pictures, the graph, the runtime and one page for each panorama."""

from __future__ import annotations

import contextlib
import html
import json
import os
import shutil
import warnings
from pathlib import Path

from dinn360.checkpoint import load_checkpoint
from engines.panorama.record import check_model
from engines.panorama.sources import open_source
from engines.support.errors import UserError
from engines.support.files import make_folder, sha256_of, write_text
from engines.support.temporary import temporary_folder_in
from export.onnx import Form, export_up
from export.web.packages import ONNXRUNTIME, PACKAGES, THREE, VIEWER, copy, tarball

SUFFIXES = (".png", ".webp", ".jpg", ".jpeg", ".avif")  # what browsers read
MODULE = Path(__file__).parent / "module"
IMPORTS = {
    "three": "vendor/three/three.module.min.js",
    "@photo-sphere-viewer/core": "vendor/viewer/index.module.js",
    "onnxruntime-web/webgpu": "vendor/onnxruntime/ort.webgpu.bundle.min.mjs",
    "onnxruntime-web/wasm": "vendor/onnxruntime/ort.wasm.bundle.min.mjs",
}
FOLDERS = {ONNXRUNTIME: "onnxruntime", VIEWER: "viewer", THREE: "three"}


def write_site(ckpt: Path, pictures: list[Path], out: Path, runtime: Path | None = None) -> list[Path]:
    """Writes the site of `pictures`, which the checkpoint's model made, into the folder `out`; returns its pages.

    The site appears whole or not at all; an older one is replaced.

    Args:
        runtime: a folder with the tarballs of the npm packages; None: the cache, filled by npm once.

    Raises:
        UserError: a picture is missing, of another model or unfit for browsers, two have one name, the packages cannot
            be had, or `out` is a folder with something else in it.
    """
    checkpoint = load_checkpoint(ckpt)
    _check_target(out)
    for picture in pictures:
        _check_picture(picture, checkpoint.config.scale, sha256_of(ckpt))
    names = [picture.name for picture in pictures]
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise UserError(f"{doubled[0]}: two pictures of this name; a site has one folder of pictures")
    for package in PACKAGES:
        tarball(package, runtime)
    make_folder(out.parent)
    with temporary_folder_in(out.parent) as folder:
        site = folder / "site"
        _write(ckpt, pictures, site, runtime)
        if out.exists():
            old = folder / "old"
            out.rename(old)
        site.rename(out)
    return [out / page for page in _pages(pictures)]


def _write(ckpt: Path, pictures: list[Path], site: Path, runtime: Path | None) -> None:
    site.mkdir()
    site.chmod(0o755)
    export_up(ckpt, site, Form("web"))
    shutil.copytree(MODULE, site / "module")
    for package in PACKAGES:
        copy(package, site / "vendor" / FOLDERS[package], runtime)
    for page, picture in zip(_pages(pictures), pictures, strict=True):
        shutil.copyfile(picture, site / picture.name)
        write_text(
            site / page, _page(picture.name, [(p, q.stem) for p, q in zip(_pages(pictures), pictures, strict=True)])
        )
    versions = {package.name: package.version for package in PACKAGES}
    write_text(
        site / "site.json", json.dumps({"format": "dinn360-site", "version": 1, "packages": versions}, indent=2) + "\n"
    )


def _pages(pictures: list[Path]) -> list[str]:
    """The first panorama is the site's start."""
    return ["index.html", *(f"{picture.stem}-{number}.html" for number, picture in enumerate(pictures[1:], 2))]


def _page(picture: str, pages: list[tuple[str, str]]) -> str:
    template = (Path(__file__).parent / "page.html").read_text(encoding="utf-8")
    links = "".join(f'<a href="{html.escape(page)}">{html.escape(name)}</a> ' for page, name in pages)
    imports = json.dumps({"imports": {name: f"./{path}" for name, path in IMPORTS.items()}})
    return (
        template.replace("{{imports}}", imports)
        .replace("{{picture}}", html.escape(picture))
        .replace("{{links}}", links if len(pages) > 1 else "")
    )


def _check_target(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise UserError(f"{out}: expected a folder, found a file")
    if out.is_dir() and os.listdir(out) and not (out / "site.json").is_file():
        raise UserError(f"{out}: expected an empty folder or an older site, found something else")


def _check_picture(picture: Path, scale: int, model: str) -> None:
    if picture.suffix.lower() not in SUFFIXES:
        raise UserError(f"{picture}: expected a name that ends in {', '.join(SUFFIXES)}, found {picture.suffix!r}")
    with contextlib.closing(open_source(picture)) as source:
        if source.bits != 8:
            raise UserError(f"{picture}: expected 8 bits a channel, found {source.bits}")
        if source.record is None:
            warnings.warn(
                f"{picture}: downscale did not make this image (or its record is lost): shown as any picture, "
                "without hidden detail",
                stacklevel=3,
            )
        else:
            check_model(source.record, model, scale, picture)
