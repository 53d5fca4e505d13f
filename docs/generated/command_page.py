"""Page of the commands, read off the command line itself."""

import inspect
import types
import typing
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import typer

from nas.cli.main import app

from .markdown import code, table

INTRODUCTION = """\
# Commands

Generated from the command line, so it is what `nas COMMAND --help` shows. Most options of `nas search`, `nas compress`
and `nas train` are fields of the configuration, explained under [Configuration](config.md).

The exit status is 0 after success, 2 after an error that one line on standard error explains, 1 where room or memory is
missing or a check fails (`nas doctor`, `nas targets check`), and 130 after Ctrl-C.
"""
TYPES = {bool: "", str: "text", int: "integer", float: "number", Path: "path"}


def command_page() -> str:
    """The page: one section for each command, with its synopsis, arguments, options and example."""
    sections = [_section(words, command) for words, command in commands()]
    overview = table(
        ["command", "purpose"],
        [[f"[`{' '.join(words)}`](#{_anchor(words)})", _first_sentence(command.help)] for words, command in commands()],
    )
    return "\n\n".join([INTRODUCTION.rstrip(), overview, *sections]) + "\n"


def commands() -> Iterator[tuple[tuple[str, ...], Any]]:
    """Each visible command with its words, such as ("nas", "targets", "add"); a group comes before its commands."""
    yield from _commands(("nas",), typer.main.get_command(app))


def _commands(words: tuple[str, ...], command: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
    if len(words) > 1:
        yield words, command
    for name, below in getattr(command, "commands", {}).items():
        if not below.hidden:
            yield from _commands((*words, name), below)


def _section(words: Sequence[str], command: Any) -> str:
    arguments = [p for p in command.params if not _is_option(p)]
    options = [p for p in command.params if _is_option(p) and not p.hidden]
    synopsis = " ".join(
        [*words, *(["COMMAND"] if hasattr(command, "commands") else []), *map(_argument_name, arguments)]
    )
    example = (command.epilog or "").removeprefix("Example: ")
    parts = [
        f"## {' '.join(words)} {{ #{_anchor(words)} }}",
        inspect.cleandoc(command.help or ""),
        f"```text\n{synopsis}{' [OPTIONS]' if options else ''}\n```",
        *([f"Example:\n\n```sh\n{example}\n```"] if example else []),
    ]
    if arguments:
        rows = [[code(_argument_name(p)), p.help or ""] for p in arguments]
        parts.append(table(["argument", "meaning"], rows))
    for panel in dict.fromkeys(p.rich_help_panel for p in options):
        rows = [_option_row(p) for p in options if p.rich_help_panel == panel]
        parts.append(table([f"{(panel or 'Options').lower()} option" if panel else "option", "value", "meaning"], rows))
    return "\n\n".join(parts)


def _option_row(option: Any) -> list[str]:
    flags = ", ".join(code(flag) for flag in [*option.opts, *option.secondary_opts])
    meaning = option.help or ""
    default = option.default() if callable(option.default) else option.default
    if option.show_default and default not in (None, False, [], ()):
        shown = option.show_default if isinstance(option.show_default, str) else default
        meaning += f" (default {shown})"
    return [flags, code(_value_text(option)), meaning]


def _value_text(option: Any) -> str:
    """What follows the flag, in a word; empty for a switch."""
    if option.metavar:
        return str(option.metavar)
    kinds = [kind for kind in _members(option.type_descriptor.annotation) if kind is not types.NoneType]
    return ", ".join(filter(None, (TYPES.get(kind, str(kind)) for kind in kinds)))


def _members(annotation: Any) -> list[Any]:
    """The types, or literal values, that an annotation unites; of a list, those of its entries."""
    origin = typing.get_origin(annotation)
    if origin in (typing.Union, types.UnionType, list, tuple, typing.Literal, typing.Annotated):
        below = typing.get_args(annotation)[:1] if origin is typing.Annotated else typing.get_args(annotation)
        return [kind for part in below for kind in _members(part)]
    return [annotation]


def _is_option(parameter: Any) -> bool:
    return bool(parameter.opts) and parameter.opts[0].startswith("-")


def _argument_name(argument: Any) -> str:
    name = argument.metavar or argument.name.upper()
    several = "..." if argument.nargs == -1 else ""
    return f"{name}{several}" if argument.required else f"[{name}]{several}"


def _anchor(words: Sequence[str]) -> str:
    return "-".join(words)


def _first_sentence(text: str | None) -> str:
    return inspect.cleandoc(text or "").partition("\n\n")[0]
