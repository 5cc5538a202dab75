"""What Helm refused with, as devloop's errors (library and command alike). Pure."""

from __future__ import annotations

import re

from devloop.errors import PlatformError, ReleaseError
from devloop.model import Release

_GONE = re.compile(
    r"cluster unreachable|connection refused|no such host|i/o timeout|TLS handshake timeout", re.IGNORECASE
)
_CONFLICT = re.compile(r'conflicts? with "([^"]+)"')


def refusal(
    release: Release, action: str, message: str, *, unreachable: bool = False
) -> ReleaseError | PlatformError:
    """The error of one refused action; `message` is Helm's own text."""
    message = re.sub(r"^(Error: )?((INSTALL|UPGRADE) FAILED: )?", "", message.strip())
    head = f"helm {action} of {release} in namespace {release.namespace}: "
    if unreachable or _GONE.search(message):
        return PlatformError(head + message, hint="is the cluster running?")
    lines = message.splitlines() or [""]
    text, evidence = head + lines[0], tuple(lines[1:])
    if found := _CONFLICT.search(message):
        return ReleaseError(
            text,
            reason="Conflict",
            evidence=evidence,
            hint=f"{found[1]} wrote these fields last: write the same in the chart's values, or take them "
            f"back with helm upgrade --force-conflicts",
        )
    if "schema" in message or "values don't meet" in message:
        return ReleaseError(text, reason="InvalidValues", evidence=evidence)
    return ReleaseError(text, evidence=evidence)
