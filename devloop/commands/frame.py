"""The frame of every command: the project it works on, run until a signal ends it.

A session with the cluster is apart (session.py): what is wrong with a config.yaml is reported without the
clients of engines and clusters, which take long to import.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import anyio

from devloop import collector
from devloop.config import load as configs
from devloop.config.load import Config
from devloop.fault_reports import FOLDER, Reports, guard_screen
from devloop.secrets.redaction import Secrets
from devloop.secrets.sources import Sources
from devloop.signals import INTERRUPTED, until_interrupted

Override = Callable[[Config], Config]
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Project:
    """A config with the command line's options in place. `override` puts them into another version of it;
    `kubeconfig`: the file that was named, None for the usual ones."""

    config: Config
    override: Override
    kubeconfig: Path | None


def load_project(
    config_path: Path | None, context: str | None, namespace: str | None, kubeconfig: Path | None
) -> Project:
    """The project of a config file, by default the one found upwards from here; from now on what it calls
    secret is in no report. Raises ConfigError."""

    def override(config: Config) -> Config:
        return configs.override(config, context=context, namespace=namespace)

    config = override(configs.load(config_path or configs.find(Path.cwd())))
    sources = Sources(
        config.services(), config.releases(), dict(os.environ), frozenset(config.secrets), config.root
    )
    guard_screen(Reports(configs.state_dir(config.path) / FOLDER, Secrets(sources)))
    return Project(config, override, kubeconfig)


def run(work: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
    """What `work` returns. Raises SystemExit with 130 after SIGINT or SIGTERM, and what `work` raises."""
    collector.resume()
    results: list[Result] = []

    async def keep() -> None:
        results.append(await work())

    if anyio.run(until_interrupted, keep):
        raise SystemExit(INTERRUPTED)
    return results[0]
