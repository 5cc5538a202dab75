"""Collecting refused fields, in the wording of k8s.io/apimachinery's field errors."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from typing import Any

from devloop_sandbox.objects.errors import FieldError

_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = rf"{_LABEL}(\.{_LABEL})*"
_EDGES = "and must start and end with an alphanumeric character"
_RULES: dict[str, tuple[str, int, str]] = {
    "subdomain": (
        _SUBDOMAIN,
        253,
        (
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', "
            f"{_EDGES} (e.g. 'example.com', regex used for validation is '{_SUBDOMAIN}')"
        ),
    ),
    "label": (
        _LABEL,
        63,
        (
            "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', "
            f"{_EDGES} (e.g. 'my-name',  or '123-abc', regex used for validation is '{_LABEL}')"
        ),
    ),
    "service": (
        "[a-z]([-a-z0-9]*[a-z0-9])?",
        63,
        (
            "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an "
            "alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', "
            "regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')"
        ),
    ),
    "label value": (
        "(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?",
        63,
        (
            "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', "
            f"{_EDGES} (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is "
            "'(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
        ),
    ),
    "key": (
        rf"({_SUBDOMAIN}/)?([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]",
        317,
        (
            f"name part must consist of alphanumeric characters, '-', '_' or '.', {_EDGES} (e.g. 'MyName',  "
            "or 'my.name',  or '123-abc', regex used for validation is "
            "'([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
        ),
    ),
    "config key": (
        r"(?!\.\.|\.$)[-._a-zA-Z0-9]+",
        253,
        (
            "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  "
            "or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')"
        ),
    ),
    "port name": (
        "(?=.*[a-z])(?!.*--)[a-z0-9]([a-z0-9-]*[a-z0-9])?",
        15,
        "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-), with at least one letter",
    ),
}


class Problems:
    """What is wrong with one object."""

    def __init__(self) -> None:
        self.found: list[FieldError] = []

    def invalid(self, path: str, value: Any, why: str) -> None:
        text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
        self.found.append(FieldError(path, "FieldValueInvalid", f"Invalid value: {text}: {why}"))

    def required(self, path: str, why: str = "") -> None:
        text = f"Required value: {why}" if why else "Required value"
        self.found.append(FieldError(path, "FieldValueRequired", text))

    def duplicate(self, path: str, value: Any) -> None:
        text = json.dumps(value, separators=(",", ":"))
        self.found.append(FieldError(path, "FieldValueDuplicate", f"Duplicate value: {text}"))

    def forbidden(self, path: str, why: str) -> None:
        self.found.append(FieldError(path, "FieldValueForbidden", f"Forbidden: {why}"))

    def too_long(self, path: str, most: int) -> None:
        text = f"Too long: may not be more than {most} bytes"
        self.found.append(FieldError(path, "FieldValueTooLong", text))

    def missing(self, path: str, value: str) -> None:
        self.found.append(FieldError(path, "FieldValueNotFound", f'Not found: "{value}"'))

    def one_of(self, path: str, value: Any, supported: Iterable[str]) -> None:
        """`value`, when given, must be among `supported`."""
        if value is not None and value not in supported:
            choice = ", ".join(f'"{name}"' for name in sorted(supported))
            text = f"Unsupported value: {json.dumps(value)}: supported values: {choice}"
            self.found.append(FieldError(path, "FieldValueNotSupported", text))

    def text(self, rule: str, path: str, value: Any) -> None:
        """`value` must be a name of the kind `rule`."""
        pattern, longest, why = _RULES[rule]
        if not isinstance(value, str) or not re.fullmatch(pattern, value):
            self.invalid(path, value, why)
        elif len(value) > longest:
            self.invalid(path, value, f"must be no more than {longest} bytes")

    def inside(self, path: str, value: Any) -> None:
        """A relative path that does not climb out."""
        if str(value or "").startswith("/"):
            self.invalid(path, value, "must be a relative path")
        elif ".." in str(value or "").split("/"):
            self.invalid(path, value, "must not contain '..'")

    def at_least(self, path: str, value: Any, least: int) -> None:
        if isinstance(value, int) and value < least:
            self.invalid(path, value, f"must be greater than or equal to {least}")

    def port(self, path: str, value: Any) -> None:
        """A port number, or (as a string) the name of one."""
        if isinstance(value, str):
            self.text("port name", path, value)
        elif not isinstance(value, int) or not 1 <= value <= 65535:
            self.invalid(path, value, "must be between 1 and 65535, inclusive")

    def unique(self, path: str, items: list[Any], key: Callable[[Any], Any], name: str) -> None:
        """No two items may share a key."""
        seen = set()
        for at, item in enumerate(items):
            value = key(item)
            if value is not None and value in seen:
                self.duplicate(f"{path}[{at}]{name}", value)
            seen.add(value)

    def labels(self, path: str, labels: Any) -> None:
        for key, value in (labels or {}).items():
            self.text("key", path, key)
            self.text("label value", path, value)
