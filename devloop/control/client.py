"""The running watches of a config.yaml, found by their sockets, and what is asked of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread

from devloop.config.load import Config
from devloop.control import place
from devloop.control.protocol import GONE, LONGEST_ANSWER, BadLineError, Json, Lines, error_from
from devloop.errors import ConfigError, PlatformError

ANSWERS = 5.0  # seconds in which a watch that lives says who it is


@dataclass(frozen=True, slots=True)
class RunningWatch:
    """One of them: where it works, and for which services."""

    socket: Path
    pid: int
    context: str
    namespace: str
    services: tuple[str, ...]

    async def ask(self, do: str, on_item: Callable[[Json], None] = lambda _: None, **fields: Any) -> Json:
        """The answer; `on_item` gets what comes before it.

        Raises what the watch answers as an error; PlatformError where it ends meanwhile.
        """
        try:
            async with await anyio.connect_unix(self.socket) as stream:
                lines = Lines(stream, LONGEST_ANSWER)
                await lines.send({"do": do, **fields})
                while "item" in (message := await lines.receive()):
                    on_item(message["item"])
        except (*GONE, BadLineError) as error:
            why = f": {error}" if isinstance(error, BadLineError) else ""
            raise PlatformError(
                f"the running devloop watch (pid {self.pid}) ended before it answered{why}",
                reason="WatchEnded",
                hint="is it of the same version as this command? devloop --version",
            ) from error
        refused = error_from(message)
        if refused is not None:
            raise refused
        answer = message.get("answer")
        return answer if isinstance(answer, dict) else {}


async def running_watches(config: Config) -> tuple[RunningWatch, ...]:
    """Those of this config.yaml that answer, the one that began first in front.

    Raises PlatformError: one of another context or namespace than `config` names, or of another version.
    """
    found = []
    for socket in await anyio.to_thread.run_sync(place.sockets, config.path):
        watch = RunningWatch(socket, 0, "", "", ())
        hello: Json | None = None
        with anyio.move_on_after(ANSWERS), suppress(ConnectionError):
            hello = await _hello(watch)
        if hello is not None:
            found.append(_known(socket, hello))
    for watch in found:
        _require_same_place(watch, config)
    return tuple(found)


async def watches_of(config: Config, names: Sequence[str]) -> Mapping[RunningWatch, tuple[str, ...]]:
    """Which running watch works for which of the services `names`; of all services where none is named.

    Raises PlatformError (none runs), ConfigError (none works for one of `names`).
    """
    watches = await running_watches(config)
    if not watches:
        raise PlatformError("no devloop watch is running", reason="NoWatch")
    wanted = tuple(dict.fromkeys(names or (name for watch in watches for name in watch.services)))
    shares: dict[RunningWatch, tuple[str, ...]] = {}
    for name in wanted:
        watch = next((watch for watch in watches if name in watch.services), None)
        if watch is None:
            works_for = ", ".join(name for watch in watches for name in watch.services)
            raise ConfigError(
                f"the running devloop watch does not work for {name}",
                hint=f"it works for: {works_for or 'none'}",
            )
        shares[watch] = (*shares.get(watch, ()), name)
    return shares


async def _hello(watch: RunningWatch) -> Json | None:
    """None where nobody listens: its process was killed."""
    try:
        return await watch.ask("hello")
    except PlatformError as error:
        if isinstance(error.__cause__, OSError):
            return None
        raise


def _known(socket: Path, hello: Json) -> RunningWatch:
    services = hello.get("services")
    return RunningWatch(
        socket,
        int(hello.get("pid") or 0),
        str(hello.get("context")),
        str(hello.get("namespace")),
        tuple(map(str, services)) if isinstance(services, list) else (),
    )


def _require_same_place(watch: RunningWatch, config: Config) -> None:
    given = config.cluster
    if (watch.context, watch.namespace) != (given.context, given.namespace):
        raise PlatformError(
            f"the running devloop watch works on context {watch.context}, namespace {watch.namespace}, not on"
            f" {given.context}, {given.namespace}",
            reason="AnotherPlace",
            hint="leave out --context and --namespace, or start a watch there",
        )
