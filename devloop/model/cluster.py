"""What the cluster shows: nodes, workloads, their pods, and the revisions of a release."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from devloop.model.project import Target
from devloop.model.update import UpdateMode

ENGINE_ANNOTATION = "dev.devloop/engine"


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """One node. `runtime` is nodeInfo.containerRuntimeVersion, such as "docker://20.10.24"; `machine_id` and
    `boot_id` are nodeInfo's: of /etc/machine-id and of the running kernel, as the kubelet sees them."""

    name: str
    architecture: str = ""
    runtime: str = ""
    annotations: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    internal_ip: str = ""
    os: str = "linux"
    machine_id: str = ""
    boot_id: str = ""

    @property
    def runtime_name(self) -> str:
        """docker, containerd or cri-o."""
        return self.runtime.partition("://")[0]

    @property
    def engine(self) -> str:
        """The engine's address that the node is annotated with, "" without one (S11)."""
        return self.annotations.get(ENGINE_ANNOTATION, "")


@dataclass(frozen=True, slots=True)
class Revision:
    """What a PATCH answered: the generation to wait for (S18). `changed` False = it was that already."""

    target: Target
    uid: str
    generation: int
    ref: str
    patched_at: float
    changed: bool = True
    how: UpdateMode = "roll"


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
    instance: str = ""  # the containerID of the status, "docker://…"
    updated: bool = False  # its image was changed in place before: the status may be of the one before
    stale: bool = False  # the status still reports an instance from before the spec's image changed
    synced: str | None = (
        None  # the fingerprint whose content this instance has, "" = nobody knows which; None:
    )
    # that of its image (S37)


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
    stop_grace: float = 30.0  # seconds that a process may take to end (terminationGracePeriodSeconds)

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
    build"; "" while one is under way or about to begin. `image`: what the template names for it."""

    service: str
    rests: str = ""
    image: str = ""


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
    in_place: str = ""  # dev.devloop/in-place: paused by devloop itself, amid the writes of an update
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
    cpu_limit: str = ""  # the lowest of the template's containers, "500m", if it is below one core
    theirs: Mapping[str, Neighbour] = field(default_factory=dict)  # containers that other services set

    @property
    def awaited(self) -> frozenset[str]:
        """Containers for which another service's trip is under way: what they do now says nothing yet."""
        return frozenset(name for name, other in self.theirs.items() if not other.rests)

    @property
    def exists(self) -> bool:
        return bool(self.uid)


@dataclass(frozen=True, slots=True)
class ReleaseView:
    """One revision as its record in the cluster shows. `status` is Helm's word: deployed, failed,
    pending-install, pending-upgrade, pending-rollback, uninstalling; `note` its description."""

    revision: int
    status: str
    note: str = ""

    @property
    def pending(self) -> bool:
        return self.status.startswith("pending-") or self.status == "uninstalling"
