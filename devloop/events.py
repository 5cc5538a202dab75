"""What happened, as frozen values handed to one synchronous `emit`. Sinks read them; nobody answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from devloop.model import Change, How, Outcome, Phase, Stage, UpdateMode


@dataclass(frozen=True, slots=True)
class TripStarted:
    service: str
    trip: int  # counts from 1 per service and process
    at: float
    change: Change
    quiet: bool = False  # a look that nobody asked for: what it finds again is not reported again


@dataclass(frozen=True, slots=True)
class StageStarted:
    service: str
    stage: Stage
    at: float


@dataclass(frozen=True, slots=True)
class StageEnded:
    """Emitted by the stopwatch for success, failure and cancellation alike."""

    service: str
    stage: Stage
    at: float
    seconds: float
    outcome: Literal["ok", "failed", "cancelled"]


@dataclass(frozen=True, slots=True)
class Output:
    """One line of a build's, load's or pull's output."""

    service: str
    stage: Stage
    line: str


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a long pull, build or load is; `total` 0 = unknown. Bytes or steps, as `unit` says."""

    service: str
    stage: Stage
    done: int
    total: int
    unit: Literal["bytes", "steps"]
    note: str = ""


@dataclass(frozen=True, slots=True)
class ImageBuilt:
    service: str
    ref: str
    how: How
    size: int


@dataclass(frozen=True, slots=True)
class DeltaFallback:
    """A full build was made where a delta was not proven. `first`: this reason has not been reported yet."""

    service: str
    reason: str  # one CamelCase word
    message: str
    line: int = 0  # of the Dockerfile, 0 = none in particular
    advice: str = ""
    first: bool = True


@dataclass(frozen=True, slots=True)
class ImageLoaded:
    service: str
    ref: str
    how: str
    sent: int
    skipped: int


@dataclass(frozen=True, slots=True)
class Updated:
    """The image was written to the service's targets; `mode`: what was done with their pods."""

    service: str
    mode: UpdateMode


@dataclass(frozen=True, slots=True)
class UpdateFallback:
    """An edit, or a target, could not be updated as its service asks: the next mode follows, which is slower.
    `first`: not reported yet."""

    service: str
    reason: str  # a word of the metric: seen_in_pod
    message: str
    first: bool = True
    wanted: UpdateMode = "in-place"


@dataclass(frozen=True, slots=True)
class RolloutPhase:
    """Seconds since the PATCH was sent; `coarse` = taken from API timestamps (whole seconds)."""

    service: str
    phase: Phase
    seconds: float
    coarse: bool = False


@dataclass(frozen=True, slots=True)
class PodExited:
    """A container of a new pod ended with a non-zero code: shown at once, no outcome yet (S19)."""

    service: str
    pod: str
    container: str
    exit_code: int
    reason: str
    log: tuple[str, ...]
    cause: str = ""  # what the log says of it


@dataclass(frozen=True, slots=True)
class PodLog:
    service: str
    pod: str
    container: str
    line: str


@dataclass(frozen=True, slots=True)
class TripEnded:
    service: str
    trip: int
    at: float
    outcome: Outcome
    why_long: str = ""  # "rollout 11.2 s: readinessProbe.initialDelaySeconds 10"
    repeated: bool = False  # the same error as the trip before, by a look that nobody asked for


@dataclass(frozen=True, slots=True)
class LiveChanged:
    """Whether the service's ready pods run exactly the tree."""

    service: str
    live: bool
    ref: str
    state: str  # "live", "working", "failed", "held", "paused", "pending", "contested", "waiting", ...


@dataclass(frozen=True, slots=True)
class StateChanged:
    """The workload went from one DeploymentState to the next.

    Where it is Degraded, `crashed` is which container ended and how, `log` its last lines, `cause` what they
    say of it.
    """

    service: str
    before: str
    after: str
    log: tuple[str, ...] = ()
    crashed: str = ""
    cause: str = ""


@dataclass(frozen=True, slots=True)
class PodsCounted:
    """How many pods of the service are in each PodState; a state without pods is left out. `synced`: how many
    run files that their image does not hold (S37)."""

    service: str
    pods: Mapping[str, int]
    synced: int = 0


@dataclass(frozen=True, slots=True)
class Forwarded:
    """Connections to `url` go to `port` of a ready pod of the service from now on; not `open`: no longer."""

    service: str
    url: str
    port: int
    open: bool = True


@dataclass(frozen=True, slots=True)
class WatchBatch:
    """File events that arrived together, before the ignore rules."""

    events: int
    paths: frozenset[Path]


@dataclass(frozen=True, slots=True)
class WatchOverflow:
    """The watcher may have lost events: everything is looked at again."""

    reason: str


@dataclass(frozen=True, slots=True)
class ConfigReloaded:
    """A changed config.yaml is taken. `services` are new or changed, those that are `gone` left it."""

    services: tuple[str, ...]
    gone: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Applied:
    """Manifests or a release were written to the cluster."""

    what: str
    changed: tuple[str, ...]  # "deployment/todo-backend created", ...


@dataclass(frozen=True, slots=True)
class Checked:
    """Charts or manifests were judged again: (severity, line) of what is new, how many findings are `gone`,
    and how many there are now."""

    new: tuple[tuple[str, str], ...]
    gone: int
    errors: int
    warnings: int


@dataclass(frozen=True, slots=True)
class Notice:
    """A sentence for people that fits no other event.

    `service` "" = the whole session, or what it is `about`: "manifests", whose trouble lasts from an error to
    the next info.
    """

    service: str
    level: Literal["info", "warning", "error"]
    message: str
    hint: str | None = None
    about: str = ""


API_SERVER = "API server"  # an Outage of this concerns every service


@dataclass(frozen=True, slots=True)
class Outage:
    """An engine, the API server or a registry is gone, or `over`: it is back. Several may notice and emit it.

    `message` and `hint` are of what failed first; "" and None where it is over.
    """

    what: str  # API_SERVER, "engine unix:///var/run/docker.sock", "registry 127.0.0.1:5000"
    over: bool
    message: str = ""
    hint: str | None = None


Event = (
    TripStarted
    | StageStarted
    | StageEnded
    | Output
    | Progress
    | ImageBuilt
    | DeltaFallback
    | ImageLoaded
    | Updated
    | UpdateFallback
    | RolloutPhase
    | PodExited
    | PodLog
    | TripEnded
    | LiveChanged
    | StateChanged
    | PodsCounted
    | Forwarded
    | WatchBatch
    | WatchOverflow
    | ConfigReloaded
    | Applied
    | Checked
    | Notice
    | Outage
)
Emit = Callable[[Event], None]
