"""Attributes of a class as its docstring describes them (Google form), with their types."""

import dataclasses
import inspect
import re

_ATTRIBUTE = re.compile(r"    (\w+): (.+)")


def describe_attributes(cls: type) -> dict[str, str]:
    """Name to description, in the order of the docstring.

    Raises:
        ValueError: a dataclass has a field that its docstring does not describe, or the docstring one that is none.

    Examples:
        >>> from nas.latency.int8_speedup import Int8Speedup
        >>> describe_attributes(Int8Speedup)["kind"]
        '"measured" or "predicted".'
    """
    text = (inspect.getdoc(cls) or "").partition("Attributes:\n")[2]
    found: dict[str, str] = {}
    name = ""
    for line in text.splitlines():
        if match := _ATTRIBUTE.fullmatch(line):
            name = match[1]
            found[name] = match[2]
        elif line.startswith("     ") and name:
            found[name] += f" {line.strip()}"
        elif line.strip():
            break
    fields = {field.name for field in dataclasses.fields(cls)} if dataclasses.is_dataclass(cls) else set(found)
    if fields != set(found):
        raise ValueError(
            f"the docstring of {cls.__name__} must describe each field once, but differs in "
            f"{', '.join(sorted(fields ^ set(found)))}; correct its Attributes"
        )
    return found


def type_text(cls: type, name: str) -> str:
    """The annotation of an attribute as it is written, without quotation marks.

    Examples:
        >>> from nas.metrics import Score
        >>> type_text(Score, "recall")
        'dict[str, float]'
    """
    annotation = cls.__annotations__[name]
    if hasattr(annotation, "__metadata__"):  # Annotated
        annotation = annotation.__origin__
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    return re.sub(r"\b(?:typing|nas|hw_profiles)\.(?:\w+\.)*", "", text)
