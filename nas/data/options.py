"""Options of a data set: text from the command line, checked once against a pydantic model."""

from collections.abc import Mapping
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from nas.errors import DataError


class DatasetOptions(BaseModel):
    """Base of every data set's options. Unknown names are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


OptionsT = TypeVar("OptionsT", bound=DatasetOptions)


def parse_options(model: type[OptionsT], options: Mapping[str, str], *, dataset: str) -> OptionsT:
    """The options as checked values.

    Args:
        model: the data set's options.
        options: text by name.
        dataset: name of the data set, for messages.

    Raises:
        DataError: a name is unknown or a value does not fit; the message lists the known names.
    """
    try:
        return model.model_validate(dict(options))
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        known = ", ".join(sorted(model.model_fields)) or "none"
        reason = "is not known" if first["type"] == "extra_forbidden" else f"does not fit: {first['msg']}"
        raise DataError(
            f"option {name}={first['input']!r} of data set {dataset} {reason}; its options are: {known}"
        ) from None
