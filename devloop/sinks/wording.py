"""Events as lines for people: the words that the console and the plain output share."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, assert_never

from devloop.errors import DevloopError
from devloop.events import (
    Applied,
    Checked,
    ConfigReloaded,
    Event,
    Forwarded,
    Notice,
    Outage,
    PodExited,
    PodLog,
    StateChanged,
    TripEnded,
    TripStarted,
    UpdateFallback,
    WatchOverflow,
)
from devloop.model import STAGES, Failed, Held, Live, Outcome, Superseded, Timing, Unchanged
from devloop.rollout.states import DeploymentState
from devloop.sinks.changes import files, what_changed
from devloop.sinks.repeats import Repeats

Tone = Literal["plain", "quiet", "good", "bad", "warn", "log"]
SHOWN_FINDINGS = 8


@dataclass(frozen=True, slots=True)
class Line:
    """One line: whose it is ("" = the session's), its text without that, and how to colour it."""

    who: str
    text: str
    tone: Tone = "plain"


def lines_of(event: Event, root: Path, repeats: Repeats | None = None) -> tuple[Line, ...]:
    """An event as lines; nothing for events that only move the living lines. Paths relative to `root`;
    `repeats` knows what is on this screen already."""
    repeats = repeats if repeats is not None else Repeats()
    repeats.note(event)
    match event:
        case TripStarted():
            return _started(event, root)
        case TripEnded():
            return tuple(_ended(event, root, repeats))
        case PodExited() | PodLog():
            return tuple(_of_a_pod(event, repeats))
        case Notice() | Outage():
            return _noticed(event) if isinstance(event, Notice) else _outage(event, repeats)
        case WatchOverflow():
            return (Line("", f"file events were lost: {event.reason}; looking at everything", "warn"),)
        case ConfigReloaded():
            gone = (f"{name} is gone" for name in event.gone)
            touched = ", ".join((*event.services, *gone)) or "no service changed"
            return (Line("", f"config.yaml reloaded: {touched}"),)
        case Applied() | UpdateFallback() | Forwarded():
            return _written(event)
        case Checked():
            return tuple(_checked(event))
        case StateChanged():
            return tuple(_state_changed(event, repeats))
        case _:
            return ()


def _written(event: Applied | UpdateFallback | Forwarded) -> tuple[Line, ...]:
    if isinstance(event, Forwarded):
        text = f"{event.url} goes to port {event.port}" if event.open else f"{event.url} is closed"
        return (Line(event.service, f"forward: {text}"),)
    if isinstance(event, UpdateFallback):
        instead = {"sync": "not synced", "in-place": "rolled, not updated in place"}[event.wanted]
        return (Line(event.service, f"{instead}: {event.message}", "quiet"),) if event.first else ()
    return tuple(Line("", f"{event.what}: {text}") for text in event.changed)


def _noticed(event: Notice) -> tuple[Line, ...]:
    tone: Tone = {"info": "plain", "warning": "warn", "error": "bad"}[event.level]  # type: ignore[assignment]
    who = event.service or event.about
    hint = (Line(who, f"-> {event.hint}", tone),) if event.hint else ()
    message = (Line(who, text, tone) for text in event.message.splitlines())
    return (*message, *hint)


def _outage(event: Outage, repeats: Repeats) -> tuple[Line, ...]:
    if not repeats.is_news(event):
        return ()
    if event.over:
        return (Line("", f"{event.what} is back", "good"),)
    hint = f" -> {event.hint}" if event.hint else ""
    return (Line("", f"{' '.join(event.message.split())}; trying again{hint}", "warn"),)


def _checked(event: Checked) -> Iterable[Line]:
    for severity, text in event.new[:SHOWN_FINDINGS]:
        yield Line("", f"check: {severity}: {text}", "bad" if severity == "error" else "warn")
    more = len(event.new) - SHOWN_FINDINGS
    parts = [f"{_count(event.errors, 'error')}, {_count(event.warnings, 'warning')}"]
    parts += [f"{more} more new ones"] if more > 0 else []
    parts += [f"{event.gone} gone"] if event.gone else []
    yield Line("", f"check: {', '.join(parts)} (devloop check)", "bad" if event.errors else "plain")


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


def _started(event: TripStarted, root: Path) -> tuple[Line, ...]:
    if event.quiet:
        return ()
    if event.change.paths:
        return (Line(event.service, what_changed(event.change, root)),)
    text = "looking at the tree" if event.change.why == "start" else event.change.why
    return (Line(event.service, text, "quiet"),)


def _ended(event: TripEnded, root: Path, repeats: Repeats) -> Iterable[Line]:
    service, outcome = event.service, event.outcome
    if event.repeated:
        return
    if outage := repeats.explained(outcome):
        if isinstance(outcome, Failed) and outcome.paths:  # else nobody saved anything
            yield Line(service, f"waiting for the {outage}", "quiet")
        return
    yield Line(service, headline(outcome), tone_of(outcome))
    if isinstance(outcome, Failed):
        yield from _failure(service, outcome, root, repeats)
    if event.why_long:
        yield Line(service, event.why_long, "quiet")


def reached(outcome: Live) -> str:
    """How far a trip that went well went: a service without `deploy` is built and loaded only (S17)."""
    return "live" if outcome.rollout.revisions or outcome.rollout.pods else "built"


def headline(outcome: Outcome) -> str:
    """An outcome in one line."""
    trip = seconds(outcome.timing.trip)
    match outcome:
        case Live():
            url = f"  {outcome.url}" if outcome.url else ""
            if reached(outcome) == "built":
                return f"built and loaded in {trip}  {outcome.image.ref}  ({stages(outcome.timing)})"
            pods = "" if outcome.rollout.pods else "; replicas 0, so no pod runs"
            done = {"in-place": ", updated in place", "sync": ", synced"}
            place = done.get(outcome.rollout.update or "", "")
            return f"live in {trip}{place}{pods}  {outcome.image.ref}  ({stages(outcome.timing)}){url}"
        case Unchanged():
            url = f"  {outcome.url}" if outcome.url else ""
            idle = "; replicas 0, so no pod runs" if outcome.idle else ""
            return f"unchanged: the cluster runs the tree{idle}  {outcome.ref}{url}"
        case Failed():
            cause = shortened(outcome.error.cause) or _reason(outcome.error)
            return f"FAILED in {outcome.stage} after {trip}{f': {cause}' if cause else ''}"
        case Superseded():
            return f"superseded in {outcome.stage} after {trip} by a newer change"
        case Held():
            return "held back after a rollback; another edit, or `devloop resume`, lifts it"
        case _:
            assert_never(outcome)


def tone_of(outcome: Outcome) -> Tone:
    if isinstance(outcome, Live | Unchanged):
        return "good"
    return "bad" if isinstance(outcome, Failed) else "warn" if isinstance(outcome, Held) else "quiet"


def _failure(service: str, failed: Failed, root: Path, repeats: Repeats) -> Iterable[Line]:
    """The block below a failure: what, the proof, the files that led there, what to do."""
    error = failed.error
    reason = f"{_reason(error)}: " if error.cause and error.reason not in _GENERAL else ""
    for text in f"{reason}{error.message}".splitlines():
        yield Line(service, f"  {text}", "bad")
    # An event of Kubernetes, "Unhealthy: …", may be the cause itself.
    proof = [text for text in error.evidence if not error.cause or text.partition(": ")[2] != error.cause]
    yield from _proof(service, proof, repeats, "output" if failed.stage == "build" else "log")
    if failed.paths:
        yield Line(service, f"  changed: {files(failed.paths, root)}", "plain")
    if error.hint:
        yield Line(service, f"  -> {error.hint}", "warn")


def _proof(service: str, lines: Sequence[str], repeats: Repeats, what: str) -> Iterable[Line]:
    """The lines of a log that are not on the screen yet, and where the others are."""
    new = repeats.fresh(service, lines)
    for text in new:
        yield Line(service, f"  | {text}", "plain")
    if lines and len(new) < len(lines):
        yield Line(service, f"  | (its {what} is above)", "quiet")


def _state_changed(event: StateChanged, repeats: Repeats) -> Iterable[Line]:
    if event.after == DeploymentState.DEGRADED:
        cause = f": {shortened(event.cause)}" if event.cause else ""
        yield Line(event.service, f"degraded: not all of its pods are ready{cause}", "bad")
        if event.crashed:
            yield Line(event.service, f"  {event.crashed}", "plain")
        yield from _proof(event.service, event.log, repeats, "log")
        repeats.ended(event)
    elif event.before == DeploymentState.DEGRADED:
        yield Line(event.service, "all of its pods are ready again", "good")


def _of_a_pod(event: PodExited | PodLog, repeats: Repeats) -> Iterable[Line]:
    if isinstance(event, PodLog):
        if not repeats.is_repeated(event):
            repeats.printed(event.service, event.line)
            yield Line(f"{event.service}/{_short_pod(event.pod)}", event.line, "log")
        return
    reason = f" ({event.reason})" if event.reason and event.reason != "Error" else ""
    cause = f": {shortened(event.cause)}" if event.cause else ""
    code = f"exit code {event.exit_code}{reason}{cause}"
    yield Line(
        event.service, f"container {event.container} of the new pod {event.pod} ended with {code}", "warn"
    )
    yield from _proof(event.service, event.log, repeats, "log")
    repeats.ended(event)


_GENERAL = ("Failed", "Error", "BuildFailed")  # reasons that say no more than the stage


def _reason(error: DevloopError) -> str:
    return "" if error.reason in ("Failed", "Error") else error.reason


def shortened(text: str, most: int = 200) -> str:
    """One line of at most so many characters; the end of it, where the file is named, stays."""
    line = " ".join(text.split())
    if len(line) <= most:
        return line
    tail = min(60, most // 3)
    return f"{line[: most - tail - 3]}...{line[-tail:]}"


def stages(timing: Timing) -> str:
    """ "detect 12 ms, build 0.21 s, …" of the stages that ran, in the trip's order."""
    ran = timing.seconds()
    return ", ".join(f"{stage} {seconds(ran[stage])}" for stage in STAGES if stage in ran)


def seconds(value: float) -> str:
    """12 ms, 0.21 s, 1.3 s, 75 s, 3:20 min."""
    if value < 0.0995:
        return f"{value * 1000:.0f} ms"
    if value < 0.995:
        return f"{value:.2f} s"
    if value < 99.5:
        return f"{value:.1f} s"
    return f"{int(value // 60)}:{int(value % 60):02d} min"


def size(value: float) -> str:
    """640 B, 12 KB, 3.4 MB, 1.2 GB."""
    for unit in ("B", "KB", "MB"):
        if value < 999.5:
            return f"{value:.0f} {unit}" if value >= 10 or unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} GB"


ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-_])")
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def harmless(text: str, *, colours: bool = False) -> str:
    """A line of a pod or a build may hold anything: what would move the cursor is taken out."""
    kept = ESCAPES.sub(lambda found: found[0] if colours and COLOUR.fullmatch(found[0]) else "", text)
    return "".join(
        char for char in kept if char.isprintable() or char == "\t" or (colours and char == "\x1b")
    )


def _short_pod(pod: str) -> str:
    """The last part of a pod's name distinguishes it from its siblings."""
    return pod.rpartition("-")[2] or pod
