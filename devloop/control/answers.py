"""The request `wait`: a decision as one JSON object, and which answer a wait for several services gets."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from devloop.control.handlers import names_in
from devloop.control.protocol import Handler, Json, Send
from devloop.control.waiting import UNDECIDED, Decision, Waiting
from devloop.errors import ConfigError
from devloop.model import Stuck, Superseded
from devloop.secrets.redaction import Secrets
from devloop.sinks.outcomes import describe, describe_paths

GOALS = ("live", "settled", "failed")
LONGEST = 86_400.0  # seconds of one wait
LOG_LINES = 20
_NOTHING: Mapping[str, Any] = dict.fromkeys(
    (
        "outcome",
        "fingerprint",
        "image",
        "url",
        "why",
        "seconds",
        "stage",
        "cause",
        "reason",
        "message",
        "hint",
    )
)


def wait_handler(
    waiting: Waiting,
    services: Callable[[], Sequence[str]],
    problems: Callable[[], Mapping[str, str]],
    secrets: Secrets,
) -> Handler:
    """`services`: those that the watch works for; `problems`: what is wrong besides, with config.yaml or
    manifests. Each decision is an item, and all of them are the answer."""

    async def wait(request: Json, send: Send) -> Json:
        goal, seconds = _goal(request.get("for", "settled")), _seconds(request.get("timeout", 60))
        names, known = names_in(request) or tuple(services()), set(services())
        unknown = [name for name in names if name not in known]
        if unknown:
            raise ConfigError(f"the running devloop watch has no service {', '.join(unknown)}")
        found: dict[str, Json] = {}

        async def note(decision: Decision) -> None:
            found[decision.service] = described = describe_decision(decision, secrets)
            await send(described)

        await waiting.decide(names, seconds, note)
        return answer_of({name: found[name] for name in names}, goal, problems())

    return wait


def answer_of(services: Mapping[str, Json], goal: str, problems: Mapping[str, str]) -> Json:
    """{"for", "reached", "timed_out", "services", "problems"}: `reached` where every service got to what the
    wait was for, `timed_out` where the time was up first and none settled elsewhere."""
    states = [service["state"] for service in services.values()]
    reached = all(is_reached(state, goal) for state in states) and not (problems and goal == "live")
    elsewhere = any(state != UNDECIDED and not is_reached(state, goal) for state in states)
    timed_out = UNDECIDED in states and not elsewhere
    return {
        "for": goal,
        "reached": reached,
        "timed_out": timed_out,
        "services": dict(services),
        "problems": dict(problems),
    }


def is_reached(state: str, goal: str) -> bool:
    return state != UNDECIDED if goal == "settled" else state == goal


def describe_decision(decision: Decision, secrets: Secrets) -> Json:
    """What was decided of one service, and the trip that decided it: its files and reason, fingerprint,
    image, seconds, and where it failed the stage, the cause in a line, and the last lines of its output.

    Where no trip did, those are null. `now` is the state that is shown.
    """
    standing = decision.standing
    nothing = {**undecided(decision.service, standing.word), "state": decision.state}
    outcome, change = standing.outcome, standing.change
    of_a_trip = decision.state in ("live", "failed", "held", "contested")
    if not of_a_trip or outcome is None or isinstance(outcome, Superseded):
        return nothing
    found = describe(secrets.outcome(outcome))
    error: Mapping[str, Any] = found["error"] or _error_of(standing.trouble, secrets)
    return {
        **nothing,
        **{key: found[key] for key in ("outcome", "fingerprint", "image", "url")},
        "why": change.why if change else None,
        **describe_paths(change.paths if change else frozenset()),
        "seconds": found["seconds"]["trip"],
        **{key: error.get(key) for key in ("stage", "cause", "reason", "message", "hint")},
        "log": _last(error.get("evidence") or ()),
    }


def _error_of(trouble: Stuck | None, secrets: Secrets) -> Mapping[str, Any]:
    """What ended pods that were live, as an error of the rollout."""
    if trouble is None:
        return {}
    message = secrets(trouble.message)
    return {
        "stage": "rollout",
        "cause": secrets(trouble.cause) or message.partition("\n")[0],
        "reason": trouble.reason,
        "message": message,
        "hint": None if trouble.hint is None else secrets(trouble.hint),
        "evidence": [secrets(line) for line in trouble.evidence],
    }


def undecided(service: str, now: str) -> Json:
    """A decision with nothing in it."""
    return {
        "service": service,
        "state": UNDECIDED,
        "now": now,
        **_NOTHING,
        "paths": [],
        "count": 0,
        "log": [],
    }


def _last(lines: Iterable[str]) -> list[str]:
    return list(lines)[-LOG_LINES:]


def _goal(value: object) -> str:
    if value not in GOALS:
        raise ValueError(f"for: one of {', '.join(GOALS)}")
    return str(value)


def _seconds(value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= LONGEST:
        raise ValueError(f"timeout: seconds, at most {LONGEST:.0f}")
    assert math.isfinite(value)
    return float(value)
