"""Ports of this machine that `watch` forwards to a service's pods: a mapping, or with an address."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, field_validator

from devloop.config.section import Section

HIGHEST = 65535
_PORT = re.compile(r"^[1-9][0-9]{0,4}$")


def _local_port(text: str) -> str:
    if not _PORT.match(text) or int(text) > HIGHEST:
        raise ValueError(f'"{text}" is not a port of this machine; write one of 1 to {HIGHEST}: 8080')
    return text


def _pod_port(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= HIGHEST:
        raise ValueError(f"not a port of the pod; write one of 1 to {HIGHEST}, as in forward: {{8080: 3000}}")
    return value


class ForwardConfig(Section):
    """Ports of this machine whose connections go to a ready pod, as long as `devloop watch` runs."""

    ports: dict[
        Annotated[str, AfterValidator(_local_port)],
        Annotated[int, BeforeValidator(_pod_port, json_schema_input_type=int)],
    ] = Field(default_factory=dict, description="Port of this machine -> port of the pod.")
    address: str = Field(
        default="localhost",
        description="Where to listen: an IP address of this machine, or localhost (127.0.0.1 and ::1).",
    )

    @field_validator("address")
    @classmethod
    def _is_local_address(cls, value: str) -> str:
        if value == "localhost":
            return value
        try:
            ipaddress.ip_address(value)
        except ValueError:
            raise ValueError(
                f'"{value}" is not an IP address; write localhost, or 0.0.0.0 for all of this machine'
            ) from None
        return value


def _as_forward(value: object) -> object:
    """`{8080: 3000}` stands for `{ports: {8080: 3000}}`."""
    if value is None:
        return {}
    if isinstance(value, dict) and not value.keys() & ForwardConfig.model_fields.keys():
        return {"ports": value}
    return value


Forwards = Annotated[
    ForwardConfig,
    BeforeValidator(_as_forward, json_schema_input_type=dict[str, int] | ForwardConfig | None),
]
