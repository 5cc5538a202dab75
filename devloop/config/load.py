"""config.yaml found, read, checked and overridden; schema.py has its sections (docs/config.md)."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import anyio
from pydantic import ValidationError

from devloop.config import document as yamlfile
from devloop.config.diagnostics import error_of, known_keys, problem_of, tree_problems
from devloop.config.document import ConfigDocument, Problem
from devloop.config.paths import absolute
from devloop.config.schema import Config
from devloop.config.schema_cluster import ClusterConfig
from devloop.errors import ConfigError
from devloop.files import is_file, is_link, is_there, read_text
from devloop.model import Service

__all__ = [
    "FILE_NAME",
    "Config",
    "CurrentConfig",
    "absolute",
    "checked",
    "chosen",
    "find",
    "known_keys",
    "load",
    "override",
    "project_id",
    "schema",
    "state_dir",
    "together",
]

FILE_NAME = "config.yaml"
NOWHERE = ConfigDocument(None, {}, {}, ())


class CurrentConfig:
    """The config that counts now, and the only place of it: whoever needs it asks each time (S28).

    `names` are the services that the command line named, none for all; `whole`: with those that share their
    workloads.
    """

    def __init__(self, config: Config, names: Sequence[str] = (), *, whole: bool = True) -> None:
        self.config = config
        self.names, self._whole = tuple(names), whole
        self._taken = anyio.Event()

    def take(self, config: Config) -> None:
        self.config = config
        self._taken.set()
        self._taken = anyio.Event()

    async def taken(self) -> None:
        """Wait for the next one."""
        await self._taken.wait()

    @property
    def services(self) -> tuple[Service, ...]:
        """Those to work for, or to look at."""
        found = together(self.config, self.names)
        return found if self._whole or not self.names else tuple(s for s in found if s.name in self.names)


def find(start: Path) -> Path:
    """The nearest config.yaml in `start` or a folder above it. Raises ConfigError."""
    start = start.absolute()
    named = [folder / FILE_NAME for folder in (start, *start.parents) if is_there(folder / FILE_NAME)]
    for path in (*filter(is_file, named), *named[:1]):  # of what is no file, `load` says what it is
        return path
    raise ConfigError(
        f"no {FILE_NAME} in {start} or a folder above it",
        reason="NoConfig",
        hint="`devloop init` writes one; or change into the project's folder, or name the file with -c PATH",
    )


def load(path: Path) -> Config:
    """Read and check config.yaml. Raises one ConfigError that lists every problem with its place."""
    path = Path(os.path.normpath(path.absolute()))
    try:
        text = read_text(path)
    except OSError as error:
        raise _unreadable(path, error) from error
    config, problems = checked(path, text)
    if problems or config is None:
        raise error_of(path, problems)
    return config


def checked(path: Path, text: str) -> tuple[Config | None, list[Problem]]:
    """A text as the config.yaml that `path` would be, and everything that is wrong with it.

    None where it has not even the shape of one; a config with problems is not to be used.
    """
    document = yamlfile.parse(text)
    problems = list(document.problems)
    if document.value is None and not problems:
        problems.append(Problem((1, 1), (), "the file is empty; write version: 1 and services:"))
    elif not isinstance(document.value, dict) and not problems:
        problems.append(Problem((1, 1), (), "not a mapping; write version: 1 and services:"))
    config: Config | None = None
    if isinstance(document.value, dict):
        try:
            config = Config.model_validate(_args_as_written(document))
        except ValidationError as error:
            trapped = {problem.at for problem in problems}
            found = (problem_of(document, details) for details in error.errors(include_url=False))
            problems.extend(problem for problem in found if problem.at not in trapped)
        else:
            config.came_from(path)
            problems.extend(tree_problems(document, config))
    return config, problems


def _unreadable(path: Path, error: OSError) -> ConfigError:
    """What stands where config.yaml should, and what to do."""
    if is_link(path) and isinstance(error, FileNotFoundError):
        text = f"{path} is a link to {path.readlink()}, which is not there"
        return ConfigError(text, reason="NoConfig", hint=f"remove it (rm {path}), or write what it leads to")
    hint = f"ls -l {path}; -c PATH names another file"
    if isinstance(error, FileNotFoundError):
        hint = "`devloop init` writes one"
    return ConfigError(f"{path} cannot be read: {error.strerror}", reason="NoConfig", hint=hint)


def override(config: Config, *, context: str | None = None, namespace: str | None = None) -> Config:
    """The config with --context and --namespace in place; a target's own namespace stays.

    Raises ConfigError where a value cannot be one.
    """
    given = {"context": context, "namespace": namespace}
    changed = {key: value for key, value in given.items() if value is not None}
    if not changed:
        return config
    try:
        cluster = ClusterConfig.model_validate({**config.cluster.model_dump(), **changed})
    except ValidationError as error:
        problems = (problem_of(NOWHERE, details) for details in error.errors(include_url=False))
        raise ConfigError("\n".join(f"--{problem.path}: {problem.text}" for problem in problems)) from error
    return config.with_cluster(cluster, namespace_given=namespace is not None)


def chosen(config: Config, names: Sequence[str]) -> tuple[Service, ...]:
    """The services named on the command line, all if none. Raises ConfigError."""
    unknown = [name for name in names if name not in config.by_name]
    if unknown:
        raise ConfigError(
            f"no service {', '.join(unknown)} in {config.path}",
            reason="UnknownService",
            hint=f"there are: {', '.join(config.by_name)}",
        )
    return tuple(service for service in config.services() if not names or service.name in names)


def together(config: Config, names: Sequence[str]) -> tuple[Service, ...]:
    """As `chosen`, and every service that shares a workload with one of those: its pods need all of their
    images. A name that is not there (any more) is left out."""
    services = config.services()
    if not names:
        return services
    found = {service.name for service in services if service.name in names}
    while True:
        workloads = {
            target.workload for service in services if service.name in found for target in service.targets
        }
        more = {
            service.name
            for service in services
            if any(target.workload in workloads for target in service.targets)
        }
        if more <= found:
            return tuple(service for service in services if service.name in found)
        found |= more


def schema() -> dict[str, Any]:
    """The JSON Schema of config.yaml, for editors."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Config.model_json_schema(by_alias=True, mode="validation"),
        "title": "devloop config.yaml",
    }


def project_id(path: Path) -> str:
    """12 hex digits that name this project on images (S25) and in the state directory (S27)."""
    return hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:12]


def state_dir(path: Path, environ: Mapping[str, str] = os.environ) -> Path:
    """Where caches and the journal of the project of this config.yaml live (S27); not made here."""
    home = Path(environ.get("XDG_STATE_HOME", ""))
    if not home.is_absolute():  # the XDG rule: a relative or empty value does not count
        home = Path.home() / ".local" / "state"
    return home / "devloop" / project_id(path)


def _args_as_written(document: ConfigDocument) -> object:
    """Build arguments are text: 1.10 stays "1.10", true stays "true"."""
    value = document.value
    assert isinstance(value, dict)
    services = value.get("services")
    for name, service in services.items() if isinstance(services, dict) else ():
        build = service.get("build") if isinstance(service, dict) else None
        args = build.get("args") if isinstance(build, dict) else None
        if not isinstance(args, dict):
            continue
        for key, given in args.items():
            if isinstance(given, bool | int | float):
                args[key] = document.texts["services", name, "build", "args", key]
    return value
