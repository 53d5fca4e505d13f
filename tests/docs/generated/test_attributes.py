"""Attributes of a class, from its docstring."""

import dataclasses
from typing import Annotated

import pytest

from docs.generated.attributes import describe_attributes, type_text
from nas.latency.latency import Latency


@dataclasses.dataclass
class Box:
    """A box.

    Attributes:
        width: in metres, and
            not in feet.
        tags: words.

    It is closed.
    """

    width: Annotated[float, "m"]
    tags: "list[str] | None"


@dataclasses.dataclass
class Undescribed(Box):
    """A box with a lid.

    Attributes:
        width: in metres.
        tags: words.
    """

    lid: bool = False


def test_descriptions_join_their_lines_and_end_with_the_section() -> None:
    assert describe_attributes(Box) == {"width": "in metres, and not in feet.", "tags": "words."}


def test_a_field_without_a_description_is_an_error() -> None:
    with pytest.raises(ValueError, match="Undescribed must describe each field once, but differs in lid"):
        describe_attributes(Undescribed)


def test_types_are_written_as_in_the_code() -> None:
    assert [type_text(Box, name) for name in ("width", "tags")] == ["float", "list[str] | None"]
    assert type_text(Latency, "p5_ms") == "float | None"
