"""A span of time as config.yaml writes it: seconds, or a text such as 90s, 5m, 1m30s, 2h."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BeforeValidator, Field

SPAN = re.compile(r"^(?=.)(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s)?$")
LONGEST = 24 * 3600.0


def seconds_of(value: object) -> object:
    """Seconds of "90s" or "1m30s"; a number is seconds already."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, str):
        return value
    found = SPAN.match(value.strip())
    if not found:
        raise ValueError(f'"{value}" is no span of time; write 90s, 5m or 1m30s')
    hours, minutes, seconds = (float(part or 0) for part in found.groups())
    return hours * 3600 + minutes * 60 + seconds


Seconds = Annotated[
    float,
    BeforeValidator(seconds_of, json_schema_input_type=float | str),
    Field(gt=0, le=LONGEST, allow_inf_nan=False),
]
