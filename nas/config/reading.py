"""Readers of configurations: keyword arguments, TOML files, and the configuration of a run folder."""

import tomllib
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Unpack

from pydantic import ValidationError

from nas.config.field_groups import FIELD_GROUPS, GROUPS
from nas.config.keyword_types import SearchKeywords, takes_config_fields
from nas.config.search_config import SearchConfig
from nas.errors import ConfigError, one_line, printable
from nas.files import read_text

RENAMED_FIELDS = {"stop_when_flat": "patience", "distill_from": "distill_during", "qat_steps": "qat_scales"}
"""Present names of fields that run folders of version 0.1 hold."""


@takes_config_fields
def make_config(**fields: Unpack[SearchKeywords]) -> SearchConfig:
    """Make a checked configuration. Fields that are None take their default.

    Args:
        **fields: fields of the configuration:

    Raises:
        ConfigError: a field is unknown or its value is invalid; one line about the first such field.

    Examples:
        >>> config = make_config(target="cpu", max_latency="5ms", budget="30m")
        >>> config.search.budget
        1800.0
        >>> make_config(epochs=0)
        Traceback (most recent call last):
        nas.errors.ConfigError: epochs must be greater than 0, but got 0
    """
    try:
        return SearchConfig.model_validate({name: value for name, value in fields.items() if value is not None})
    except ValidationError as error:
        raise ConfigError(printable(_explain(error))) from None


def read_config(path: Path) -> SearchConfig:
    """Read the configuration of a TOML file, whose fields are in tables or flat.

    Raises:
        ConfigError: the file cannot be read, is not valid TOML, or holds an invalid field.
    """
    return make_config(**_read_toml(path))


def read_run_config(path: Path) -> SearchConfig:
    """Read the configuration of a run folder. Field names and values of version 0.1 are accepted.

    Raises:
        ConfigError: the file cannot be read, is not valid TOML, or holds an invalid field.
    """
    fields = {RENAMED_FIELDS.get(name, name): value for name, value in _read_toml(path).items()}
    if fields.get("distill_during") == "start":
        fields["distill_during"] = "search"
    present = {*fields, *(name for table in fields.values() if isinstance(table, dict) for name in table)}
    # A run from before these fields existed trained on all images, and asked teachers for the unchanged ones.
    before: dict[str, Any] = {"keep_duplicates": True, "teacher_views": 0}
    return make_config(**{name: value for name, value in before.items() if name not in present}, **fields)


def _read_toml(path: Path) -> Any:
    try:
        return tomllib.loads(read_text(path))
    except (tomllib.TOMLDecodeError, RecursionError, ValueError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{path} is not valid TOML: {one_line(error)}; correct it, or give another file") from None


def _explain(error: ValidationError) -> str:
    """The first error of a validation as one line: what must hold, and what was got."""
    first = error.errors()[0]
    path = [str(part) for part in first["loc"]]
    name = ".".join(part for part in path if part not in GROUPS) or ".".join(path)
    message, got = str(first["msg"]).removeprefix("Value error, "), f", but got {first['input']!r}"
    if first["type"] == "extra_forbidden":
        return _explain_unknown_field(path)
    if first["type"] == "value_error":  # raised by a validator here, which says what it got
        return f"{name} {message}" if message.startswith("must ") else message
    if message.startswith("Input should be "):
        message = message.removeprefix("Input should be ").partition(", unable to parse")[0]
        return one_line(f"{name} must be {message}{got}")
    message = message.removeprefix("String should ").removeprefix("Value should ")
    return one_line(f"{name} must {message}{got}")


def _explain_unknown_field(path: list[str]) -> str:
    name = path[-1]
    if name in FIELD_GROUPS:
        return f"{name} must be in [{FIELD_GROUPS[name]}], but is in [{path[0]}]"
    near = get_close_matches(name, FIELD_GROUPS, n=1)
    advice = f"did you mean {near[0]}?" if near else "`nas search --help` lists the fields"
    return f"{name} must be a field of the configuration, but there is none of this name; {advice}"
