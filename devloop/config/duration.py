"""Spans of time in config.yaml: `90s`, `1.5m`, `2h`, or a number of seconds."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BeforeValidator, Field

_DURATION = re.compile(r"^(\d+(?:\.\d+)?)\s*(ms|s|m|min|h)$")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


def seconds(value: object) -> object:
    """Seconds of "90s" or "10m"; anything that is not a string stays as it is."""
    if isinstance(value, bool):
        raise ValueError("true and false are not durations; write 90s or 10m")
    if not isinstance(value, str):
        return value
    found = _DURATION.match(value.strip())
    if not found:
        raise ValueError(f'"{value}" is not a duration; write 90s or 10m')
    return float(found[1]) * _UNITS[found[2]]


Duration = Annotated[
    float, BeforeValidator(seconds, json_schema_input_type=float | str), Field(gt=0, allow_inf_nan=False)
]
