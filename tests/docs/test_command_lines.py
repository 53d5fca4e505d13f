"""Every `nas` command on every page is one that the command line takes: no unknown command, option or value."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

import nas
from nas.cli.commands._config_options import config_fields
from nas.cli.main import app
from nas.config import FIELD_GROUPS, make_config
from tests.docs.blocks import DOCS, ROOT, SHELL, blocks, logical_lines

PAGES = sorted([*DOCS.rglob("*.md"), ROOT / "README.md", ROOT / "RESULTS.md", *ROOT.glob("examples/**/README.md")])
INLINE = re.compile(r"(?<!`)`(nas [^`\n]+)`(?!`)")
COMMAND = typer.main.get_command(app)
VARIABLE = re.compile(r"\$(\w+|\{\w+\})")


def command_lines(path: Path) -> Iterator[tuple[str, str, bool]]:
    """(place, line, whether it is whole) of each `nas` command in a page's shell blocks and within its text."""
    for block in blocks(path):
        if block.language in SHELL:
            for line in logical_lines(block.text):
                for part in re.split(r"\s*(?:&&|;|\|)\s*", line):
                    if re.match(r"nas\b", part):
                        yield str(block), part, True
    for found in INLINE.finditer(path.read_text(encoding="utf-8")):
        yield str(path.relative_to(ROOT)), found[1], False


def check(line: str, *, whole: bool) -> None:
    """Parse a command line, and check the values that are fields of the configuration; nothing is run.

    Args:
        line: the line; of one with a shell variable only the command and its options are checked.
        whole: whether arguments must be there too.

    Raises:
        typer.TyperException: a command or option is unknown, or a value has the wrong type.
        ConfigError: a value is not one that the field takes.
    """
    command, words = _command(shlex.split(line)[1:])
    if VARIABLE.search(line) or "..." in line or re.search(r"\b[A-Z]{3,}\b", line):  # stands for what it says elsewhere
        known = {flag for p in command.params for flag in (*p.opts, *p.secondary_opts)} | {"--help"}
        if unknown := [word for word in words if word.startswith("--") and word.partition("=")[0] not in known]:
            raise typer.BadParameter(f"unknown options: {', '.join(unknown)}")
        return
    try:
        context = command.make_context(command.name, words)
    except typer.Exit:  # --help
        return
    except typer.TyperException as error:
        if whole or "Missing" not in error.format_message():
            raise
        return
    if command.name in ("search", "compress", "train"):
        fields = {name: value for name, value in context.params.items() if name in FIELD_GROUPS}
        make_config(**config_fields(fields))


def _command(words: list[str]) -> tuple[Any, list[str]]:
    command = COMMAND
    while words and hasattr(command, "commands") and not words[0].startswith("-"):
        name, *rest = words
        if name not in command.commands:
            if name.isupper():  # `nas COMMAND --help`
                return command, rest
            raise typer.BadParameter(f"there is no command {name!r}")
        command, words = command.commands[name], rest
    return command, words


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_of_a_page_are_commands_of_this_version(path: Path) -> None:
    faults = []
    for place, line, whole in command_lines(path):
        try:
            check(line, whole=whole)
        except Exception as error:  # every fault of a page in one message
            faults.append(f"{place}: {line}\n    {getattr(error, 'message', None) or error}")
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize("path", sorted(DOCS.rglob("*.md")), ids=lambda path: str(path.relative_to(DOCS)))
def test_python_of_a_page_compiles_and_its_names_of_nas_exist(path: Path) -> None:
    for block in blocks(path):
        if block.language == "python":
            compile(block.text, str(block), "exec")
    for name in re.findall(r"(?<![\w./])nas\.([A-Za-z]\w*)\(", path.read_text(encoding="utf-8")):
        assert name in nas.__all__, f"{path.name}: nas.{name}"


def test_benchmarks_that_pages_name_exist() -> None:
    named = {
        name for path in PAGES for name in re.findall(r"benchmarks\.([a-z_0-9]+)", path.read_text(encoding="utf-8"))
    }
    assert named
    assert named <= {file.stem for file in (ROOT / "benchmarks").glob("[!_]*.py")}


def test_pages_hold_commands() -> None:
    assert sum(1 for path in PAGES for _ in command_lines(path)) > 100


@pytest.mark.parametrize(
    "line",
    [
        "nas serach --target jetson",
        "nas search --tarket jetson",
        "nas search --budget soon",
        "nas search --sampler $sampler --sede 1",
        "nas targets list",
        "nas measure",
    ],
)
def test_a_command_that_does_not_exist_is_a_fault(line: str) -> None:
    with pytest.raises(Exception, match=r"no command|No such|Missing|unknown options|budget"):
        check(line, whole=True)
