"""`devloop status`: does the cluster run the tree?"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from devloop.commands.frame import Project
from devloop.commands.output import dumped, secrets_of
from devloop.commands.running_watch import Json, find_watch
from devloop.commands.session import in_session
from devloop.config.load import Config
from devloop.model import Service
from devloop.rollout.service_status import ONCE, Standing, standings
from devloop.wiring import Session

WATCH = "the running devloop watch"


@dataclass(frozen=True, slots=True)
class Report:
    """How services stand, with no secret in it; `stages`: what a running watch does with each. `problems`:
    what is wrong besides; `elsewhere`: where that watch works, if it is no watch of this place."""

    standings: Mapping[str, Standing]
    stages: Mapping[str, str]
    problems: Mapping[str, str]
    elsewhere: str


def status(project: Project, names: Sequence[str], *, output: str) -> int:
    """Print how every service stands; 0 if each is live."""
    from devloop.sinks.standing import as_object, as_table

    report = reported(project, names, in_session(project, names, look))
    if report.elsewhere:
        print(report.elsewhere, file=sys.stderr)
    shown = report.standings, report.stages
    print(dumped(as_object(*shown), output) if output else as_table(*shown))
    for about, message in report.problems.items():
        print(f"{about}: {message}", file=sys.stderr)
    return 0 if not report.problems and all(one.well for one in report.standings.values()) else 1


async def look(session: Session) -> Mapping[str, Standing]:
    """Raises PlatformError."""
    return await standings(session.services, session.world, partial(_release_status, session))


def reported(project: Project, names: Sequence[str], found: Mapping[str, Standing]) -> Report:
    """What was found, beside what a running watch says. Blocking."""
    watch = find_watch(project.config)
    elsewhere = watch.elsewhere(*_place(project.config)) if watch else ""
    cards = watch.services if watch and not elsewhere else {}
    hide = secrets_of(project.config, names)
    shown = {name: beside_watch(one, cards.get(name)) for name, one in found.items()}
    clean = {
        name: replace(
            one, message=hide(one.message), hint=hide(one.hint or "") or None, cause=hide(one.cause)
        )
        for name, one in shown.items()
    }
    stages = {name: card.get("stage") or card.get("state") or "" for name, card in cards.items()}
    return Report(clean, stages, watch.problems if watch and not elsewhere else {}, elsewhere)


def beside_watch(standing: Standing, card: Json | None) -> Standing:
    """With the ports that a running watch forwards. Where `devloop once` would help, but that watch works for
    the service: what it does.

    `card`: its services[NAME] of /api/status, None without one. Pure.
    """
    forwards = card.get("forwards", ()) if card else ()
    standing = replace(standing, forwards=tuple(one["url"] for one in forwards))
    if card is None or standing.hint != ONCE:
        return standing
    state, error = card.get("state"), ((card.get("trips") or [{}])[-1]).get("error")
    if state == "paused":
        return replace(standing, hint=f"{WATCH} is paused: devloop resume lifts that")
    if state == "pending":
        return replace(standing, hint=f"{WATCH} waits for its trigger: devloop trigger")
    if card.get("stage"):
        return replace(standing, hint=f"{WATCH} will redeploy: in {card['stage']} now")
    if error and state in ("failed", "waiting"):
        what = f"failed in {error['stage']}" if state == "failed" else "waits"
        cause = error.get("cause") or error["message"].partition("\n")[0]
        why = f"{WATCH} {what}: {cause}"
        return replace(standing, message=f"{standing.message}; {why}", hint=error["hint"], cause=cause)
    if state in ("failed", "contested"):
        return replace(standing, hint=f"{WATCH} is {state}: see what it shows; a save starts the next try")
    return replace(standing, hint=f"{WATCH} waits for it" if state == "waiting" else f"{WATCH} will redeploy")


def _place(config: Config) -> tuple[str, str]:
    return config.cluster.context, config.cluster.namespace


async def _release_status(session: Session, service: Service) -> str:
    """The status of the Helm release that holds the service, "" without one. Raises PlatformError."""
    for release in session.config.releases():
        if service.name in release.images:
            view = await session.deployment.releaser.find(release)
            return view.status if view else ""
    return ""
