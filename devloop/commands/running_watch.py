"""A running `devloop watch` of the same config: what it reports of its services, and its trips (S26)."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

import anyio
import anyio.to_thread

from devloop import state_file
from devloop.config import load as configs
from devloop.config.load import Config
from devloop.errors import PlatformError
from devloop.model import Change, Service
from devloop.ports import World

POLL = 0.1  # seconds between two looks
NOTICE = 20.0  # seconds in which the watch must have begun on the tree's content
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Watch:
    """A running watch: where it works, and what /api/status says of each of its services."""

    context: str
    namespace: str
    services: Mapping[str, Json]

    def card(self, name: str) -> Json | None:
        """None for a service that it does not work for."""
        return self.services.get(name)

    def elsewhere(self, context: str, namespace: str) -> str:
        """What to say where it works on another cluster or namespace than this; "" where it does not."""
        if (self.context, self.namespace) == (context, namespace):
            return ""
        return (
            f"a devloop watch of this config.yaml runs on context {self.context}, namespace {self.namespace};"
            " for this one end it and start it again"
        )


def find_watch(config: Config) -> Watch | None:
    """The running watch of this config.yaml, None without one that answers. Blocking."""
    try:
        answer = ask(config)
    except PlatformError:
        return None
    given = config.cluster
    where = answer.get("context", given.context), answer.get("namespace", given.namespace)
    return Watch(*where, answer.get("services", {}))


async def reported(config: Config, services: Sequence[Service], world: World) -> Mapping[str, Json]:
    """The trip that the running watch made for the tree as it is now, by service, as in /api/status.

    Raises PlatformError if it does not answer, or does not react to the tree.
    """
    wanted = {}
    for service in services:
        fingerprint = await world.fingerprinter.take(service, Change.start(world.clock.now()))
        wanted[service.name] = fingerprint.digest
    begun = world.clock.ticks()
    while True:
        cards = (await anyio.to_thread.run_sync(ask, config)).get("services", {})
        ended = {name: _trip_of(cards.get(name, {}), digest) for name, digest in wanted.items()}
        found = {name: trip for name, trip in ended.items() if trip is not None}
        if len(found) == len(wanted):
            return found
        idle = [name for name, trip in ended.items() if trip is None and not cards.get(name, {}).get("stage")]
        if idle and world.clock.ticks() - begun > NOTICE:
            raise PlatformError(
                f"the running devloop watch does not react to {', '.join(idle)}",
                reason="HeldByAnother",
                hint="does it run the same services? stop it with Ctrl-C and run once again",
            )
        await anyio.sleep(POLL)


@contextmanager
def announced(config: Config, url: str) -> Iterator[None]:
    """Where this watch answers, for other commands on the same config: its port may be another than the
    config's. A disk that cannot be written leaves them with the config's."""
    file = _address_file(config)
    with suppress(OSError):
        state_file.write(file, json.dumps({"pid": os.getpid(), "url": url}).encode())
    try:
        yield
    finally:
        if _announced(config) == url:
            file.unlink(missing_ok=True)


def _address_file(config: Config) -> Path:
    return configs.state_dir(config.path) / "watch.json"


def _announced(config: Config) -> str | None:
    """What the last watch announced, if its process is still there."""
    try:
        found = json.loads(_address_file(config).read_bytes())
        os.kill(found["pid"], 0)
        return str(found["url"])
    except PermissionError:  # another user's process: it is there
        return str(found["url"])
    except (OSError, ValueError, TypeError, KeyError):
        return None


def url_of(config: Config) -> str:
    """Where the running watch of this config answers."""
    host, port = config.metrics.address
    host = f"[{host}]" if ":" in host else host
    return _announced(config) or f"http://{host}:{port}"


def ask(config: Config) -> Json:
    """/api/status of the running watch of this config. Blocking. Raises PlatformError."""
    url = url_of(config)
    direct = build_opener(ProxyHandler({}))  # it is on this machine, whatever the environment says
    try:
        with direct.open(f"{url}/api/status", timeout=2) as answer:
            status: Json = json.load(answer)
    except (URLError, OSError, ValueError) as error:
        raise PlatformError(
            f"the devloop that holds these services does not answer on {url}: {error}",
            reason="HeldByAnother",
            hint="is it another config? stop it with Ctrl-C and run once again",
        ) from error
    if status.get("config") != str(config.path):
        raise PlatformError(
            f"{url} is served by a devloop of {status.get('config')}, not of {config.path}",
            reason="HeldByAnother",
            hint="set another metrics.listen port in one of them",
        )
    return status


def _trip_of(card: Json, digest: str) -> Json | None:
    """The newest trip, if it was this content's and no other runs."""
    trips = card.get("trips") or [{}]
    settled = trips[-1].get("fingerprint") == digest and not card.get("stage")
    return dict(trips[-1]) if settled else None
