"""The shape of `checks:` and of `max_image_size` in config.yaml (docs/checks.md)."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from devloop.config.section import Section

SIZE = re.compile(r"^(\d+(?:\.\d+)?)\s*(B|[kK]B|MB|GB|KiB|MiB|GiB|Ki|Mi|Gi)?$")
UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KI": 2**10, "MI": 2**20, "GI": 2**30}
ServiceType = Literal["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"]


def size(value: object) -> object:
    """Bytes of "200MB" or "190MiB"."""
    if not isinstance(value, str):
        return value
    found = SIZE.match(value.strip())
    if not found:
        raise ValueError(f'"{value}" is not a size; write 200MB or 190MiB')
    unit = (found[2] or "").upper()
    return round(float(found[1]) * UNITS[unit if unit in UNITS else unit.removesuffix("B")])


Size = Annotated[int, BeforeValidator(size, json_schema_input_type=int | str), Field(ge=1)]


class ChecksConfig(Section):
    """Settings of `devloop check`."""

    ignore: list[str] = Field(
        default_factory=list,
        description="Rules switched off everywhere; annotation dev.devloop/ignore: for one object.",
    )
    service_types: dict[str, ServiceType] = Field(
        default_factory=dict, description="Kubernetes Service -> the type that it must have."
    )
    secret_keys: dict[str, list[str]] = Field(
        default_factory=dict, description="Secret -> the keys that it must have, with a value."
    )
