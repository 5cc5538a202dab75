"""`devloop wait` without a running watch: judged once, from tree and cluster."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from devloop.commands.frame import Project
from devloop.commands.output import secrets_of
from devloop.commands.session import in_session
from devloop.control.answers import answer_of, undecided
from devloop.control.protocol import Json
from devloop.errors import PlatformError
from devloop.model import Service
from devloop.rollout.service_status import Standing, standings
from devloop.secrets.redaction import Hide
from devloop.wiring import Session

# What `devloop status` says, and what it decides: all else may still change, and nobody is there to tell.
DECIDED: Mapping[str, str] = {"live": "live", "built-only": "live", "held": "held", "stuck": "failed"}


def judged(project: Project, names: Sequence[str], goal: str, show: Callable[[Json], None]) -> Json:
    """The answer of a wait; each decision goes to `show` too.

    Raises PlatformError where a service is undecided: nobody works on it.
    """

    answer = decided(project, names, goal, in_session(project, names, look))
    for decision in answer["services"].values():
        show(decision)
    return answer


async def look(session: Session) -> Mapping[str, Standing]:
    """Raises PlatformError."""
    return await standings(session.services, session.world, _no_release)


def decided(project: Project, names: Sequence[str], goal: str, found: Mapping[str, Standing]) -> Json:
    """The answer of a wait that found them so. Raises PlatformError where a service is undecided."""
    open_ones = {name: one for name, one in found.items() if one.state not in DECIDED}
    hide = secrets_of(project.config, names)
    if open_ones:
        name, one = next(iter(open_ones.items()))
        raise PlatformError(
            f"no devloop watch is running, and {name} is {one.state}: {hide(one.message)}",
            reason="NoWatch",
            hint="devloop watch, or devloop once, brings the tree",
        )
    services = {name: _decision(name, one, hide) for name, one in found.items()}
    return answer_of(services, goal, {})


def _decision(name: str, one: Standing, hide: Hide) -> Json:
    state = DECIDED[one.state]
    known = {
        **undecided(name, one.state),
        "state": state,
        "fingerprint": one.fingerprint,
        "image": one.image,
        "url": one.url,
    }
    if state != "failed":
        return known
    message = hide(one.message)
    hint = None if one.hint is None else hide(one.hint)
    cause = message.partition("\n")[0]
    return {**known, "stage": "rollout", "cause": cause, "message": message, "hint": hint}


async def _no_release(_: Service) -> str:
    return ""
