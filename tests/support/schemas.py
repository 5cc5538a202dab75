"""kubernetes-validate, with each schema file read once: its definitions alone are megabytes of JSON."""

from __future__ import annotations

import functools
from typing import Any

from kubernetes_validate import utils

utils.schema_contents = functools.cache(utils.schema_contents)


def validate(thing: dict[str, Any], version: str) -> None:
    """Raises utils.ValidationError where the object breaks the API's schema, unknown keys included."""
    utils.validate(thing, version, strict=True)
