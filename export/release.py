"""Ready graphs for a release page: a first result then needs neither torch nor a compiler, only ONNX Runtime.

One zip archive for each checkpoint and kind, with down.onnx and up.onnx, a README, the licence and checksums, and
SHA256SUMS beside them. Unpacked, a folder is what `engines.load` and `python -m engines downscale --model` take.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path

from dinn360 import __version__
from dinn360.checkpoint import load_checkpoint
from engines.support.errors import UserError
from engines.support.files import atomic_path, make_folder, probe_outputs, sha256_of, write_text
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
_README = """# {name}

{title}, scale {scale}, as two ONNX graphs ({words}): `down.onnx` shrinks a panorama, `up.onnx` restores it. Any batch,
height and width. The JSON files say what each graph is. Nothing but ONNX Runtime is needed to run them:

    pip install 'dinn360[ort]'      # in a checkout: pip install '.[ort]'
    python -m engines downscale PANORAMA.png LR.png --model {name}
    python -m engines upscale LR.png RESTORED.png --model {name}

The LR picture must stay as it is: PNG, lossless WebP or TIFF. `sha256sum -c SHA256SUMS` checks these files.

Made by dinn360 {version} from the checkpoint {checkpoint} (SHA-256 {digest}).
Licence: Apache-2.0, in LICENSE.

## The checkpoint's provenance

{provenance}

What is known of the pictures that it was trained on, and their licences: checkpoints/README.md of the project.
"""
_WORDS = {
    "standard": "operators of the ONNX standard, DeformConv among them; for ONNX Runtime",
    "primitive": "elementary operators only; for TensorRT, TensorRT-RTX and anything else",
}


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
    for checkpoint in checkpoints:  # a bad one is told before the others are exported
        load_checkpoint(checkpoint)
    probe_outputs(out, [*(_archive(path, kind) for path in checkpoints for kind in kinds), SUMS])
    make_folder(out)
    written: list[Path] = []
    for checkpoint in checkpoints:
        for kind in kinds:
            path = out / _archive(checkpoint, kind)
            name = path.stem
            with temporary_folder_in(out) as folder:
                export_checkpoint(checkpoint, folder, KINDS[kind])
                write_text(folder / "README.md", _readme(checkpoint, kind, name))
                write_text(folder / "LICENSE", _licence())
                write_text(folder / SUMS, _sums(sorted(folder.iterdir())))
                _pack(folder, name, path)
            written.append(path)
            yield path
    write_text(out / SUMS, _sums(written))
    yield out / SUMS


def _readme(path: Path, kind: str, name: str) -> str:
    checkpoint, form = load_checkpoint(path), KINDS[kind]
    half = ", fp16 data and weights" if form.precision == "fp16" else ""
    told = [f"- {key}: {value}" for key, value in (checkpoint.provenance or {}).items()]
    return _README.format(
        name=name,
        title=checkpoint.config.title,
        scale=checkpoint.config.scale,
        words=_WORDS[form.lowering] + half,
        version=__version__,
        checkpoint=path.name,
        digest=sha256_of(path),
        provenance="\n".join(told) or "None is stored.",
    )


def _licence() -> str:
    """The text of this project's licence: in a checkout its file, else that of the installed package."""
    file = Path(__file__).parents[1] / "LICENSE"
    if file.is_file():
        return file.read_text(encoding="utf-8")
    package = metadata.distribution("dinn360")
    found = next((text for text in map(package.read_text, ("licenses/LICENSE", "LICENSE")) if text), None)
    if found is None:
        raise UserError("dinn360: expected its LICENSE beside the package, found none")
    return found


def _sums(paths: Sequence[Path]) -> str:
    """As sha256sum writes it."""
    return "".join(f"{sha256_of(path)}  {path.name}\n" for path in paths)


def _archive(checkpoint: Path, kind: str) -> str:
    return f"dinn360-{checkpoint.stem}-{kind}.zip"


def _pack(folder: Path, name: str, target: Path) -> None:
    with atomic_path(target) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.iterdir()):
            entry = zipfile.ZipInfo(f"{name}/{file.name}", _DATE)
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, file.read_bytes(), zipfile.ZIP_DEFLATED)
