"""The config of a run as a TOML file: read, overridden by options, checked, and stored whole in the run's folder.

[model]  preset, scale, and any field of its config (dinn360.networks), which overrides the preset's
[data]   train, val, photographs, …     fields of DataConfig
[train]  steps, batch, crop, lr, …      fields of TrainConfig
[run]    device, threads, …             fields of RunConfig
"""

from __future__ import annotations

import dataclasses
import os
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import tomli_w

from dinn360.data.datasets import LAYOUTS, SPLITS, Selection
from dinn360.networks import ARCHITECTURES, PRESETS, SCALES, NetworkConfig, preset
from dinn360.networks.errors import ConfigError
from dinn360.ops.cpu import KERNELS
from dinn360.training.config import TrainConfig
from dinn360.training.processes import DEVICES
from dinn360.training.settings import THREADS, checked, one_of, setting
from engines.support.errors import UserError
from engines.support.files import os_reason, write_text
from engines.support.reading import short

NAME = "config.toml"  # in the folder of a run
Tables = Mapping[str, Mapping[str, Any]]

_HEADER = """# All settings of this run. To repeat it: python -m dinn360 train --config THIS_FILE --out NEW_FOLDER

"""


@dataclass(frozen=True)
class DataConfig:
    """Where the images come from. Paths are relative to the current folder."""

    train: Path = setting(dataclasses.MISSING, "Folder of ERP panoramas.")
    val: Path | None = setting(None, "Folder of panoramas to validate on.")
    photographs: Path | None = setting(None, "Folder of ordinary photographs to mix in.")
    layout: str = setting("folder", "How the panoramas lie on disk.", one_of(tuple(LAYOUTS)))
    split: str | None = setting(None, "Of layouts that have splits; all by default.", one_of(tuple(SPLITS)))
    exclude: Path | None = setting(None, "Images to leave out: a text file, or OSRT's list of bad images.")
    names: Path | None = setting(None, "Text file: the only images to take, a name a line.")

    def selection(self) -> Selection:
        return Selection(self.layout, self.split, self.exclude, self.names)


@dataclass(frozen=True)
class RunConfig:
    """What the run starts from, and what it uses of this machine."""

    device: str = setting("auto", "auto: a GPU where there is one. Not run on a GPU so far.", one_of(DEVICES))
    threads: int | None = setting(None, "CPU threads; all cores by default.", THREADS)
    kernels: str = setting("auto", "Deformable convolutions on a CPU: C++ or composed in PyTorch.", one_of(KERNELS))
    tensorboard: bool = setting(False, "Also log to OUT/tensorboard; needs the extra `tensorboard`.")
    init: Path | None = setting(None, "Start from this checkpoint's weights (fine-tuning).")


@dataclass(frozen=True)
class RunFile:
    """Everything that a run is made of, but for its folder."""

    model: NetworkConfig
    data: DataConfig
    train: TrainConfig
    run: RunConfig

    def save(self, path: Path) -> None:
        """Writes all settings as TOML, paths absolute, whole or not at all."""
        tables = {
            "model": self.model.to_dict(),
            **{name: _plain(getattr(self, name)) for name in ("data", "train", "run")},
        }
        write_text(path, _HEADER + tomli_w.dumps(tables))


def key_name(section: str, key: str) -> str:
    """What Python calls a setting: "train.steps"."""
    return f"{section}.{key}"


def resolve(path: Path | None, options: Tables, name: Callable[[str, str], str] = key_name) -> RunFile:
    """The defaults, overridden by the file at `path`, overridden by `options` (by section; without those not given).

    name: what whoever gave `options` calls the setting of a section and key; a command line says "--steps".

    Raises:
        UserError: one line that names the file and the key, or the option, what was expected and what was found.
    """
    tables = read(path) if path else {}
    for section in tables:
        if section not in SECTIONS:
            raise UserError(f"{path}: {section}: expected one of the sections {', '.join(SECTIONS)}, found this one")
    layers = _Layers(path, tables, options, name)
    data = layers.values("data", DataConfig)
    if "train" not in data:
        where = name("data", "train")
        raise UserError(f"{where}: expected a folder of panoramas, here or as data.train of a config file")
    model = _model(layers)
    train = TrainConfig(**layers.values("train", TrainConfig))
    if train.crop % model.scale:
        where = layers.where("train", "crop")
        raise UserError(f"{where}: expected a multiple of the scale {model.scale}, found {train.crop}")
    return RunFile(model, DataConfig(**data), train, RunConfig(**layers.values("run", RunConfig)))


SECTIONS: dict[str, type] = {"model": NetworkConfig, "data": DataConfig, "train": TrainConfig, "run": RunConfig}


def read(path: Path) -> dict[str, Any]:
    """The tables of a TOML file. Raises UserError when it cannot be read or is none."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot read: {os_reason(error)}") from None
    except (ValueError, RecursionError) as error:  # a TOML error is a ValueError; so is a number too long for Python
        raise UserError(f"{path}: expected a TOML file, found: {short(str(error), 200)}") from None


class _Layers:
    """A file's tables below the options of a command line."""

    def __init__(self, path: Path | None, tables: Tables, options: Tables, name: Callable[[str, str], str]) -> None:
        self.path, self.tables, self.options, self.name = path, tables, options, name

    def given(self, section: str) -> dict[str, Any]:
        """What either says about the section, as it is."""
        table = self.tables.get(section, {})
        if not isinstance(table, dict):
            raise UserError(f"{self.path}: {section}: expected a table, found {short(table)}")
        return {**table, **self.options.get(section, {})}

    def values(self, section: str, cls: type) -> dict[str, Any]:
        """What either says about the section, checked."""
        return self.checked(section, cls, self.given(section))

    def checked(self, section: str, cls: type, values: Mapping[str, Any]) -> dict[str, Any]:
        """`values` of the section as the fields of `cls` hold them."""
        return {key: checked(self.where(section, key), cls, key, value) for key, value in values.items()}

    def choice(self, section: str, key: str, values: Mapping[str, Any], choices: tuple[Any, ...]) -> Any:
        """The value of a key that is one of `choices`, and of their type (4.0 is no 4)."""
        for choice in choices:
            if type(values[key]) is type(choice) and values[key] == choice:
                return choice
        expected = ", ".join(map(str, choices))
        raise UserError(f"{self.where(section, key)}: expected one of {expected}, found {short(values[key])}")

    def where(self, section: str, key: str) -> str:
        """Where the value comes from: "run.toml: train.steps", or what `name` says."""
        given = key in self.options.get(section, {}) or key not in self.tables.get(section, {})
        return self.name(section, key) if given else f"{self.path}: {section}.{key}"


def _model(layers: _Layers) -> NetworkConfig:
    given = {"preset": "edge", "scale": 4, **layers.given("model")}
    names = (*PRESETS, "custom") if {"levels", "architecture"} & set(given) else PRESETS
    name, scale = layers.choice("model", "preset", given, names), layers.choice("model", "scale", given, SCALES)
    start = preset(name, scale) if name in PRESETS else None
    architectures = (start.architecture,) if start else tuple(ARCHITECTURES)
    given.setdefault("architecture", architectures[0])
    architecture = layers.choice("model", "architecture", given, architectures)
    del given["architecture"]
    fields = layers.checked("model", ARCHITECTURES[architecture], given)
    try:
        return replace(start, **fields) if start else ARCHITECTURES[architecture](**fields)
    except ConfigError as error:
        raise UserError(f"{layers.path}: model.{error}" if layers.tables.get("model") else str(error)) from None


def _plain(section: Any) -> dict[str, Any]:
    """A section in TOML's types: no None, paths as absolute texts."""
    values = {f.name: getattr(section, f.name) for f in dataclasses.fields(section)}
    plain = {name: os.path.abspath(value) if isinstance(value, Path) else value for name, value in values.items()}
    return {name: value for name, value in plain.items() if value is not None}
