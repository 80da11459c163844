"""What is wrong with an argument is told before anything is read or written, in one line, by every command."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from conftest import GraphMaker
from PIL import Image

import dinn360.cli
import engines.cli
import export.cli
from engines.commands.types import NumberRange, PathType

GROUPS = {"engines": engines.cli.main, "dinn360": dinn360.cli.main, "export": export.cli.main}


def leaves(name: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    """(words, command) of every command below."""
    if not isinstance(command, click.Group):
        yield name, command
        return
    context = click.Context(command)
    for inner in command.list_commands(context):
        found = command.get_command(context, inner)
        assert found is not None
        yield from leaves(f"{name} {inner}", found)


COMMANDS = dict(pair for name, group in GROUPS.items() for pair in leaves(name, group))


def refused(words: str, *arguments: object) -> str:
    """The one line of the error."""
    group, *names = words.split()
    result = CliRunner().invoke(GROUPS[group], [*names, *map(str, arguments)])
    lines = result.stderr.splitlines()
    assert result.exit_code == 2 and len(lines) == 1 and lines[0].startswith("error: "), result.output
    assert len(lines[0]) < 1000
    return lines[0]


def paths() -> list[tuple[str, str]]:
    """(words, option or the place of an argument) of everything that takes the name of a file."""
    return [
        (words, parameter.opts[0])
        for words, command in COMMANDS.items()
        for parameter in command.params
        if isinstance(parameter.type, click.Path)
    ]


def test_there_are_commands_with_names_of_files() -> None:
    assert len(COMMANDS) > 15 and len(paths()) > 40


def test_every_name_of_a_file_has_the_type_that_checks_it() -> None:
    assert [
        (words, parameter.name)
        for words, command in COMMANDS.items()
        for parameter in command.params
        if isinstance(parameter.type, click.Path) != isinstance(parameter.type, PathType)
    ] == []
    bare = [(w, p.name) for w, c in COMMANDS.items() for p in c.params if isinstance(p, click.Argument)]
    typed = [(w, p.name) for w, c in COMMANDS.items() for p in c.params if isinstance(p.type, PathType)]
    assert [argument for argument in bare if argument not in typed] == []


@pytest.mark.parametrize(("words", "where"), paths())
def test_an_empty_name_and_one_that_is_too_long_are_refused(words: str, where: str) -> None:
    command = COMMANDS[words]
    for value, expected in (("", "an empty text"), ("x" * 300 + ".png", "255 bytes"), ("a/" * 3000, "4095")):
        given: list[str] = []
        for parameter in command.params:
            if isinstance(parameter, click.Argument):
                given += ["x"] * (parameter.nargs == -1) + [value if parameter.opts[0] == where else "x"]
            elif parameter.opts[0] == where:
                given += [where, *[value] * parameter.nargs]
        if not where.startswith("-") or "--" not in where:
            given = ["--", *given] if not any(word.startswith("-") for word in given) else given
        assert expected in refused(words, *given)


# Commands whose settings come from a file as well, and are checked where they are read; the others' types have bounds.
CHECKED = ("train", "ablate", "info", "export onnx")


def numbers(bounded: bool) -> list[tuple[str, str]]:
    """(words, option) of every number whose type says where it ends, or does not."""
    found = []
    for words, command in COMMANDS.items():
        for parameter in command.params:
            kind = parameter.type
            if isinstance(kind, click.types.IntParamType | click.types.FloatParamType):
                has = isinstance(kind, click.IntRange | NumberRange) and None not in (kind.min, kind.max)
                if has == bounded:
                    found.append((words, parameter.opts[0]))
    return found


def test_numbers_have_bounds() -> None:
    """Whole numbers that the type does not bound are checked by the settings of a run, which have rules."""
    assert [(words, option) for words, option in numbers(bounded=False) if not words.endswith(CHECKED)] == []
    assert len(numbers(bounded=True)) > 25


@pytest.mark.parametrize(("words", "option"), numbers(bounded=False))
def test_a_number_that_a_run_checks_has_bounds(words: str, option: str, tmp_path: Path) -> None:
    needed = {"ckpt": "x2"} if "export" in words else {"data": tmp_path, "out": tmp_path / "o", "val": tmp_path}
    given = [f"--{name}={value}" for name, value in needed.items()] if words != "dinn360 info" else []
    for value in (10**18, -(10**18)):
        assert refused(words, *given, f"{option}={value}").startswith(f"error: {option}"), words


@pytest.mark.parametrize(
    ("words", "arguments"),
    [
        ("engines downscale", ["in.png", "out.png", "--model", "x.onnx", "--threads", 5000]),
        ("engines batch", ["a", "b", "--model", "x.onnx", "--workers", 10**9]),
        ("engines build", ["--onnx", "x.onnx", "--target", "h100", "--batch", 10**9]),
        ("engines build", ["--onnx", "x.onnx", "--target", "h100", "--batch", "9" * 6000]),
        ("engines build", ["--onnx", "x.onnx", "--target", "h100", "--max", f"{10**9}x{10**9}"]),
        ("engines upscale", ["in.png", "out.png", "--model", "x.onnx", "--size", "9" * 5000 + "x1"]),
        ("engines upscale", ["in.png", "out.png", "--model", "x.onnx", "--size", "٣x٣"]),
        ("engines build", ["--target", "h100", "--onnx", "/"]),
        ("engines view", ["in.png", "out.png", "--model", "x.onnx", "--yaw", "nan"]),
        ("export estimate", ["--onnx", "x.onnx", "--target", "h100", "--product-share", "nan"]),
        ("engines view", ["in.png", "out.png", "--model", "x.onnx", "--size", "100000x100000"]),
    ],
)
def test_a_number_out_of_bounds_is_one_line(words: str, arguments: list[object]) -> None:
    assert next(str(a) for a in arguments[::-1] if str(a).startswith("--")) in refused(words, *arguments)


def test_an_unset_variable_rescales_nothing(
    tmp_path: Path, make_graph: GraphMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_graph("down")
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (8, 4)).save("a.png")
    before = set(tmp_path.rglob("*"))
    for source, target in (("", "out.png"), ("a.png", ""), ("", "")):
        assert "an empty text" in refused("engines downscale", source, target, "--model", model)
    assert set(tmp_path.rglob("*")) == before


def test_what_the_system_refuses_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Anything that reaches the command line as an OSError or a MemoryError, wherever it came from."""
    for error, line in (
        (FileNotFoundError(2, "x", "lost.png"), "error: lost.png: no such file"),
        (OSError(28, "x"), "error: no space left on the disk"),
        (MemoryError("9 TiB"), "error: not enough memory: 9 TiB"),
    ):

        def raising(*_: object, error: Exception = error) -> None:
            raise error

        monkeypatch.setattr("engines.inspection.describe_onnx", raising)
        assert refused("engines inspect", "a.onnx") == line
