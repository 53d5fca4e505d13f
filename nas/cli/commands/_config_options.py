"""Options of `nas search` and `nas compress`, generated from the fields of the configuration."""

import inspect
import json
import shlex
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

import typer
from pydantic.fields import FieldInfo

from nas.cli.commands._options import DATA_OPTION, parse_key_values
from nas.config import FIELD_GROUPS, SearchConfig, field_info, make_config, read_config
from nas.errors import ConfigError

REPEATABLE_FIELDS = ("data_options", "teacher", "warm_start", "baseline")
"""Fields with several values that may contain commas: their option is repeated, while that of other fields with several
values takes them separated by commas."""
FLAGS = {"data_options": DATA_OPTION}
"""Flags that are not the field's name: each use sets one option of several."""
METAVARS = {"data_options": "NAME=VALUE", "teacher": "TEACHER", "warm_start": "RUN", "baseline": "FILE.onnx"}

F = TypeVar("F", bound=Callable[..., None])


def takes_config_options(
    *, without: Collection[str] = (), only: Collection[str] = tuple(FIELD_GROUPS)
) -> Callable[[F], F]:
    """Replace the `**options` of a command by one option for each field of the configuration.

    Options are shown in one panel for each group of fields, with the field's type, default and description. All of them
    default to None, which says that the option is not given.

    Args:
        without: fields that get no option.
        only: fields that may get one.
    """

    def widen(command: F) -> F:
        own = [p for p in inspect.signature(command).parameters.values() if p.kind is not p.VAR_KEYWORD]
        options = [_option(name) for name in FIELD_GROUPS if name in only and name not in without]
        command.__signature__ = inspect.Signature([*own, *options])  # type: ignore[attr-defined]
        return command

    return widen


def load_config(file: Path | None, options: Mapping[str, Any]) -> SearchConfig:
    """The configuration of a TOML file and of options; options take precedence over the file's fields.

    Args:
        file: the TOML file; None for none.
        options: values of the options by field, as typer hands them over; None where an option is not given.

    Raises:
        ConfigError: the file or a value is invalid.
    """
    stored = read_config(file) if file else SearchConfig()
    return make_config(**({name: stored.get(name) for name in stored.fields_set} | config_fields(options)))


def command_line(config: SearchConfig) -> str:
    """The command that starts or resumes a search of this configuration, quoted for a shell, without any password."""
    words = ["nas", "compress" if config.search.model else "search"]
    for name, value in config.flat().items():
        field = field_info(name)
        if value in (None, [], {}) or value == json.loads(_json(field)):
            continue
        if name in REPEATABLE_FIELDS:
            entries = [f"{k}={v}" for k, v in value.items()] if isinstance(value, dict) else value
            words += [word for entry in entries for word in (flag_of(name), entry)]
        else:
            text = ",".join(map(_typed, value)) if isinstance(value, list) else _typed(value)
            words += [flag_of(name), text]
    return shlex.join(words)


def _json(field: FieldInfo) -> str:
    return json.dumps(field.get_default(call_default_factory=True), default=str)


def _typed(value: Any) -> str:
    """One value as it is typed."""
    return repr(value).removesuffix(".0") if isinstance(value, float) else str(value)


def config_fields(options: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that options give, as `nas.config.make_config` takes them; arguments as in `load_config`.

    Raises:
        ConfigError: a value is invalid.
    """
    return {name: _parse(name, value) for name, value in options.items() if value is not None and value != []}


def flag_of(field: str) -> str:
    """The flag of a field, such as --max-latency."""
    return FLAGS.get(field, f"--{field.replace('_', '-')}")


def _option(name: str) -> inspect.Parameter:
    field = field_info(name)
    option = typer.Option(
        flag_of(name), help=_help(name, field), metavar=METAVARS.get(name), show_default=False,
        rich_help_panel=FIELD_GROUPS[name].capitalize(),
    )  # fmt: skip
    annotation = Annotated[_option_type(name, field) | None, option]  # type: ignore[valid-type]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _help(name: str, field: FieldInfo) -> str:
    """The field's description, how several values are given, and the default."""
    several = ""
    if name in REPEATABLE_FIELDS:
        several = " Repeatable."
    elif _is_several(field):
        several = " Separated by commas."
    default = _default_text(field)
    return f"{field.description}{several}{f' (default {default})' if default else ''}"


def _option_type(name: str, field: FieldInfo) -> Any:
    """What typer reads for a field: numbers, paths and choices as they are, everything else as text."""
    kinds = [kind for kind in get_args(field.annotation) if kind is not NoneType]
    if name in REPEATABLE_FIELDS:
        return list[str]
    if field.annotation in (bool, int, float, str, Path) or get_origin(field.annotation) is Literal:
        return field.annotation
    if len(kinds) == 1 and kinds[0] in (int, float, Path):
        return kinds[0]
    return str  # a number with a unit, or words separated by commas


def _default_text(field: FieldInfo) -> str:
    """The default as it would be typed; empty where there is none."""
    default = field.get_default(call_default_factory=True)
    if isinstance(default, tuple):
        default = ",".join(f"{part:.3g}" if isinstance(part, float) else str(part) for part in default)
    if isinstance(default, float):
        default = f"{default:g}"
    return "" if default is False or default in (None, {}) else str(default)


def _parse(name: str, value: Any) -> Any:
    """The value of an option as the field takes it."""
    if name == "data_options":
        return parse_key_values(value)
    if name in REPEATABLE_FIELDS:
        return tuple(value)
    field = field_info(name)
    if not _is_several(field):
        return value
    words = tuple(value.split(","))
    return _parse_floats(name, words) if "float" in str(field.annotation) else words


def _is_several(field: FieldInfo) -> bool:
    """Whether a field holds a tuple, or one or None."""
    return tuple in (get_origin(field.annotation), *map(get_origin, get_args(field.annotation)))


def _parse_floats(name: str, words: tuple[str, ...]) -> tuple[float, ...]:
    try:
        return tuple(float(word) for word in words)
    except ValueError:
        got = ",".join(words)
        raise ConfigError(
            f"{flag_of(name)} must be numbers separated by commas, but got {got!r}; try 0.1,0.3,1"
        ) from None
