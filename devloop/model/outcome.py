"""Where a rollout stands, how a trip ended, and how long it took."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from devloop.model.cluster import PodView, Revision
from devloop.model.image import Image, LoadedImage
from devloop.model.inputs import Fingerprint
from devloop.model.update import UpdateMode, slowest

if TYPE_CHECKING:
    from devloop.errors import DevloopError

Stage = Literal[
    "detect", "before_build", "fingerprint", "sync", "build", "load", "depends_on", "patch", "rollout",
    "after_live",
]  # fmt: skip
STAGES: tuple[Stage, ...] = (  # of a trip; after_live comes after it
    "detect", "before_build", "fingerprint", "sync", "build", "load", "depends_on", "patch", "rollout"
)  # fmt: skip
Phase = Literal["scheduled", "started", "serving", "complete"]


@dataclass(frozen=True, slots=True)
class Progressing:
    """Not there yet; `deadline` = when to judge again even if nothing arrives."""

    note: str
    deadline: float | None = None


@dataclass(frozen=True, slots=True)
class Ready:
    pods: tuple[PodView, ...]


@dataclass(frozen=True, slots=True)
class Stuck:
    """It will not get there by itself. `reason` is Kubernetes' own word where it has one.

    `cause`: one line that says why, "" where the message does; `exited`: a process ended by its own doing, so
    its log may say it.
    """

    reason: str
    message: str
    evidence: tuple[str, ...] = ()
    hint: str | None = None
    pod: str = ""
    container: str = ""
    cause: str = ""
    exited: bool = False


Verdict = Progressing | Ready | Stuck


@dataclass(frozen=True, slots=True)
class Rollout:
    """A rollout that reached its end: the pods that now run the image."""

    loaded: LoadedImage
    revisions: tuple[Revision, ...]
    pods: tuple[PodView, ...]

    @property
    def update(self) -> UpdateMode | None:
        """What was done with the pods; None where no target was written to."""
        return slowest(revision.how for revision in self.revisions if revision.changed)


@dataclass(frozen=True, slots=True)
class Span:
    """One stage of one trip. `outcome`: ok, failed or cancelled."""

    stage: Stage
    started_at: float
    seconds: float
    outcome: Literal["ok", "failed", "cancelled"]


@dataclass(frozen=True, slots=True)
class Timing:
    """How long each stage took; `phases` in seconds since the PATCH was sent (S32)."""

    started_at: float
    trip: float
    spans: tuple[Span, ...]
    phases: Mapping[Phase, float] = field(default_factory=dict)
    coarse: frozenset[Phase] = frozenset()
    reason: str = ""  # what a rollout waited for most of its time

    def seconds(self) -> dict[str, float]:
        """Stage -> seconds, plus `trip`; a stage that ran twice counts its sum."""
        total: dict[str, float] = {}
        for span in self.spans:
            total[span.stage] = total.get(span.stage, 0.0) + span.seconds
        return {**total, "trip": self.trip}


@dataclass(frozen=True, slots=True)
class Live:
    """The ready pods run exactly the tree."""

    rollout: Rollout
    timing: Timing
    url: str | None = None

    @property
    def loaded(self) -> LoadedImage:
        return self.rollout.loaded

    @property
    def image(self) -> Image:
        """What was loaded: not always what was built, for a delta that does not load is built in full."""
        return self.rollout.loaded.image

    @property
    def fingerprint(self) -> Fingerprint:
        return self.image.fingerprint


@dataclass(frozen=True, slots=True)
class Unchanged:
    """They did already: no build, no load, no PATCH (S4). `image_id`: what they run, "" = nobody knows;
    `idle`: replicas 0, so no pod runs it (S18)."""

    fingerprint: Fingerprint
    ref: str
    timing: Timing
    url: str | None = None
    image_id: str = ""
    idle: bool = False


@dataclass(frozen=True, slots=True)
class Failed:
    """`loaded`: what the nodes had verified by then, None where the trip did not get that far."""

    stage: str
    error: DevloopError
    timing: Timing
    fingerprint: Fingerprint | None = None
    paths: frozenset[Path] = frozenset()
    loaded: LoadedImage | None = None


@dataclass(frozen=True, slots=True)
class Superseded:
    """A newer change took over; `stage` is where the trip stood."""

    stage: str
    timing: Timing


@dataclass(frozen=True, slots=True)
class Held:
    """The Deployment carries a hold for exactly this tree (S24)."""

    fingerprint: Fingerprint
    timing: Timing


Outcome = Live | Unchanged | Failed | Superseded | Held


def outcome_word(outcome: Outcome) -> str:
    """The word of `once --json` and of the metrics' `outcome` label."""
    return type(outcome).__name__.lower()
