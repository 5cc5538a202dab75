"""Lines of logs that config.yaml mutes (logs.mute): probes, access logs, and what a pattern finds. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache

PROBES, ACCESS = "probes", "access"
Muted = Callable[[str], bool]

# One request per line, as nginx, Apache, uvicorn, gunicorn, Gin, Rails' and Node's loggers write it.
_REQUEST = re.compile(r"\b(?:GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS)\b[\s\"|]+(?P<path>/[^\s\"?]*)")
_STATUS = re.compile(r"(?<![\w.:/-])[1-5]\d\d(?![\w.:/-])")
_ERROR = re.compile(r"(?<![\w.:/-])5\d\d(?![\w.:/-])")
_PROBED = re.compile(r"/(?:-/)?(?:health\w*|livez?|liveness|readyz?|readiness|startupz?|ping|up|_?status)/?$")


@lru_cache(maxsize=8)
def muted_by(rules: tuple[str, ...]) -> Muted:
    """Whether a line is not shown. `rules`: "probes", "access", or regular expressions, found anywhere in it.

    A request that the server answered with a status of 500 or above is never muted by "probes" or "access".
    """
    patterns = [re.compile(rule) for rule in rules if rule not in (PROBES, ACCESS)]
    probes, access = PROBES in rules, ACCESS in rules

    def is_muted(line: str) -> bool:
        if any(pattern.search(line) for pattern in patterns):
            return True
        return (access and _is_access(line)) or (probes and _is_probe(line))

    return is_muted


def _is_access(line: str) -> bool:
    return bool(_REQUEST.search(line) and _STATUS.search(line)) and not _ERROR.search(line)


def _is_probe(line: str) -> bool:
    if not _is_access(line):
        return False
    request = _REQUEST.search(line)
    return "kube-probe/" in line or (request is not None and bool(_PROBED.search(request["path"])))
