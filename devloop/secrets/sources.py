"""Which values are secrets, and where they come from: names that say so, files, the environment (S30)."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from devloop.deploy.helm_values import base_values
from devloop.errors import ConfigError
from devloop.model import Release, Service

SHORTEST_VALUE = 6  # of a text in a values file whose path says that it is secret
LARGEST_FILE = 1 << 20  # bytes of a secret file that are read
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_TELLING = re.compile(r"(TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIAL)S?$|^(KEYS?|PASS)$")
_KEY = re.compile(r"(API|ACCESS|AUTH|DEPLOY|ENCRYPTION|HOST|LICENSE|MASTER|PRIVATE|SIGNING|SSH)KEYS?$")
_WITH_PASSWORD = re.compile(r"://[^/@\s:]*:[^/@\s]+@")
_PLACES = frozenset(("FILE", "PATH", "DIR", "DIRECTORY", "SOCK", "SOCKET", "HELPER"))
_SWITCHES = frozenset(("0", "1", "true", "false", "yes", "no", "on", "off", "none", "null"))
# Paths of Helm values that hold a secret; `existingSecret`, `secretName` and the like hold a name.
SECRET_PATH = re.compile(
    r"(^|\.)(secrets|credentials)\.(?!([\w.]*\.)?(name|existing\w*|create)$)"
    r"|(password|passwd|token|credential|api_?key|private_?key|database_?url)$"
    r"|[a-z0-9](?<!existing)(?<!pull)(?<!tls)_?secret$",
    re.IGNORECASE,
)


def names_a_secret(name: str) -> bool:
    """Whether a variable's or a build argument's name says that its value is secret: NPM_TOKEN, apiKey."""
    words = [word.upper() for word in _WORDS.findall(name)]
    if not words or words[-1] in _PLACES:
        return False
    return any(_TELLING.search(word) or _KEY.search(word) for word in words)


def secret_arguments(service: Service) -> dict[str, str]:
    """The build arguments that are secrets: by name, by a password in a URL, or listed in config.yaml."""
    return {
        name: value
        for name, value in service.build.args.items()
        if name in service.build.hidden or names_a_secret(name) or _WITH_PASSWORD.search(value)
    }


@dataclass(frozen=True, slots=True)
class Sources:
    """Where secret values come from. `listed`: names in `secrets:` of config.yaml."""

    services: tuple[Service, ...] = ()
    releases: tuple[Release, ...] = ()
    environ: Mapping[str, str] | None = None
    listed: frozenset[str] = frozenset()
    root: Path | None = None

    def values(self) -> Iterator[tuple[str, str]]:
        """(name, value) of every secret that can be read now. Blocking."""
        environ = self.environ or {}
        for name, value in environ.items():
            listed = name in self.listed
            if listed or (names_a_secret(name) and not _is_switch(value) and not _is_place(value)):
                yield name, value
        for service in self.services:
            for name, value in secret_arguments(service).items():
                if name in service.build.hidden or not _is_switch(value):
                    yield name, value
            for secret in service.build.secrets:
                given = environ.get(secret.env, "") if secret.env else ""
                yield secret.id, _read(secret.file) if secret.file is not None else given
        for release in self.releases:
            yield from _of_release(release, environ)

    def public(self) -> frozenset[str]:
        """Names that stand everywhere: to hide them would hide nothing."""
        targets = [target for service in self.services for target in service.targets]
        own = [name for service in self.services for name in (service.name, service.image)]
        return frozenset((*own, *(name for one in targets for name in (one.name, one.namespace))))

    def roots(self) -> tuple[Path, ...]:
        builds = [service.build for service in self.services]
        folders = [folder for one in builds for folder in (one.context, one.dockerfile.parent)]
        return tuple(dict.fromkeys([*([self.root] if self.root else []), *folders]))

    def stamp(self) -> tuple[object, ...]:
        """Changes when a file does that values come from."""
        paths = [secret.file for service in self.services for secret in service.build.secrets]
        paths += [file.path for release in self.releases for file in release.values]
        return tuple(_stamp(path) for path in paths if path is not None)


def _is_switch(value: str) -> bool:
    return value.strip().lower() in _SWITCHES


def _is_place(value: str) -> bool:
    with suppress(ValueError):
        return value.startswith("/") and os.path.lexists(value)
    return False


def _of_release(release: Release, environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """All that comes from the environment, and texts of values files and `set` whose path says so."""
    for path, variable in release.set_env.items():
        yield path, environ.get(variable, "")
    try:
        values = base_values(release, environ)
    except ConfigError:
        return  # the trip reports what is wrong
    for path, text in _leaves(values):
        if SECRET_PATH.search(path) and path not in release.set_env and len(text) >= SHORTEST_VALUE:
            yield path, text


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _leaves(item, f"{path}.{key}" if path else str(key))
    elif isinstance(value, str):
        yield path, value


def _read(path: Path) -> str:
    """A secret file's text; "" where there is none: the build reports it. Never waits at a fifo."""
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb", 0) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                return ""
            return file.read(LARGEST_FILE).decode(errors="replace")
    except (OSError, ValueError):
        return ""


def _stamp(path: Path) -> tuple[int, ...]:
    try:
        found = path.stat()
    except (OSError, ValueError):
        return ()
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino
