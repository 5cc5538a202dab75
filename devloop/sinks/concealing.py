"""Known values of secrets and build arguments never get out: every sink's text passes through here (S30)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from devloop.errors import ConfigError
from devloop.files import read_text
from devloop.model import Service
from devloop.release import Release, base_values

SHORTEST_SECRET = 4  # shorter values would blank out half of every line
SHORTEST_ARGUMENT = 6
MASK = "***"
# Paths of Helm values that hold a secret; `existingSecret`, `secretName` and the like hold a name.
SECRET_PATH = re.compile(
    r"(^|\.)(secrets|credentials)\.(?!([\w.]*\.)?(name|existing\w*|create)$)"
    r"|(password|passwd|token|credential|api_?key|private_?key|database_?url)$"
    r"|[a-z0-9](?<!existing)(?<!pull)(?<!tls)_?secret$",
    re.IGNORECASE,
)

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
                    text = read_text(secret.file, "utf-8", "replace")
                except OSError:
                    continue  # the build says so
            parts = (part.strip() for part in text.splitlines())
            found.update({part: secret.id for part in parts if len(part) >= SHORTEST_SECRET})
    return {value: name for value, name in found.items() if value not in public}


def known_release_values(releases: Iterable[Release], environ: Mapping[str, str]) -> dict[str, str]:
    """Helm values that are secret: all that come from the environment, and texts of values files and `set`
    whose path says so. value -> name."""
    found: dict[str, str] = {}
    for release in releases:
        try:
            values = base_values(release, environ)
        except ConfigError:
            values = {}  # the trip says what is wrong
        secret = ((path, text) for path, text in _leaves(values) if SECRET_PATH.search(path))
        found.update({text: path for path, text in secret if len(text) >= SHORTEST_ARGUMENT})
        for path, variable in release.set_env.items():
            text = environ.get(variable, "")
            found.update({part: path for part in (text, *text.split()) if len(part) >= SHORTEST_SECRET})
    return found


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _leaves(item, f"{path}.{key}" if path else str(key))
    elif isinstance(value, str):
        yield path, value


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
