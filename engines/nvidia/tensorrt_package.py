"""TensorRT and TensorRT-RTX behind one door: two packages with one interface."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engines.support.errors import UserError
from engines.support.files import os_reason
from engines.targets import Runtime

NAMES: dict[Runtime, str] = {"tensorrt": "TensorRT", "tensorrt_rtx": "TensorRT-RTX"}
PLUGIN_LIBRARY = "libdinn360_trt.so"
PLUGIN_DOMAIN = "dinn360"
CPU_DOMAIN = "dinn360.cpu"  # operators that only ONNX Runtime's library for CPU cores has
PLUGINS = {"DeformConv2d", "DSTAttention"}
PLUGIN_VERSION, PLUGIN_NAMESPACE = "1", ""  # the attributes of every plugin node; see plugins/README.md
_INSTALL: dict[Runtime, str] = {
    "tensorrt": "on a Jetson it comes with JetPack, elsewhere: pip install tensorrt",
    "tensorrt_rtx": "pip install tensorrt-rtx-cu13",
}


@dataclass(frozen=True)
class TensorRT:
    """The package that was imported, and the log that its objects write to.

    Attributes:
        api: the module.
        runtime: which of the two it is.
        version: such as "10.3.0" or "1.7.1.116".
        log: an ILogger; `log.errors` has what was logged as an error since `log.clear()`, `log.warnings` the rest.
    """

    api: Any
    runtime: Runtime
    version: str
    log: Any

    @property
    def name(self) -> str:
        """As people write it, with its version."""
        return f"{NAMES[self.runtime]} {self.version}"

    @property
    def major(self) -> int:
        return int(self.version.split(".")[0])

    def member(self, enum: str, name: str, about: str) -> Any:
        """The member `name` of the enumeration `enum`; UserError about the parameter `about` where there is none.

        Values are never written down here: bit 1 of the network flags means one thing in TensorRT 10 and another in 11.
        """
        found = getattr(getattr(self.api, enum, None), name, None)
        if found is None:
            raise UserError(f"{self.name} has no {enum}.{name}", about)
        return found

    def creators(self) -> set[str]:
        """Names of the plugins that are registered, with our version and namespace."""
        return {
            creator.name
            for creator in self.api.get_plugin_registry().all_creators
            if (creator.plugin_version, creator.plugin_namespace) == (PLUGIN_VERSION, PLUGIN_NAMESPACE)
        }

    def load_plugins(self, path: Path) -> None:
        """Load a plugin library into the registry of this process, where it stays; loading it again is harmless.

        Raises:
            UserError: there is no such file, or it is no plugin library of this TensorRT.
        """
        if not path.is_file():
            raise UserError(f"{path}: expected a plugin library ({PLUGIN_LIBRARY}), found no such file", "plugins")
        if PLUGINS <= self.creators():
            return
        self.log.clear()
        try:
            handle = self.api.get_plugin_registry().load_library(str(path.resolve()))
        except (RuntimeError, TypeError) as error:
            raise UserError(f"{path}: {self.name} cannot load it: {error}", "plugins") from error
        if handle is None:
            raise UserError(f"{path}: {self.name} cannot load it: {self.log.reason()}", "plugins")

    def deserialize(self, runtime: Any, path: Path) -> Any:
        """The engine of a file, by a Runtime of this package. Needs a GPU. Raises UserError with its reason."""
        self.log.clear()
        try:
            engine = runtime.deserialize_cuda_engine(path.read_bytes())
        except OSError as error:
            raise UserError(f"{path}: cannot read: {os_reason(error)}") from error
        if engine is None:
            raise UserError(f"{path}: {self.name} cannot load it: {self.log.reason()}")
        return engine


def import_tensorrt(runtime: Runtime, why: str) -> TensorRT:
    """Import the package of a runtime. `why` starts the message and names what needs it.

    Raises:
        UserError: the package is not installed or cannot be loaded.
    """
    try:
        if runtime == "tensorrt_rtx":
            import tensorrt_rtx as api
        else:
            import tensorrt as api
    except ImportError as error:
        missing = f"the package {runtime}, which is not installed ({_INSTALL[runtime]})"
        broken = f"the package {runtime}, which cannot be loaded: {error}"
        raise UserError(f"{why} needs {missing if error.name == runtime else broken}") from error
    except (OSError, RuntimeError) as error:  # a library that the package needs
        raise UserError(f"{why} needs the package {runtime}, which cannot be loaded: {error}") from error
    package = TensorRT(api, runtime, str(api.__version__), _log(api))
    if runtime == "tensorrt" and package.major < 10:
        raise UserError(f"{why} needs TensorRT 10 or newer, found {package.version}")
    if runtime == "tensorrt":
        api.init_libnvinfer_plugins(package.log, "")  # DeformConv of --ops standard is one of TensorRT's own plugins
    return package


def _log(api: Any) -> Any:
    """A logger that keeps errors and warnings for messages, and prints nothing."""

    class Log(api.ILogger):
        def __init__(self) -> None:
            api.ILogger.__init__(self)
            self.clear()

        def clear(self) -> None:
            self.errors: list[str] = []
            self.warnings: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (api.ILogger.INTERNAL_ERROR, api.ILogger.ERROR):
                self.errors.append(message)
            elif severity == api.ILogger.WARNING:
                self.warnings.append(message)

        def reason(self) -> str:
            """The first error, without the source location in front; later ones are its consequences."""
            text = self.errors[0] if self.errors else "no reason given"
            return re.sub(r"^\[[\w.]+::\w+::\d+\] ", "", text).strip()

    return Log()
