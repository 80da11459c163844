"""The parts of a wheel that setup.cfg cannot say: released checkpoints, and the C++ libraries for CPU cores.

Where CMake and a C++17 compiler are, a wheel carries libdinn360_ort.so and libdinn360_training.so (for x86-64 with
AVX-512, AVX2 and plain code, chosen at run time) and is one of this platform; elsewhere it is pure Python, and says so.
DINN360_LIBRARIES=yes ends with an error instead, DINN360_LIBRARIES=no never compiles. An editable install never does:
`python -m plugins build` is the command of a checkout.
"""

import os
import shutil
import sys
from pathlib import Path

from setuptools import Distribution, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT))  # a build in isolation leaves it out

from plugins import build as cpp  # noqa: E402
from plugins.cpu.training import library as training  # noqa: E402
from plugins.onnxruntime import library as onnxruntime  # noqa: E402


def with_libraries() -> bool:
    """Whether the wheel gets compiled libraries. Raises SystemExit for a variable that says something else."""
    choice = os.environ.get("DINN360_LIBRARIES", "auto")
    if choice not in ("auto", "yes", "no"):
        raise SystemExit(f"DINN360_LIBRARIES: expected auto, yes or no, found {choice}")
    if choice == "yes" and (reason := cpp.missing()) is not None:
        raise SystemExit(f"DINN360_LIBRARIES=yes: {reason}")
    return choice == "yes" or (choice == "auto" and cpp.missing() is None)


class BuildPackage(build_py):
    """Adds the released checkpoints, as dinn360/checkpoints, and the compiled libraries, as plugins/lib."""

    def run(self) -> None:
        if self.editable_mode:
            super().run()
            return
        target = Path(self.build_lib)
        shutil.rmtree(target, ignore_errors=True)  # files that are gone would come along
        super().run()
        self._take(sorted((ROOT / "checkpoints").glob("*.pth")), target / "dinn360" / "checkpoints")
        if with_libraries():
            try:
                libraries = [onnxruntime.build(show=print), training.build(show=print)]
            except cpp.BuildError as error:
                raise SystemExit(f"{error} (DINN360_LIBRARIES=no makes a wheel without libraries)") from error
            self._take(libraries, target / "plugins" / "lib")
        else:
            print("without compiled libraries; `python -m plugins build` makes them where a C++17 compiler is")

    def _take(self, files: list[Path], folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for file in files:
            shutil.copy2(file, folder / file.name)


class Package(Distribution):
    """With libraries it is one of a platform, as with extension modules."""

    def has_ext_modules(self) -> bool:
        return with_libraries()


class AnyPython(bdist_wheel):
    """The libraries are no extension modules: a wheel of a platform serves every Python 3."""

    def get_tag(self) -> tuple[str, str, str]:
        return "py3", "none", super().get_tag()[2]


setup(distclass=Package, cmdclass={"build_py": BuildPackage, "bdist_wheel": AnyPython})
