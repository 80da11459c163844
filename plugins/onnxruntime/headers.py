"""Where the C header of ONNX Runtime comes from: no package of the runtime itself carries it.

In this order: an SDK (ONNXRUNTIME_ROOT), the system's folders, a copy that was fetched before, Debian's package
libonnxruntime-dev, an npm package that ships the header. The last two are known by checksum.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

from plugins.build import ROOT, BuildError

HEADER = "onnxruntime_c_api.h"
OLDEST_API = 18  # plugins/onnxruntime/api.h
FETCHED = ROOT / "build" / "onnxruntime" / "headers"
_INSIDE = ("include", "include/onnxruntime", "include/onnxruntime/core/session")
_SYSTEM = (Path("/usr/local"), Path("/usr"))

# Debian's package, from the first release that has it: a machine with an older one asks its own sources for this one.
DEBIAN_PACKAGE, DEBIAN_RELEASE = "libonnxruntime-dev", "trixie"
# Headers for iOS, of which these are the same on every system.
NPM_PACKAGE = "com.github.asus4.onnxruntime@0.4.9"
NPM_FOLDER = "package/Plugins/iOS~/onnxruntime.xcframework/ios-arm64/onnxruntime.framework/Headers"
SHA256 = {
    "Debian": {HEADER: "7783e9664bdb0b1b36145b5c8587dd1bc9a399aa000edf2e3dd03003cafc6882"},
    "npm": {
        HEADER: "acc0cf4b3f28d39339c76770d76164bb7a0637dc89f5fde764b4017b632f6743",
        "onnxruntime_ep_c_api.h": "e6c986c9e98583f8113b2c6bc3864814883b806d501cf24da4d239c45753e235",
        "onnxruntime_error_code.h": "5ce3b054e798eced8d14f5b86e98692fd33470463f96194ce0700a2d53dd8721",
    },
}


def include_folder() -> Path:
    """The folder of onnxruntime_c_api.h, fetched when the machine has none. Raises BuildError, one line."""
    if root := os.environ.get("ONNXRUNTIME_ROOT"):
        if (found := _in([Path(root)])) is None:
            raise BuildError(f"ONNXRUNTIME_ROOT {root}: expected include/{HEADER} of API {OLDEST_API} or newer")
        return found
    if (found := _in(_SYSTEM)) is not None:
        return found
    if not (FETCHED / HEADER).is_file():
        _fetch()
    return FETCHED


def _in(roots: list[Path] | tuple[Path, ...]) -> Path | None:
    for folder in (root / inside for root in roots for inside in _INSIDE):
        header = folder / HEADER
        if header.is_file():
            version = re.search(r"^#define ORT_API_VERSION (\d+)", header.read_text(errors="replace"), re.MULTILINE)
            if version and int(version[1]) >= OLDEST_API:
                return folder
    return None


def _fetch() -> None:
    reasons = []
    FETCHED.parent.mkdir(parents=True, exist_ok=True)
    sources: dict[str, Callable[[Path], Path]] = {"Debian": _from_debian, "npm": _from_npm}
    for name, source in sources.items():
        with tempfile.TemporaryDirectory(dir=FETCHED.parent) as scratch:
            try:
                folder = source(Path(scratch))
                _check(folder, SHA256[name])
                kept = Path(scratch) / "kept"
                kept.mkdir()
                for file in SHA256[name]:
                    shutil.copy(folder / file, kept / file)
                if not FETCHED.exists():
                    kept.rename(FETCHED)
                return
            except (BuildError, OSError, subprocess.SubprocessError, tarfile.TarError) as error:
                reasons.append(f"{name}: {' '.join(str(error).split())}")
    raise BuildError(
        f"no {HEADER} here, and none can be fetched ({'; '.join(reasons)}); "
        "set ONNXRUNTIME_ROOT to an ONNX Runtime release for C++, or install libonnxruntime-dev"
    )


def _check(folder: Path, sums: dict[str, str]) -> None:
    for file, expected in sums.items():
        found = hashlib.sha256((folder / file).read_bytes()).hexdigest()
        if found != expected:
            raise BuildError(f"{file}: expected SHA-256 {expected[:12]}, found {found[:12]}")


def _run(command: list[str], folder: Path) -> None:
    if shutil.which(command[0]) is None:
        raise BuildError(f"no {command[0]}")
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    if done.returncode != 0:
        lines = (done.stderr.strip() or done.stdout.strip() or "no reason given").splitlines()
        raise BuildError(f"{command[0]}: {lines[-1]}")


def _from_debian(scratch: Path) -> Path:
    """The header out of Debian's package, by a private apt: the system's own lists and packages stay as they are."""
    sources = scratch / "release.sources"
    sources.write_text(debian_sources(Path("/etc/apt"), Path("/etc/os-release").read_text()))
    (scratch / "lists" / "partial").mkdir(parents=True)
    options = {
        "Dir::Etc::SourceList": sources,
        "Dir::Etc::SourceParts": "-",
        "Dir::State::Lists": scratch / "lists",
        "Dir::State::Status": "/dev/null",
        "Dir::Cache": scratch / "cache",
        "Acquire::Languages": "none",
        "APT::Sandbox::User": "root",  # the scratch folder may be closed to apt's own user
    }
    apt = ["apt-get", "-q", *(word for name, value in options.items() for word in ("-o", f"{name}={value}"))]
    _run([*apt, "update"], scratch)
    _run([*apt, "download", DEBIAN_PACKAGE], scratch)
    package = next(scratch.glob(f"{DEBIAN_PACKAGE}_*.deb"), None)
    if package is None:
        raise BuildError(f"apt-get downloaded no {DEBIAN_PACKAGE}")
    _run(["dpkg-deb", "--extract", str(package), "package"], scratch)
    return next((scratch / "package").rglob(HEADER)).parent


def debian_sources(etc: Path, os_release: str) -> str:
    """apt's sources of the release that has the package, at the places where this machine gets its own.

    etc: /etc/apt. os_release: the text of /etc/os-release. Raises BuildError on other systems than Debian.
    """
    release = dict(re.findall(r'^(\w+)="?([^"\n]*)', os_release, re.MULTILINE))
    codename = release.get("VERSION_CODENAME", "")
    if release.get("ID") != "debian" or not codename:
        raise BuildError("not a Debian system")
    keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
    places: list[str] = []
    for file in sorted((etc / "sources.list.d").glob("*.sources")):
        for stanza in re.split(r"\n\s*\n", file.read_text()):
            fields = dict(re.findall(r"^(\w[\w-]*):[ \t]*(.*)$", stanza, re.MULTILINE))
            if codename in fields.get("Suites", "").split() and "main" in fields.get("Components", "").split():
                places += fields.get("URIs", "").split()
                keyring = fields.get("Signed-By", keyring) or keyring
    for file in [etc / "sources.list", *sorted((etc / "sources.list.d").glob("*.list"))]:
        if file.is_file():
            pattern = rf"^deb\s+(?:\[[^\]]*\]\s+)?(\S+)\s+{re.escape(codename)}\s+.*\bmain\b"
            places += re.findall(pattern, file.read_text(), re.MULTILINE)
    if not places:
        raise BuildError(f"apt has no source of {codename}")
    return f"Types: deb\nURIs: {places[0]}\nSuites: {DEBIAN_RELEASE}\nComponents: main\nSigned-By: {keyring}\n"


def _from_npm(scratch: Path) -> Path:
    """The headers out of the npm package (150 MB)."""
    _run(["npm", "pack", "--silent", NPM_PACKAGE], scratch)
    archive = next(scratch.glob("*.tgz"), None)
    if archive is None:
        raise BuildError("npm downloaded nothing")
    with tarfile.open(archive) as file:
        for name in SHA256["npm"]:
            member = file.extractfile(f"{NPM_FOLDER}/{name}")
            if member is None:
                raise BuildError(f"{NPM_PACKAGE} has no {name}")
            (scratch / name).write_bytes(member.read())
    return scratch
