"""Reading the project's documents: the commands, paths and imports that they promise."""

from __future__ import annotations

import argparse
import ast
import importlib
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

ROOT = Path(__file__).resolve().parents[1]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
MADE = {"out", "build", "runs", "dist", "recipe", "site"}  # folders that commands make
TOP = {"assets", "benchmarks", "checkpoints", "dinn360", "docs", "engines", "examples", "export", "plugins", "tests"}
CONSOLE = {"dinn360": "dinn360", "dinn360-export": "export", "dinn360-engines": "engines"}
OURS = r"(?:dinn360|engines|export|plugins|benchmarks)[\w.]*"
IMPORT = re.compile(rf"^\s*(?:from ({OURS}) import (\w+)|import ({OURS}))", re.MULTILINE)


@dataclass(frozen=True)
class Promise:
    """Something that a document says: the document, the line it stands on, and the text."""

    document: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.document}:{self.line}: {self.text}"


def documents() -> list[Path]:
    """All Markdown of the project."""
    found = [*ROOT.glob("*.md")]
    for folder in sorted(TOP):
        found += [p for p in sorted((ROOT / folder).rglob("*.md")) if "node_modules" not in p.parts]
    return found


def scripts() -> list[Path]:
    """Shell scripts and examples, whose imports nobody else looks at."""
    return [*sorted((ROOT / "tests").rglob("*.sh")), *sorted((ROOT / "examples").glob("*.py"))]


def _promise(path: Path, text: str, at: int, said: str) -> Promise:
    return Promise(str(path.relative_to(ROOT)), text.count("\n", 0, at) + 1, said)


def commands(path: Path) -> Iterator[Promise]:
    """Commands of ours in fenced blocks and in code spans."""
    text = path.read_text(encoding="utf-8")
    for block in FENCE.finditer(text):
        if block[1] in ("", "sh", "bash", "console"):
            body = block[2].replace("\\\n", "  ")
            for line in body.split("\n"):
                line = line.strip().removeprefix("$ ")
                if _is_command(line, console=bool(block[1])):
                    yield _promise(path, text, block.start(2), line)
    outside = FENCE.sub(lambda block: re.sub(r"[^\n]", " ", block[0]), text)
    for span in INLINE.finditer(outside):
        if _is_command(span[1]) and " " in span[1] and ": " not in span[1]:  # not a message that is quoted
            yield _promise(path, text, span.start(), span[1])


def _is_command(line: str, console: bool = True) -> bool:
    """console: the line may begin with a console script's name, which in other text begins sentences."""
    words = line.split()
    return line.startswith("python -m ") or bool(words) and words[0] in ("make", *(CONSOLE if console else ()))


def complaint(command: str) -> str | None:
    """What the real command line says against `command`, or None. Values are not looked at: IN and OUT may stand."""
    words = shlex.split(command, comments=True)
    words = words[: next((i for i, word in enumerate(words) if word in (";", "|", "&&", ">", "2>&1")), len(words))]
    if words[0] == "make":
        targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
        if "-C" in words:
            return None if (ROOT / words[words.index("-C") + 1] / "Makefile").exists() else "no such Makefile"
        unknown = [word for word in words[1:] if "=" not in word and word not in targets]
        return f"make: no target {unknown[0]}" if unknown else None
    module, arguments = (words[2], words[3:]) if words[0] == "python" else (CONSOLE[words[0]], words[1:])
    if module in ("pip", "pytest", "venv", "http.server", "torch.distributed.run"):
        return None
    try:
        found = importlib.import_module(module if module.startswith(("benchmarks.", "tests.")) else f"{module}.cli")
        if module.startswith("tests.") and hasattr(found, "__path__"):
            found = importlib.import_module(f"{module}.__main__")
    except ImportError as error:
        return f"{module}: {error}"
    main = getattr(found, "main", None)
    if isinstance(main, click.Command):
        return _click_complaint(main, arguments)
    return _argparse_complaint(main, arguments) if main is not None else f"{module}: has no main"


def _click_complaint(command: click.Command, arguments: list[str]) -> str | None:
    context = click.Context(command, info_name="-", resilient_parsing=True)
    while isinstance(command, click.Group) and arguments and not arguments[0].startswith("-"):
        inner = command.get_command(context, arguments[0])
        if inner is None:
            return f"no command {arguments[0]!r}"
        command, arguments = inner, arguments[1:]
        context = click.Context(command, info_name="-", resilient_parsing=True)
    context.resilient_parsing = False
    try:
        command.make_parser(context).parse_args(arguments)
    except click.UsageError as error:
        return error.format_message()
    return None


class _ParsingError(Exception):
    """Raised in place of parsing."""


def _argparse_complaint(main: Any, arguments: list[str]) -> str | None:
    """Calls `main` up to where it parses its arguments; what argparse complains of but missing values and types."""
    kept: list[argparse.ArgumentParser] = []

    def keep(self: argparse.ArgumentParser, *_: Any, **__: Any) -> Any:
        kept.append(self)
        raise _ParsingError

    original = argparse.ArgumentParser.parse_args
    argparse.ArgumentParser.parse_args = keep  # type: ignore[method-assign, assignment]
    try:
        main()
    except _ParsingError:
        pass
    finally:
        argparse.ArgumentParser.parse_args = original  # type: ignore[method-assign]
    known = {option for action in kept[0]._actions for option in action.option_strings}
    unknown = [word for word in arguments if word.startswith("--") and word.split("=")[0] not in known]
    return f"no option {unknown[0]}" if unknown else None


def missing_paths(path: Path) -> Iterator[Promise]:
    """Links and code spans that name a file or folder of the project that is not there."""
    text = path.read_text(encoding="utf-8")
    outside = FENCE.sub(lambda block: re.sub(r"[^\n]", " ", block[0]), text)
    for link in LINK.finditer(outside):
        target = link[1].split("#")[0]
        if target and "://" not in target and not target.startswith("mailto:") and not (path.parent / target).exists():
            yield _promise(path, text, link.start(), link[1])
    for span in INLINE.finditer(outside):
        said = span[1].rstrip("/")
        if re.fullmatch(r"[\w.-]+(/[\w.-]+)+", said) and said.split("/")[0] in TOP - MADE:
            if not (ROOT / said).exists() and not (path.parent / said).exists():
                yield _promise(path, text, span.start(), span[1])


def wrong_imports(path: Path) -> Iterator[Promise]:
    """Imports of our packages, in fenced Python and in scripts, that do not resolve."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        bodies = [block[2] for block in FENCE.finditer(text) if block[1] in ("python", "py")]
        for body in bodies:
            ast.parse(body)
    else:
        bodies = [text]
    for body in bodies:
        for found in IMPORT.finditer(body):
            module, name = found[1] or found[3], found[2]
            if not _resolves(module, name):
                yield _promise(path, text, text.find(found[0]), found[0].strip())


def _resolves(module: str, name: str | None) -> bool:
    try:
        inside = importlib.import_module(module)
        return name is None or hasattr(inside, name) or importlib.import_module(f"{module}.{name}") is not None
    except ImportError:
        return False
