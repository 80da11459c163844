"""Ready graphs for a release page: a first result then needs neither torch nor a compiler, only ONNX Runtime.

One zip archive for each checkpoint and kind, with down.onnx and up.onnx, and SHA256SUMS over all of them. Unpacked, a
folder is what `engines.load` and `python -m engines downscale --model` take.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from engines.support.errors import UserError
from engines.support.files import atomic_path, prepare_outputs, sha256_of, write_text
from engines.support.temporary import temporary_folder_in
from export.config import ExportConfig
from export.onnx import export_checkpoint

KINDS: dict[str, ExportConfig] = {
    "standard": ExportConfig("standard"),
    "standard-fp16": ExportConfig("standard", precision="fp16"),
    "primitive": ExportConfig("primitive"),
    "primitive-fp16": ExportConfig("primitive", precision="fp16"),
}
SUMS = "SHA256SUMS"
_DATE = (1980, 1, 1, 0, 0, 0)  # of every file in an archive: the same graphs make the same bytes
_README = """{name}: graphs of DINN360, {kind}.

    pip install "dinn360[ort]"
    python -m engines downscale panorama.png lr.png --model {name}
    python -m engines upscale lr.png restored.png --model {name}
"""


def release(checkpoints: Sequence[Path], kinds: Sequence[str], out: Path) -> Iterator[Path]:
    """Exports each checkpoint in each kind to out/dinn360-<checkpoint>-<kind>.zip, and yields what is written.

    Raises:
        UserError: two checkpoints have one name, one cannot be exported, or the folder cannot be written.
    """
    names = [path.stem for path in checkpoints]
    if twins := {name for name in names if names.count(name) > 1}:
        raise UserError(
            f"expected checkpoints with names of their own, found {', '.join(sorted(twins))} twice", "ckpts"
        )
    prepare_outputs(out, [*(_archive(path, kind) for path in checkpoints for kind in kinds), SUMS])
    sums = []
    for checkpoint in checkpoints:
        for kind in kinds:
            path = out / _archive(checkpoint, kind)
            name = path.stem
            with temporary_folder_in(out) as folder:
                export_checkpoint(checkpoint, folder, KINDS[kind])
                write_text(folder / "README", _README.format(name=name, kind=kind))
                _pack(folder, name, path)
            sums.append(f"{sha256_of(path)}  {path.name}\n")
            yield path
    write_text(out / SUMS, "".join(sums))
    yield out / SUMS


def _archive(checkpoint: Path, kind: str) -> str:
    return f"dinn360-{checkpoint.stem}-{kind}.zip"


def _pack(folder: Path, name: str, target: Path) -> None:
    with atomic_path(target) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.iterdir()):
            entry = zipfile.ZipInfo(f"{name}/{file.name}", _DATE)
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, file.read_bytes(), zipfile.ZIP_DEFLATED)
