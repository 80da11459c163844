"""The storeys: each imports only from those below, and a device gets by without torch and onnx."""

import ast
import re
import subprocess
import sys
from pathlib import Path
from typing import TypeVar

import pytest
from conftest import ASSETS, GraphMaker

T = TypeVar("T")
ROOT = Path(__file__).parents[1]
BELOW = {
    "export": {"dinn360", "engines", "plugins"},
    "dinn360": {"engines", "plugins"},
    "engines": {"plugins"},
    "plugins": set(),
}
NOT_ON_A_DEVICE = {"torch", "torchvision", "onnx", "onnx_ir"}
COMMAND_LINE = {"cli.py", "__main__.py", "commands"}  # files and a folder
RUNTIMES = {"onnxruntime", "tensorrt", "tensorrt_rtx"}


# Floors of engines/, from the ground up: a folder or module imports only from floors below its own.
FLOORS = [
    {"support"},
    {"targets", "onnx_file"},
    {"nvidia"},
    {"engine_file"},
    {"runtimes"},
    {"session", "panorama"},
    {"kinds", "batch", "building"},
    {"model"},
    {"inspection", "polygraphy", "triton"},
    {"commands"},
    {"cli"},
    {"__main__"},
]


def violations(source: str, storey: str, name: str) -> list[str]:
    """List the imports that file `name` of `storey` must not have."""
    forbidden = set(BELOW) - BELOW[storey] - {storey}
    if storey in ("engines", "plugins"):
        forbidden |= NOT_ON_A_DEVICE
    if storey == "engines" and not COMMAND_LINE & set(Path(name).parts):
        forbidden.add("click")
    found: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            modules = [node.module or ""]
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in (
            "__import__",
            "importlib.import_module",
        ):
            modules = [a.value for a in node.args[:1] if isinstance(a, ast.Constant) and isinstance(a.value, str)]
        else:
            continue
        found += [module for module in modules if module.split(".")[0] in forbidden]
    return found


def sources(storey: str) -> list[Path]:
    return sorted((ROOT / storey).rglob("*.py"))


@pytest.mark.parametrize("storey", BELOW)
def test_arrows_point_down(storey: str) -> None:
    found = {
        str(p.relative_to(ROOT)): violations(p.read_text(), storey, str(p.relative_to(ROOT / storey)))
        for p in sources(storey)
    }
    assert {path: modules for path, modules in found.items() if modules} == {}


def test_the_rule_sees_something() -> None:
    assert len(sources("engines")) > 4 and len(sources("dinn360")) > 2


@pytest.mark.parametrize(
    ("source", "storey", "name", "expected"),
    [
        ("import torch.nn as nn", "engines", "a.py", ["torch.nn"]),
        ("def f():\n    from onnx import helper", "engines", "a.py", ["onnx"]),
        ("import importlib\nimportlib.import_module('torch')", "engines", "a.py", ["torch"]),
        ("import onnxruntime", "engines", "a.py", []),
        ("import click", "engines", "session.py", ["click"]),
        ("import click", "engines", "cli.py", []),
        ("from dinn360.networks.dinn360 import DINN360", "engines", "a.py", ["dinn360.networks.dinn360"]),
        ("import export", "dinn360", "a.py", ["export"]),
        ("from engines import images\nimport torch", "dinn360", "a.py", []),
        ("from . import sphere", "dinn360", "a.py", []),
    ],
)
def test_the_rule_itself(source: str, storey: str, name: str, expected: list[str]) -> None:
    assert violations(source, storey, name) == expected


BLOCK = """
import importlib, sys

class Block:
    def __init__(self, names):
        self.names = names
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in self.names:
            raise ImportError(f"{name} is not on the device")

sys.meta_path.insert(0, Block(sys.argv[1].split(",")))
"""


def run_blocked(blocked: set[str], body: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python where the packages in `blocked` cannot be imported."""
    command = [sys.executable, "-c", BLOCK + body, ",".join(sorted(blocked)), *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)


def imported(source: str) -> set[str]:
    """Full names of what a file imports, wherever in it the import stands."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


def part_of(storey: str, module: str) -> str | None:
    """The folder or file of the storey that a full name lies in; None when it is another storey's, or the package."""
    first, _, rest = module.partition(".")
    part = rest.split(".")[0]
    folder = ROOT / storey / part
    there = first == storey and part and (folder.is_dir() or folder.with_suffix(".py").is_file())
    return part if there else None


def parts(storey: str) -> dict[str, set[str]]:
    """The folders and files of a storey, and which others of them each imports."""
    found: dict[str, set[str]] = {}
    for path in sources(storey):
        own = path.relative_to(ROOT / storey).parts[0].removesuffix(".py")
        others = {part for name in imported(path.read_text()) if (part := part_of(storey, name))}
        found.setdefault(own, set()).update(others - {own})
    return found


def circles(arrows: dict[T, set[T]]) -> set[T]:
    """What can be reached from itself."""
    found = set()
    for start in arrows:
        seen: set[T] = set()
        waiting = [start]
        while waiting:
            new = arrows.get(waiting.pop(), set()) - seen
            seen |= new
            waiting += new
        if start in seen:
            found.add(start)
    return found


def test_floors_of_engines() -> None:
    heights = {part: height for height, floor in enumerate(FLOORS) for part in floor}
    arrows = parts("engines")
    assert set(arrows) - {"__init__"} == set(heights)
    upwards = {(a, b) for a, others in arrows.items() if a in heights for b in others if heights[b] >= heights[a]}
    assert upwards == set()


@pytest.mark.parametrize("storey", ["plugins", "engines", "dinn360", "export"])
def test_no_circles_between_folders(storey: str) -> None:
    assert circles(parts(storey)) == set()


def module_of(name: str) -> Path | None:
    """The file of this project that a full name lies in, be it the name of a package, a module or something inside."""
    words = name.split(".")
    for length in range(len(words), 0, -1):
        place = ROOT.joinpath(*words[:length])
        for path in (place.with_suffix(".py"), place / "__init__.py"):
            if path.is_file():
                return path
    return None


def arrows_of(path: Path) -> set[Path]:
    """The files of this project that a file imports."""
    found = {module_of(name) for name in imported(path.read_text()) if name.split(".")[0] in BELOW}
    return {other for other in found if other is not None} - {path}


@pytest.mark.parametrize("storey", BELOW)
def test_no_circles_between_modules(storey: str) -> None:
    assert circles({path: arrows_of(path) for path in sources(storey)}) == set()


def test_networks_know_nothing_of_engines() -> None:
    """Nor does anything that they import, so that a network can be lifted out of this project with its folder."""
    reached: set[Path] = set()
    waiting = [path for path in sources("dinn360") if path.parent.name == "networks"]
    while waiting:
        new = arrows_of(waiting.pop()) - reached
        reached |= new
        waiting += new
    folders = {path.relative_to(ROOT).parts[:2] for path in reached}
    assert ("dinn360", "ops") in folders and ("dinn360", "sphere.py") in folders
    assert {folder for folder in folders if folder[0] != "dinn360"} == set()


def test_circles_are_seen() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}) == {"b", "c"}
    assert parts("engines")["batch"] >= {"session", "panorama", "support"}


OPTION = re.compile(r"(?<![\w-])--[a-z]")
SPEAK_TO_PROGRAMS = {  # whose options they write
    "engines/building/trtexec.py",
    "engines/polygraphy/recipe.py",
    "export/web/packages.py",  # npm
    "plugins/build.py",
    "plugins/cpu/training/library.py",  # what it is called for by `python -m plugins build`
    "plugins/onnxruntime/library.py",
    "plugins/tensorrt/headers.py",
    "plugins/testing/cuda_binaries.py",
}


def options_named(source: str, everywhere: bool) -> list[str]:
    """Texts of a library that name a command line's option: in what it raises and warns of, or anywhere in its code.

    A whole command ("python -m plugins build --cuda") is something else: it can be typed.
    """
    tree = ast.parse(source)
    told = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Raise)
        or (isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in ("UserError", "warn"))
    ]
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    texts = {
        id(node): node.value
        for root in ([tree] if everywhere else told)
        for node in ast.walk(root)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings
    }
    return [text for text in texts.values() if OPTION.search(text) and "python -m " not in text]


def test_libraries_name_no_options() -> None:
    """They say what is wrong about which parameter; a command puts its own option's name before it."""
    found = {}
    for path in (path for storey in BELOW for path in sources(storey)):
        name = str(path.relative_to(ROOT))
        if not COMMAND_LINE & set(path.parts):
            found[name] = options_named(path.read_text(), everywhere=name not in SPEAK_TO_PROGRAMS)
    assert {name: texts for name, texts in found.items() if texts} == {}


@pytest.mark.parametrize(
    ("source", "everywhere", "expected"),
    [
        ('raise UserError(f"--size: found {x}")', False, ["--size: found "]),
        ('HINT = "use --tile none"', True, ["use --tile none"]),
        ('HINT = "use --tile none"', False, []),
        ('warnings.warn("try --exact")', False, ["try --exact"]),
        ('raise UserError("none here: python -m plugins build --cuda")', True, []),
        ('def f():\n    """What --size gives."""\n    raise UserError("a--b, a -- b")', True, []),
    ],
)
def test_the_rule_of_options_itself(source: str, everywhere: bool, expected: list[str]) -> None:
    assert options_named(source, everywhere) == expected


def module_names(command_line: bool) -> list[str]:
    paths = [p.relative_to(ROOT) for p in sources("engines") if p.name != "__main__.py"]
    paths = [p for p in paths if bool(COMMAND_LINE & set(p.parts)) == command_line]
    return [".".join(p.with_suffix("").parts).removesuffix(".__init__") for p in paths]


IMPORT_ALL = "[importlib.import_module(name) for name in sys.argv[2:]]"


def test_engines_import_without_torch_onnx_and_any_runtime() -> None:
    done = run_blocked(NOT_ON_A_DEVICE | RUNTIMES | {"click"}, IMPORT_ALL, *module_names(command_line=False))
    assert done.returncode == 0, done.stderr


def test_engines_command_lines_import_without_torch_and_onnx() -> None:
    done = run_blocked(NOT_ON_A_DEVICE | RUNTIMES, IMPORT_ALL, *module_names(command_line=True))
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", sorted(NOT_ON_A_DEVICE - {"torchvision"}))
def test_the_block_blocks(name: str) -> None:
    done = run_blocked(NOT_ON_A_DEVICE, IMPORT_ALL, name)
    assert done.returncode != 0 and f"{name} is not on the device" in done.stderr


def test_a_panorama_is_rescaled_without_torch_and_onnx(make_graph: GraphMaker, tmp_path: Path) -> None:
    body = """
from engines.panorama.rescale_image import downscale_image
from engines.session import open_session
from engines.support.images import read_panorama, write_png
_, _, graph, source, target = sys.argv
with open_session(graph, threads=1) as session:
    write_png(target, downscale_image(session, read_panorama(source)))
assert not {"torch", "onnx"} & set(sys.modules)
"""
    target = tmp_path / "lr.png"
    blocked = NOT_ON_A_DEVICE | {"click", "tensorrt", "tensorrt_rtx"}
    done = run_blocked(blocked, body, str(make_graph()), str(ASSETS / "courtyard.png"), str(target))
    assert done.returncode == 0, done.stderr
    assert target.stat().st_size > 10_000


def test_without_a_runtime_the_message_names_the_package(make_graph: GraphMaker) -> None:
    body = """
from engines.session import open_session
from engines.support.errors import UserError
try:
    open_session(sys.argv[2])
except UserError as error:
    print(error)
"""
    done = run_blocked(RUNTIMES, body, str(make_graph()))
    assert "needs the package onnxruntime, which is not installed" in done.stdout, done.stderr


def test_engines_run_on_the_python_of_jetpack_6() -> None:
    """Python 3.10: TensorRT's bindings there are for no other. What is guarded by a version check is excluded."""
    guarded = ["--exclude", "tomllib", "--exclude", "typing.Self"]
    command = [
        sys.executable,
        "-c",
        "from vermin import main; main()",
        "--target=3.10-",
        "--violations",
        "--eval-annotations",
        *guarded,
    ]
    done = subprocess.run([*command, "engines", "plugins"], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
