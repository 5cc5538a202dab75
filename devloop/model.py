"""The values that travel down the corridor, all in one place: each stage takes one and returns the next.

Change -> Fingerprint -> Image -> LoadedImage -> Rollout -> Timing. All are frozen; times are
seconds since the epoch on the `Clock` of stopwatch.py unless a name says otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from devloop.errors import DevloopError

Stage = Literal["detect", "fingerprint", "build", "load", "patch", "rollout"]
STAGES: tuple[Stage, ...] = ("detect", "fingerprint", "build", "load", "patch", "rollout")
Phase = Literal["scheduled", "started", "serving", "complete"]
How = Literal["buildkit", "cli", "legacy", "continued", "delta", "reused"]


# --- what the user configured -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Secret:
    """A build secret: its id, and where the value comes from. The value is never held here (S30)."""

    id: str
    file: Path | None = None
    env: str | None = None


@dataclass(frozen=True, slots=True)
class BuildSpec:
    """How one image is built. Paths are absolute; the Dockerfile may lie outside the context."""

    context: Path
    dockerfile: Path
    target: str | None = None
    args: Mapping[str, str] = field(default_factory=dict)
    secrets: tuple[Secret, ...] = ()
    platform: str | None = None
    idle_timeout: float = 600.0  # seconds in which a build or a load shows no progress: it is ended
    pull_idle_timeout: float = 120.0  # the same of the pull of a base image
    hidden: frozenset[str] = frozenset()  # build args that config.yaml lists as secrets


@dataclass(frozen=True, slots=True)
class Target:
    """One workload that runs a service's image. `container` None means: by repository (S14)."""

    kind: Literal["deployment", "statefulset"]
    name: str
    namespace: str
    container: str | None = None

    def __str__(self) -> str:
        return f"{self.kind}/{self.name}"

    @property
    def workload(self) -> tuple[str, str, str]:
        """What services share that set different containers of it."""
        return self.kind, self.namespace, self.name


@dataclass(frozen=True, slots=True)
class Service:
    """One image and the workloads that run it; no targets = built and loaded only (S17)."""

    name: str
    image: str
    build: BuildSpec
    targets: tuple[Target, ...]
    rollout_timeout: float | None = None  # seconds without progress that a rollout may take; None = default

    def ref(self, fingerprint: Fingerprint) -> str:
        """The image reference that names this content, `<image>:dl-<16 hex>` (S1)."""
        return f"{self.image}:dl-{fingerprint.digest}"


# --- the corridor -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Change:
    """Something moved. Empty `paths` = look at everything (start, overflow, drift of the cluster).

    `seen_at`: when the first event arrived; `saved_at`: newest mtime among the paths where that is
    at most 2 s before `seen_at` and not after it, else `seen_at` (S32).
    """

    paths: frozenset[Path]
    seen_at: float
    saved_at: float
    why: str = "saved"

    @classmethod
    def start(cls, now: float) -> Change:
        """What every service begins with: look at everything."""
        return cls(frozenset(), now, now, "start")

    def merged(self, newer: Change) -> Change:
        """Both changes as one: paths unite (an empty set stays everything), the first times stay."""
        everything = not self.paths or not newer.paths
        return Change(
            frozenset() if everything else self.paths | newer.paths,
            min(self.seen_at, newer.seen_at),
            min(self.saved_at, newer.saved_at),
            newer.why,
        )


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One input of a build as the stat cache knows it. `digest` is sha256 hex of the content
    (regular files), of the target (links), or "" (directories)."""

    path: str  # relative to the context, "/" separated
    kind: Literal["file", "dir", "link"]
    mode: int
    size: int
    mtime_ns: int
    digest: str


@dataclass(frozen=True, slots=True)
class Base:
    """One image that the Dockerfile builds on: reference as written, config digest, ONBUILD lines.

    `env` ("NAME=value"), `workdir` ("" = none) and `user` of its config; None = nobody looked, and what
    hangs on them then counts as the whole context.
    """

    ref: str
    id: str
    onbuild: tuple[str, ...] = ()
    env: tuple[str, ...] | None = None
    workdir: str | None = None
    user: str | None = None


@dataclass(frozen=True, slots=True)
class Inputs:
    """All that can change the image (S5). `files` is keyed by context-relative path."""

    files: Mapping[str, FileEntry]
    bases: tuple[Base, ...]
    platform: str
    dockerfile_digest: str
    ignore_digest: str


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """A digest (16 hex) of everything that can change the image, and what it was taken from."""

    digest: str
    inputs: Inputs


@dataclass(frozen=True, slots=True)
class Archive:
    """An image as bytes that no engine holds yet: layer blobs of a delta, to be sent by a loader.

    `config` is the image config JSON; `layer` the new layer's uncompressed tar; `diff_ids` of all
    layers, lowest first, the new one last. `lower`: new layers below it, lowest first.
    """

    config: bytes
    layer: bytes
    diff_ids: tuple[str, ...]
    lower: tuple[bytes, ...] = ()

    @property
    def below(self) -> tuple[str, ...]:
        """The diff_ids of the layers that the other side must have."""
        return self.diff_ids[: -1 - len(self.lower)]

    @property
    def new(self) -> tuple[tuple[str, bytes], ...]:
        """diff_id and tar of each new layer, lowest first."""
        return tuple(zip(self.diff_ids[len(self.below) :], (*self.lower, self.layer), strict=True))

    @property
    def size(self) -> int:
        """Bytes of the new layers."""
        return len(self.layer) + sum(map(len, self.lower))


@dataclass(frozen=True, slots=True)
class Image:
    """A built image. `id` is the config digest "sha256:…" everywhere (S2); `size` in bytes."""

    service: str
    fingerprint: Fingerprint
    ref: str
    id: str
    how: How
    size: int = 0
    archive: Archive | None = None


@dataclass(frozen=True, slots=True)
class LoadedImage:
    """An image that every node holds under its reference, verified by id on each (S2, S12)."""

    image: Image
    nodes: tuple[str, ...]
    how: str
    sent: int = 0  # bytes that travelled
    skipped: int = 0  # bytes that the nodes had already


@dataclass(frozen=True, slots=True)
class Revision:
    """What a PATCH answered: the generation to wait for (S18). `changed` False = it said so already."""

    target: Target
    uid: str
    generation: int
    ref: str
    patched_at: float
    changed: bool = True


@dataclass(frozen=True, slots=True)
class ContainerView:
    """One container of a pod as its status shows it."""

    name: str
    image: str  # from the spec (S1: never from the status)
    image_id: str  # config digest "sha256:…" from status.imageID, "" before it started
    ready: bool
    restarts: int
    waiting: str = ""  # reason
    message: str = ""
    exit_code: int | None = None  # of the last termination
    exit_reason: str = ""
    running: bool = False
    init: bool = False
    memory_limit: str = ""  # resources.limits.memory as written, for the hint on OOMKilled
    first: int = 0  # restart count of the first instance that counts: those before it ran another image
    stale: bool = False  # the status still tells of an instance from before the spec's image changed


@dataclass(frozen=True, slots=True)
class PodView:
    """One pod of a target, with the arrival times of what the watch showed (S18)."""

    name: str
    namespace: str
    uid: str
    revision: str  # pod-template-hash, or controller-revision-hash
    phase: str
    ready: bool
    terminating: bool
    scheduled: bool
    unschedulable: str  # message of PodScheduled=False, else ""
    containers: tuple[ContainerView, ...]
    node: str = ""
    scheduled_at: float | None = None
    started_at: float | None = None
    ready_at: float | None = None
    coarse: bool = False  # times taken before the watch began: whole seconds of the API's clock
    since: float | None = None  # arrival of its present trouble (waiting reason, exit, unschedulable)
    reason: str = ""  # of the pod itself: Evicted, NodeLost, Terminated, ...
    message: str = ""
    ending_since: float | None = None  # arrival of its deletionTimestamp
    grace: float = 0.0  # seconds that it has from then on
    pre_stop: bool = False  # a container has a preStop hook, which runs before SIGTERM

    @property
    def over(self) -> bool:
        """It has ended for good (evicted, for one): its controller counts it no more, and replaces it."""
        return self.phase in ("Failed", "Succeeded")


@dataclass(frozen=True, slots=True)
class EventView:
    """A Kubernetes event that concerns a target: evidence for people."""

    about: str  # Kind/name
    type: str
    reason: str
    message: str
    count: int
    seen_at: float
    uid: str = ""  # of what it is about: a StatefulSet's next pod has the same name

    def concerns(self, pod: PodView) -> bool:
        return self.about == f"Pod/{pod.name}" and (not self.uid or self.uid == pod.uid)


@dataclass(frozen=True, slots=True)
class Neighbour:
    """Another service that sets a container of the same pods. `rests`: how its last trip ended, "failed in
    build"; "" while one is under way or about to begin."""

    service: str
    rests: str = ""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that a judgement on one target needs, at one moment. `uid` "" = the target is missing."""

    target: Target
    at: float
    uid: str = ""
    generation: int = 0
    observed_generation: int = 0
    replicas: int = 0  # wanted (spec)
    current: int = 0  # status.replicas
    updated: int = 0
    available: int = 0
    paused: bool = False
    hold: str = ""  # dev.devloop/hold (S24)
    owner: str = ""  # dev.devloop/owner (S26)
    writing: str = ""  # dev.devloop/state: what devloop does with its manifest at this moment
    helm_managed: bool = False
    images: Mapping[str, str] = field(default_factory=dict)  # container -> image in the template
    revision: str = ""  # pod-template-hash of the ReplicaSet that carries the template
    conditions: Mapping[str, tuple[str, str, str]] = field(
        default_factory=dict
    )  # type -> (status, reason, message)
    since: Mapping[str, float] = field(default_factory=dict)  # condition type -> arrival of its reason
    progress_deadline: float = 600.0  # seconds, of the spec
    strategy: str = ""  # RollingUpdate, Recreate, OnDelete
    partition: int = 0  # a StatefulSet's: pods below this ordinal keep the old template
    pods: tuple[PodView, ...] = ()
    events: tuple[EventView, ...] = ()
    writer: str = ""  # the manager that last wrote the template's images (managedFields)
    deleting: bool = False  # it has a deletionTimestamp
    later: bool = False  # another template was brought out before this one
    probe_note: str = ""  # e.g. "readinessProbe.initialDelaySeconds 10" when a probe dominates
    theirs: Mapping[str, Neighbour] = field(default_factory=dict)  # containers that other services set

    @property
    def awaited(self) -> frozenset[str]:
        """Containers for which another service's trip is under way: what they do now says nothing yet."""
        return frozenset(name for name, other in self.theirs.items() if not other.rests)

    @property
    def exists(self) -> bool:
        return bool(self.uid)


# --- judgement and outcome ----------------------------------------------------------------------


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
    """It will not get there by itself. `reason` is Kubernetes' own word where it has one."""

    reason: str
    message: str
    evidence: tuple[str, ...] = ()
    hint: str | None = None
    pod: str = ""
    container: str = ""


Verdict = Progressing | Ready | Stuck


@dataclass(frozen=True, slots=True)
class Rollout:
    """A rollout that reached its end: the pods that now run the image."""

    loaded: LoadedImage
    revisions: tuple[Revision, ...]
    pods: tuple[PodView, ...]


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
    """They did already: no build, no load, no PATCH (S4). `image_id`: what they run, "" = nobody knows."""

    fingerprint: Fingerprint
    ref: str
    timing: Timing
    url: str | None = None
    image_id: str = ""


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
