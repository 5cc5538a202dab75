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


def known_values(services: Iterable[Service], environ: Mapping[str, str]) -> dict[str, str]:
    """The values of all build secrets and build arguments, as far as they can be read now: value -> name."""
    found: dict[str, str] = {}
    public: set[str] = set()  # a build argument may well be the service's own name
    for service in services:
        public |= {service.name, service.image}
        public.update(name for target in service.targets for name in (target.name, target.namespace))
        for name, value in service.build.args.items():
            if len(value) >= SHORTEST_ARGUMENT:
                found[value.strip()] = name
        for secret in service.build.secrets:
            text = environ.get(secret.env, "") if secret.env else ""
            if secret.file is not None:
                try:
                    text = secret.file.read_text("utf-8", "replace")
                except OSError:
                    continue  # the build says so
            parts = (part.strip() for part in text.splitlines())
            found.update({part: secret.id for part in parts if len(part) >= SHORTEST_SECRET})
    return {value: name for value, name in found.items() if value not in public}


class Concealer:
    """Puts [NAME] in the place of every known value, longest first, or *** where it has no name."""

    def __init__(self, values: Mapping[str, str] | Iterable[str] = ()) -> None:
        self._known: dict[str, str] = {}
        self._pattern: re.Pattern[str] | None = None
        self.learn(values)

    def learn(self, values: Mapping[str, str] | Iterable[str]) -> None:
        """Conceal these too, from now on: a config.yaml that changed brings new ones."""
        named = values if isinstance(values, Mapping) else dict.fromkeys(values, "")
        self._known.update({value: f"[{name}]" if name else MASK for value, name in named.items() if value})
        longest_first = sorted(self._known, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None

    def __call__(self, text: str) -> str:
        if self._pattern is None:
            return text
        return self._pattern.sub(lambda found: self._known[found[0]], text)


def concealer(values: Mapping[str, str] | Iterable[str]) -> Concealer:
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
