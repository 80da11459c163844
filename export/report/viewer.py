"""The 360-degree viewer inside the page: Photo Sphere Viewer and three.js, the pinned npm packages of the web site.

A page that is complete in itself holds them as addresses with data in them, by which an import map finds them.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from pathlib import Path

from export.web.packages import THREE, VIEWER, Package, read

_CORE = "./three.core.min.js"  # what one file of three imports by its place, which an address with data has not


@dataclass(frozen=True)
class Viewer:
    """imports: the import map, JSON. style: its sheet. licences: of the packages, in full."""

    imports: str
    style: str
    licences: str


def load_viewer(runtime: Path | None = None) -> Viewer:
    """The viewer, from tarballs in the folder `runtime`, else from the cache, which npm fills once.

    Raises:
        UserError: the packages cannot be had.
    """
    three, viewer = read(THREE, runtime), read(VIEWER, runtime)
    imports = {
        "three/core": three["build/three.core.min.js"],
        "three": three["build/three.module.min.js"].replace(f'"{_CORE}"'.encode(), b'"three/core"'),
        "@photo-sphere-viewer/core": viewer["index.module.js"],
    }
    return Viewer(
        json.dumps({"imports": {name: _address(code) for name, code in imports.items()}}),
        viewer["index.css"].decode("utf-8"),
        "\n\n".join(_licence(package, held["LICENSE"]) for package, held in ((VIEWER, viewer), (THREE, three))),
    )


def _address(code: bytes) -> str:
    return "data:text/javascript;base64," + base64.b64encode(code).decode("ascii")


def _licence(package: Package, text: bytes) -> str:
    return f"{package.name} {package.version}\n\n{text.decode('utf-8').strip()}"
