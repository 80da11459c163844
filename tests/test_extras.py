"""Without the packages of an extra a command ends in one line that names it."""

from __future__ import annotations

import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

import pytest

from engines.commands.packages import EXTRAS

ROOT = Path(__file__).parents[1]


def run_without(package: str, module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """python -m MODULE where `package` is not installed."""
    code = f"import runpy, sys; sys.modules[{package!r}] = None; sys.argv[0] = {module!r}; "
    code += f"runpy.run_module({module!r}, run_name='__main__')"
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, cwd=ROOT)


@pytest.mark.parametrize(
    ("package", "module", "arguments", "extras"),
    [
        ("torch", "dinn360", ["info", "--help"], "pip install 'dinn360[export]' or pip install 'dinn360[train]'"),
        ("tomli_w", "dinn360", ["train", "--help"], "pip install 'dinn360[train]'"),
        ("torch", "export", ["onnx", "--ckpt", "checkpoints/x2.pth"], "pip install 'dinn360[export]' or "),
        ("onnx_ir", "export", ["onnx", "--ckpt", "checkpoints/x2.pth"], "pip install 'dinn360[export]'"),
    ],
)
def test_a_missing_package_is_one_line(package: str, module: str, arguments: list[str], extras: str) -> None:
    done = run_without(package, module, *arguments)
    expected = f"error: this command needs the package {package}, which is not installed: {extras}"
    assert done.returncode == 2 and done.stderr.startswith(expected) and done.stderr.count("\n") == 1, done.stderr


def test_the_extras_are_those_of_the_package() -> None:
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    for package, extras in EXTRAS.items():
        for extra in extras:
            brought = setup["options.extras_require"][extra].replace("-", "_")
            assert package in brought, (package, extra)
