"""The shape of `checks:` and of `max_image_size` in config.yaml (docs/checks.md)."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from devloop.config.section import Section

SIZE = re.compile(r"^(\d+(?:\.\d+)?)\s*(B|[kK]B|MB|GB|KiB|MiB|GiB|Ki|Mi|Gi)?$")
UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KI": 2**10, "MI": 2**20, "GI": 2**30}
Profile = Literal["default", "strict"]
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


def pattern(value: str) -> str:
    """A regular expression. Raises ValueError."""
    try:
        re.compile(value)
    except re.error as error:
        raise ValueError(f'"{value}" is not a regular expression: {error}') from error
    return value


Pattern = Annotated[str, AfterValidator(pattern)]
CREDENTIAL_KEYS = (
    "PASSWORD",
    "PASSWD",
    "PASSPHRASE",
    "PASS",
    "SECRET",
    "TOKEN",
    "CREDENTIAL",
    "CREDENTIALS",
    "API_KEY",
    "PRIVATE_KEY",
    "SECRET_KEY",
    "ACCESS_KEY",
    "AUTH_KEY",
)
CREDENTIAL_SHAPES = {
    "a private key": r"-----BEGIN [A-Z ]*PRIVATE KEY-----",
    "a URL with a password": r"\b[a-z][a-z0-9+.-]*://[^\s/:@]+:(?!\$)[^\s/:@]+@",
    "an API key (sk-…)": r"\bsk-[A-Za-z0-9_-]{16,}",
    "an API key (gsk_…)": r"\bgsk_[A-Za-z0-9]{16,}",
    "a GitHub token": r"\b(?:gh[pousr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,})",
    "an AWS key": r"\bA(?:KIA|SIA)[0-9A-Z]{16}\b",
    "a Google API key": r"\bAIza[0-9A-Za-z_-]{35}",
    "a Slack token": r"\bxox[abprs]-[0-9A-Za-z-]{10,}",
    "a signed token (JWT)": r"\beyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]{8,}",
}


class ShapeConfig(Section):
    """What the value of one key of a Secret has to be."""

    pattern: Pattern | None = Field(
        default=None, description="A regular expression that the value matches as a whole."
    )
    json_: bool = Field(default=False, alias="json", description="Whether the value is JSON.")
    min_bytes: int = Field(default=0, ge=0, description="The least length.")
    shared: bool = Field(
        default=False, description="Whether every Secret of a namespace that has the key has the same value."
    )


class ChecksConfig(Section):
    """Settings of `devloop check`."""

    profile: Profile = Field(
        default="default",
        description="default: what breaks a deployment is an error; strict: house rules are, too.",
    )
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
    secret_shapes: dict[str, ShapeConfig] = Field(
        default_factory=dict,
        description="Key of Secrets (* and ? are wildcards) -> what its value has to be.",
    )
    credential_keys: list[str] = Field(
        default=list(CREDENTIAL_KEYS),
        description="Last words of names whose values are credentials, in capitals with _ between the words.",
    )
    credential_shapes: dict[str, Pattern | None] = Field(
        default_factory=dict,
        description="Kind of credential -> regular expression, beside the known ones; null removes one.",
    )
