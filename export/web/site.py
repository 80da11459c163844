"""A static site of LR panoramas: pictures, the graph, the runtime and one page for each panorama.

A lossless LR picture of a model that was trained through a codec is written as a file of that codec, a tenth as large.
"""

from __future__ import annotations

import contextlib
import html
import json
import os
import shutil
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from dinn360.checkpoint import load_checkpoint
from engines.panorama.coding import Survives, plan_coding, problems_of
from engines.panorama.record import check_model
from engines.panorama.sinks import format_of, open_sink
from engines.panorama.sources import Source, open_source
from engines.support.errors import UserError
from engines.support.files import make_folder, sha256_of, write_text
from engines.support.temporary import temporary_folder_in
from export.config import ExportConfig
from export.onnx import export_up
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
    survives = Survives.of(checkpoint.codec, ckpt)
    _check_target(out)
    names = [_checked(picture, checkpoint.config.scale, sha256_of(ckpt), survives) for picture in pictures]
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise UserError(f"{doubled[0]}: two pictures of this name; a site has one folder of pictures")
    for package in PACKAGES:
        tarball(package, runtime)
    make_folder(out.parent)
    with temporary_folder_in(out.parent) as folder:
        site = folder / "site"
        _write(ckpt, dict(zip(names, pictures, strict=True)), site, runtime, survives)
        if out.exists():
            old = folder / "old"
            out.rename(old)
        site.rename(out)
    return [out / page for page in _pages(names)]


def _write(ckpt: Path, pictures: dict[str, Path], site: Path, runtime: Path | None, survives: Survives | None) -> None:
    """pictures: by their names in the site."""
    site.mkdir()
    site.chmod(0o755)
    export_up(ckpt, site, ExportConfig("web"))
    shutil.copytree(MODULE, site / "module")
    for package in PACKAGES:
        copy(package, site / "vendor" / FOLDERS[package], runtime)
    pages = _pages(list(pictures))
    links = [(page, picture.stem) for page, picture in zip(pages, pictures.values(), strict=True)]
    for page, (name, picture) in zip(pages, pictures.items(), strict=True):
        if name == picture.name:
            shutil.copyfile(picture, site / name)
        else:
            assert survives is not None
            _recode(picture, site / name, survives)
        write_text(site / page, _page(name, links))
    versions = {package.name: package.version for package in PACKAGES}
    write_text(
        site / "site.json", json.dumps({"format": "dinn360-site", "version": 1, "packages": versions}, indent=2) + "\n"
    )


def _pages(names: Sequence[str]) -> list[str]:
    """The first panorama is the site's start."""
    return ["index.html", *(f"{Path(name).stem}-{number}.html" for number, name in enumerate(names[1:], 2))]


def _recode(picture: Path, target: Path, survives: Survives) -> None:
    """Writes a lossless LR picture as the file that `downscale` would have made, with its record and metadata."""
    with contextlib.closing(open_source(picture)) as source, target.open("wb") as file:
        coding = plan_coding(target, format_of(target), min(survives.highest, 90), None, survives, False)
        sink = open_sink(target, file, (source.height, source.width), source.channels, 8, source.metadata, coding)
        sink.write(source.rows(0, source.height))
        assert source.record is not None
        sink.finish(replace(source.record, coding=str(coding)))


def _name_in_site(picture: Path, source: Source, survives: Survives | None) -> str:
    """Its own, or where it is to become a file of the model's codec, one with that suffix."""
    if (
        survives is None
        or survives.known
        or source.record is None
        or not source.coding.lossless
        or source.channels != 3
    ):
        return picture.name
    return picture.stem + {"webp": ".webp", "avif": ".avif"}.get(survives.codec, ".jpg")


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


def _checked(picture: Path, scale: int, model: str, survives: Survives | None) -> str:
    """The picture's name in the site; warns of what upscaling will lack."""
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
            for problem in problems_of(source.coding, source.record.coding, survives):
                warnings.warn(f"{picture}: {problem}", stacklevel=3)
        return _name_in_site(picture, source, survives)
