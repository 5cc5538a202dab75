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
    public: set[str] = set()  # a build argument may well be the service's own name
    for service in services:
        public |= {service.name, service.image}
        public.update(name for target in service.targets for name in (target.name, target.namespace))
        found.update(value for value in service.build.args.values() if len(value) >= SHORTEST_ARGUMENT)
        for secret in service.build.secrets:
            text = environ.get(secret.env, "") if secret.env else ""
            if secret.file is not None:
                try:
                    text = secret.file.read_text("utf-8", "replace")
                except OSError:
                    continue  # the build says so
            found.update(part for part in text.splitlines() if len(part.strip()) >= SHORTEST_SECRET)
    return frozenset(value.strip() for value in found) - public


class Concealer:
    """Puts *** in the place of every known value, longest first; `learn` adds values at any time."""

    def __init__(self, values: Iterable[str] = ()) -> None:
        self._known: set[str] = set()
        self._pattern: re.Pattern[str] | None = None
        self.learn(values)

    def learn(self, values: Iterable[str]) -> None:
        self._known.update(filter(None, values))
        if self._known:
            longest_first = sorted(self._known, key=len, reverse=True)
            self._pattern = re.compile("|".join(map(re.escape, longest_first)))

    def __call__(self, text: str) -> str:
        return text if self._pattern is None else self._pattern.sub(MASK, text)


def concealer(values: Iterable[str]) -> Concealer:
    return Concealer(values)


def conceal_all(value: Any, conceal: Conceal) -> Any:
    """The same JSON value with `conceal` applied to every text in it."""
    if isinstance(value, str):
        return conceal(value)
    if isinstance(value, dict):
        return {key: conceal_all(item, conceal) for key, item in value.items()}
    if isinstance(value, list):
        return [conceal_all(item, conceal) for item in value]
    return value
