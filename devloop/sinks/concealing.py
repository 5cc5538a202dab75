"""Known values of secrets and build arguments never get out: every sink's text passes through here (S30)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from devloop.model import Service

SHORTEST_SECRET = 4  # shorter values would blank out half of every line
SHORTEST_ARGUMENT = 6
MASK = "***"

Conceal = Callable[[str], str]


def known_values(services: Iterable[Service], environ: Mapping[str, str]) -> frozenset[str]:
    """The values of all build secrets and build arguments, as far as they can be read now."""
    found: set[str] = set()
    for service in services:
        found.update(value for value in service.build.args.values() if len(value) >= SHORTEST_ARGUMENT)
        for secret in service.build.secrets:
            text = environ.get(secret.env, "") if secret.env else ""
            if secret.file is not None:
                try:
                    text = secret.file.read_text("utf-8", "replace")
                except OSError:
                    continue  # the build says so
            found.update(part for part in text.splitlines() if len(part.strip()) >= SHORTEST_SECRET)
    return frozenset(value.strip() for value in found)


def concealer(values: Iterable[str]) -> Conceal:
    """A function that puts *** in the place of every one of `values`, longest first."""
    known = sorted(filter(None, values), key=len, reverse=True)
    if not known:
        return lambda text: text
    pattern = re.compile("|".join(map(re.escape, known)))
    return lambda text: pattern.sub(MASK, text)


def conceal_all(value: Any, conceal: Conceal) -> Any:
    """The same JSON value with `conceal` applied to every text in it."""
    if isinstance(value, str):
        return conceal(value)
    if isinstance(value, dict):
        return {key: conceal_all(item, conceal) for key, item in value.items()}
    if isinstance(value, list):
        return [conceal_all(item, conceal) for item in value]
    return value
