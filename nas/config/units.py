"""Numbers with a unit: text such as "30m", "5ms" or "500kB" as seconds, milliseconds or bytes."""

import math
import re
from collections.abc import Mapping
from typing import Annotated

from pydantic import BeforeValidator

from nas.errors import ConfigError

_TIME_S = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_LATENCY_MS = {"us": 1e-3, "ms": 1.0, "s": 1e3}
_SIZE_BYTES = {"b": 1.0, "kb": 1e3, "mb": 1e6, "gb": 1e9, "kib": 1024.0, "mib": 1024.0**2, "gib": 1024.0**3}


def quantity(text: str | float, units: Mapping[str, float], *, example: str) -> float:
    """Convert a number with a unit to a plain number. A number without a unit is returned as it is.

    Args:
        text: the number, with or without a unit; case does not matter.
        units: factor of each unit, by its lower-case name.
        example: valid text, shown in the error message.

    Raises:
        ConfigError: `text` is not a positive finite number, or its unit is not one of `units`.

    Examples:
        >>> quantity("1.5 h", {"m": 60.0, "h": 3600.0}, example="30m")
        5400.0
    """
    match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+(?:[eE][+-]?[0-9]+)?)\s*([a-zA-Z]*)\s*", str(text))
    unit = match[2].lower() if match else ""
    if not match or not 0 < float(match[1]) < math.inf or (unit and unit not in units):
        raise ConfigError(f"must be a positive number with one of {', '.join(units)}, but got {text!r}; try {example}")
    return float(match[1]) * (units[unit] if unit else 1.0)


def _unit(units: Mapping[str, float], example: str) -> BeforeValidator:
    return BeforeValidator(lambda value: None if value is None else quantity(value, units, example=example))


Seconds = Annotated[float, _unit(_TIME_S, "30m")]
Milliseconds = Annotated[float, _unit(_LATENCY_MS, "5ms")]
Bytes = Annotated[float, _unit(_SIZE_BYTES, "500kB")]
