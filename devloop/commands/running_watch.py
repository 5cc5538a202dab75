"""A running `devloop watch` of the same config: what it reports of its services, and its trips (S26)."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http.client import HTTPException
from typing import Any
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

import anyio
import anyio.to_thread

from devloop.borders import cause_of
from devloop.commands.watch_addresses import Address, addresses
from devloop.config.load import Config
from devloop.errors import PlatformError
from devloop.model import Change, Service
from devloop.ports import World

POLL = 0.1  # seconds between two looks
REACTS = 3.0  # seconds in which a failure may be that of a manifest before the last save
NOTICE = 20.0  # seconds in which the watch must have begun on the tree's content
Json = dict[str, Any]
Problems = Mapping[str, str]  # of a service, or of what is no service's ("manifests"): what is wrong


@dataclass(frozen=True, slots=True)
class Watch:
    """A running watch: where it works, and what /api/status says of each of its services."""

    context: str
    namespace: str
    services: Mapping[str, Json]
    problems: Problems

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
    return Watch(*where, answer.get("services", {}), answer.get("problems", {}))


@dataclass(frozen=True, slots=True)
class Report:
    """What the running watch made of the tree: its newest trip of each service, as in /api/status, and what
    is wrong besides."""

    trips: Mapping[str, Json] = field(default_factory=dict)
    problems: Problems = field(default_factory=dict)

    @property
    def failed(self) -> bool:
        well = ("live", "unchanged", "held")
        return bool(self.problems) or any(trip["outcome"] not in well for trip in self.trips.values())


async def reported(
    config: Config, services: Sequence[Service], world: World, behind: Callable[[], Awaitable[Problems]]
) -> Report:
    """What the running watch made of the tree as it is now.

    `behind` returns what the cluster does not show yet, by service or "manifests", and how that is seen.

    Raises PlatformError if it does not answer, or does not react to the tree.
    """
    wanted = {}
    for service in services:
        fingerprint = await world.fingerprinter.take(service, Change.start(world.clock.now()))
        wanted[service.name] = fingerprint.digest
    still = world.clock.ticks()  # since when no trip runs
    while True:
        answer = await anyio.to_thread.run_sync(ask, config)
        cards = answer.get("services", {})
        ended = {name: _trip_of(cards.get(name, {}), digest) for name, digest in wanted.items()}
        found = {name: trip for name, trip in ended.items() if trip is not None}
        for name in wanted.keys() - found.keys():
            _require_at_work(name, cards.get(name, {}).get("state"))
        busy = [name for name in wanted if cards.get(name, {}).get("stage")]
        still = world.clock.ticks() if busy else still
        waited = world.clock.ticks() - still
        if len(found) == len(wanted):
            report = await _judged(Report(found, answer.get("problems", {})), waited, behind)
            if report is not None:
                return report
        elif waited > NOTICE:
            idle = [name for name in wanted if name not in found]
            raise PlatformError(
                f"the running devloop watch does not react to {', '.join(idle)}",
                reason="HeldByAnother",
                hint="does it run the same services? stop it with Ctrl-C and run once again",
            )
        await anyio.sleep(POLL)


def _require_at_work(name: str, state: object) -> None:
    """Raises PlatformError where the watch begins no trip of its own accord."""
    waits = {"paused": ("is paused", "resume"), "pending": ("waits for its trigger", "trigger")}
    if state in waits:
        what, command = waits[str(state)]
        raise PlatformError(
            f"{name} {what} in the running devloop watch",
            reason="HeldByAnother",
            hint=f"devloop {command} {name}",
        )


async def _judged(report: Report, waited: float, behind: Callable[[], Awaitable[Problems]]) -> Report | None:
    """What counts once each service has a trip on this tree; None while the watch may still react to what was
    saved besides (a manifest)."""
    if report.failed:
        return report if waited > REACTS else None
    lacking = await behind()
    if not lacking:
        return report
    return Report(report.trips, lacking) if waited > NOTICE else None


def ask(config: Config) -> Json:
    """/api/status of the running watch of this config; of several, all their services. Blocking.

    Raises PlatformError if none answers.
    """
    answers: list[Json] = []
    errors: list[PlatformError] = []
    for address in addresses(config):
        try:
            answers.append(_ask(config, address))
        except PlatformError as error:
            errors.append(error)
    if not answers:
        raise errors[0]
    services: Json = {}
    problems: Json = {}
    for answer in answers:  # one that is about to be refused names services of another: the first counts
        services = {**answer.get("services", {}), **services}
        problems = {**answer.get("problems", {}), **problems}
    return {**answers[0], "services": services, "problems": problems}


def _ask(config: Config, address: Address) -> Json:
    url = address.url
    if url is None:
        raise PlatformError(
            "the devloop watch that holds these services does not serve its state: metrics.enabled is false",
            reason="HeldByAnother",
            hint="stop it with Ctrl-C and run once again, or enable the metrics",
        )
    direct = build_opener(ProxyHandler({}))  # it is on this machine, whatever the environment says
    try:
        with direct.open(f"{url}/api/status", timeout=2) as answer:
            status = json.load(answer)
        if not _is_status(status):
            raise ValueError("not the answer of a devloop")
    except (URLError, OSError, ValueError, RecursionError, HTTPException) as error:
        raise PlatformError(
            f"the devloop that holds these services does not answer on {url}: {cause_of(error)}",
            reason="HeldByAnother",
            hint="is it another config? stop it with Ctrl-C and run once again",
        ) from error
    if status.get("config") != str(config.path):
        raise PlatformError(
            f"{url} is served by a devloop of {status.get('config')}, not of {config.path}",
            reason="HeldByAnother",
            hint="set another metrics.listen port in one of them",
        )
    return dict(status)


def _is_status(answer: object) -> bool:
    """Has it the shape of /api/status, as far as it is read here? Another program may answer on the port."""
    if not isinstance(answer, dict):
        return False
    services = answer.get("services", {})
    named = all(isinstance(answer.get(key, ""), str) for key in ("context", "namespace"))
    named = named and isinstance(answer.get("problems", {}), dict)
    return named and isinstance(services, dict) and all(map(_is_card, services.values()))


def _is_card(card: object) -> bool:
    trips = card.get("trips", []) if isinstance(card, dict) else None
    forwards = card.get("forwards", []) if isinstance(card, dict) else None
    return (
        isinstance(trips, list)
        and all(isinstance(trip, dict) for trip in trips)
        and isinstance(forwards, list)
        and all(isinstance(one, dict) and isinstance(one.get("url"), str) for one in forwards)
    )


def _trip_of(card: Json, digest: str) -> Json | None:
    """The newest trip, if no other runs, and it was this content's or failed before it knew its content."""
    trips = card.get("trips")
    if not trips or card.get("stage"):
        return None
    newest: Json = trips[-1]
    unread = newest.get("outcome") == "failed" and newest.get("fingerprint") is None
    if not unread and newest.get("fingerprint") != digest:
        return None
    return {**newest, "url": card["url"]} if card.get("forwards") else newest
