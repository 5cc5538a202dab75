"""`devloop logs`: what the pods of the services log, merged by time, with or without a running watch."""

from __future__ import annotations

import re
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack

import anyio

from devloop.clock import Clock
from devloop.commands.frame import Project, run
from devloop.commands.output import secrets_of, show
from devloop.concurrency import gather
from devloop.config.duration import seconds
from devloop.config.load import Config
from devloop.errors import ConfigError
from devloop.events import Emit, Event, PodLog
from devloop.model import Service, Target
from devloop.ports import Feed
from devloop.rollout.muted import muted_by
from devloop.rollout.pod_logs import follow_logs
from devloop.sinks.fan import Fan
from devloop.wiring import Session, opened

TAIL = 100  # lines of each container that are shown where neither --since nor --tail says how many

Place = tuple[str, str]  # names of pod and container
Feeds = Sequence[tuple[Service, Sequence[Feed]]]


def seconds_of(text: str | None) -> float | None:
    """Of --since. Raises ConfigError."""
    if text is None:
        return None
    try:
        found = seconds(int(text) if text.isdigit() else text)
        return float(found)  # type: ignore[arg-type]  # a number by now
    except ValueError as error:
        raise ConfigError(f"--since: {error}") from error


def logs(
    project: Project,
    names: Sequence[str],
    *,
    follow: bool,
    since: float | None,
    tail: int | None,
    grep: str,
    log_format: str,
) -> int:
    """Print them; 1 where none of the services has a pod. `since` in seconds before now."""
    config, clock = project.config, Clock()
    pattern = pattern_of(grep)
    fan = Fan(secrets_of(config, names))
    with ExitStack() as stack:
        show(
            stack, fan, config, names, clock,
            log_format=log_format, machine=False, logs=True, endless=True, living=False,
        )  # fmt: skip
        tail = TAIL if tail is None and since is None else tail

        async def work() -> int:
            async with opened(config, project.kubeconfig, names, fan, clock) as session:
                is_wanted = wanted_by(pattern, session.config)

                def emit(event: Event) -> None:
                    if not isinstance(event, PodLog) or is_wanted(event.line):
                        fan(event)

                return await _shown(session, emit, since, tail, follow=follow)

        return run(work)


def pattern_of(grep: str) -> re.Pattern[str]:
    """Raises ConfigError."""
    try:
        return re.compile(grep)
    except re.error as error:
        raise ConfigError(f"--grep {grep}: {error}", hint="a regular expression of Python") from error


def wanted_by(pattern: re.Pattern[str], config: Config) -> Callable[[str], bool]:
    """Whether a line is shown: the pattern is in it, and logs.mute does not leave it out."""
    is_muted = muted_by(tuple(config.logs.mute))
    return lambda line: bool(pattern.search(line)) and not is_muted(line)


async def feeds_of(session: Session, stack: AsyncExitStack) -> Feeds:
    """Of each service, open until `stack` is closed. Raises PlatformError."""
    return [
        (service, [await stack.enter_async_context(session.cluster.feed(t)) for t in service.targets])
        for service in session.services
    ]


async def _shown(session: Session, emit: Emit, since: float | None, tail: int | None, *, follow: bool) -> int:
    async with AsyncExitStack() as stack:
        feeds = await feeds_of(session, stack)
        newest = await read(session, feeds, emit, since, tail)
        if not newest and not follow:
            names = ", ".join(service.name for service, _ in feeds)
            print(f"no pod of {names} is there: devloop status says why", file=sys.stderr)
            return 1
        if follow:
            cluster = _Continued(session, newest)
            async with anyio.create_task_group() as group:
                for service, its in feeds:
                    group.start_soon(follow_logs, service.name, its, cluster, emit)
        return 0


async def read(
    session: Session, feeds: Feeds, emit: Emit, since: float | None, tail: int | None
) -> dict[Place, str]:
    """Show what was logged so far, oldest first; the time stamp of each container's newest line.

    `since`: seconds before now; `tail`: lines of each container. Raises PlatformError.
    """
    places = [
        (service, feed.latest.target, pod.name, container.name)
        for service, its in feeds
        for feed in its
        for pod in feed.latest.pods
        for container in pod.containers
        if container.name not in feed.latest.theirs  # another service shows it
    ]

    async def lines_of(place: tuple[Service, Target, str, str]) -> list[tuple[str, PodLog]]:
        service, target, pod, container = place
        lines = await session.cluster.logs_so_far(target, pod, container, since=since, tail=tail)
        return [(stamp, PodLog(service.name, pod, container, line)) for stamp, line in lines]

    found = await gather(lines_of, places)
    for _, event in sorted((line for lines in found for line in lines), key=lambda line: line[0]):
        emit(event)
    return {
        (pod, container): lines[-1][0] if lines else ""
        for (_, _, pod, container), lines in zip(places, found, strict=True)
    }


class _Continued:
    """The cluster's logs as `follow_logs` asks for them, from where they were read so far."""

    def __init__(self, session: Session, newest: Mapping[Place, str]) -> None:
        self._session, self._newest = session, dict(newest)

    def logs(self, target: Target, pod: str, container: str, *, from_now: bool = False) -> AsyncIterator[str]:
        after = self._newest.pop((pod, container), "")
        return self._session.cluster.logs(
            target, pod, container, from_now=from_now and not after, after=after
        )
