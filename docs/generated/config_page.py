"""Page of the configuration: each field of `SearchConfig` with its flag, type, default and meaning."""

import inspect
import re
import types
import typing
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo

from nas.cli.commands._config_options import flag_of
from nas.config import GROUPS, MODEL_FIELDS, TRAIN_FIELDS, make_config
from nas.config.search_config import FREE_FIELDS

from .markdown import code, table

INTRODUCTION = """\
# Configuration

Generated from the model `nas.SearchConfig`. Each field is a flag of `nas search` or `nas compress`, a keyword argument
of `nas.search` or `nas.compress`, and a key of a TOML file for `--config`, flat or in the table that heads its section.
A flag takes precedence over the file.

- *free*: may change when a run is resumed. Another value of any other field makes the run another one, which is refused
  with the difference.
- *model*: needs `--model`.
- *train*: `nas train` takes it too.
"""
UNITS = {
    "budget": "s, or text such as 30m",
    "max_latency": "ms, or text such as 5ms",
    "max_size": "bytes, or text such as 500kB",
    "worker_memory": "bytes, or text such as 4GB",
}
"""How quantities with a unit are given."""


def config_page() -> str:
    """The page: one table for each group of fields, and an example of a file."""
    parts = [INTRODUCTION.rstrip()]
    for group, fields in GROUPS.items():
        title, _, purpose = inspect.cleandoc(fields.__doc__ or "").partition(": ")
        rows = [_row(name, field) for name, field in fields.model_fields.items()]
        parts += [f"## [{group}] {{ #{title.lower()} }}", f"{purpose[:1].upper()}{purpose[1:]}"]
        parts.append(table(["field and flag", "type", "default", "meaning", ""], rows))
    return "\n\n".join([*parts, _example()]) + "\n"


def _row(name: str, field: FieldInfo) -> list[str]:
    marks = [
        word
        for word, fields in (("free", FREE_FIELDS), ("model", MODEL_FIELDS), ("train", TRAIN_FIELDS))
        if name in fields
    ]
    kind = UNITS.get(name) or _type_text(field.annotation)
    return [
        f"{code(name)}<br>{code(flag_of(name))}",
        kind,
        _default_text(field),
        field.description or "",
        ", ".join(marks),
    ]


def _type_text(annotation: Any) -> str:
    """The annotation in words: "integer", "texts", "auto or cpu"."""
    origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return " or ".join(code(str(part)) for part in parts)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(dict.fromkeys(_type_text(part) for part in parts if part is not types.NoneType))
    if origin is typing.Annotated:
        return _type_text(parts[0])
    if origin is tuple:
        return f"several {_type_text(parts[0])}s".replace("several texts", "words")
    if origin is dict:
        return "table"
    words = {bool: "yes or no", int: "integer", float: "number", str: "text"}
    return words.get(annotation, re.sub(r"^.*\.", "", getattr(annotation, "__name__", str(annotation))).lower())


def _default_text(field: FieldInfo) -> str:
    default = field.get_default(call_default_factory=True)
    if default is False:
        return "no"
    if default in (None, (), {}):
        return ""
    if isinstance(default, tuple):
        return code(",".join(f"{part:.3g}" if isinstance(part, float) else str(part) for part in default))
    return code(f"{default:g}" if isinstance(default, float) else str(default))


def _example() -> str:
    """A file with some fields set, as `SearchConfig` itself writes it."""
    config = make_config(
        target="cpu", space="plain", dataset="fer2013", data=Path("fer2013.csv"), budget="90m", max_latency="2ms"
    )
    groups = config.to_toml().split("\n\n")
    given = [
        "\n".join(
            line for line in group.splitlines() if line.startswith("[") or line.split(" = ")[0] in config.fields_set
        )
        for group in groups
    ]
    text = "\n\n".join(group for group in given if "=" in group)
    return (
        f"## An example\n\nWritten by `SearchConfig.to_toml`, the fields that are given only:\n\n```toml\n{text}\n```"
    )
