"""The frame of every command: the project it works on, a session opened, run until a signal ends it."""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import anyio

from devloop.clock import Clock
from devloop.config import load as configs
from devloop.config.load import Config
from devloop.safety_net import FOLDER, Reports, guard_screen
from devloop.secrets.redaction import Secrets
from devloop.secrets.sources import Sources
from devloop.signals import INTERRUPTED, until_interrupted
from devloop.sinks.fan import Fan
from devloop.wiring import Session, opened

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
    results: list[Result] = []

    async def keep() -> None:
        results.append(await work())

    if anyio.run(until_interrupted, keep):
        raise SystemExit(INTERRUPTED)
    return results[0]


def in_session(
    project: Project, names: Sequence[str], work: Callable[[Session], Coroutine[Any, Any, Result]]
) -> Result:
    """`run` for a command that shows no events: `work` with a session for the services `names`, or all."""

    async def opened_for_it() -> Result:
        async with opened(project.config, project.kubeconfig, names, Fan(), Clock()) as session:
            return await work(session)

    return run(opened_for_it)


@contextmanager
def held_beside_own(session: Session) -> Iterator[None]:
    """Hold the targets of all services, but for those that a devloop of this very config holds: it goes by
    what is written on the workload (S24). Raises HeldError for another project's (S26)."""
    with ExitStack() as stack:
        for target in (target for service in session.services for target in service.targets):
            other = session.locks.holder(target)
            if other is None or other.path != session.setup.owner.path:
                stack.enter_context(session.hold(target))
        yield
