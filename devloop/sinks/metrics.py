"""Events as Prometheus metrics, in a registry of their own (docs/metrics.md)."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from devloop.events import (
    ConfigReloaded,
    DeltaFallback,
    Event,
    ImageBuilt,
    ImageLoaded,
    LiveChanged,
    PodsCounted,
    RolloutPhase,
    StageEnded,
    StateChanged,
    TripEnded,
    Updated,
    UpdateFallback,
    WatchBatch,
    WatchOverflow,
)
from devloop.model import outcome_word
from devloop.rollout.states import DeploymentState, PodState

# 5 ms to 10 min: a warm PATCH at one end, a cold build that pulls its base at the other.
BUCKETS = (
    *(0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 0.75),
    *(1.0, 1.5, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0),
)
CONTENT_TYPE = CONTENT_TYPE_LATEST


class Metrics:
    """A sink. `render` gives the exposition text."""

    def __init__(self, version: str, services: Iterable[str]) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = registry = CollectorRegistry()
        self._stages = Histogram(
            "devloop_stage_duration_seconds",
            "One stage of a trip: detect (from the save to the start of the trip), before_build (the hook), "
            "fingerprint, sync, build, load, depends_on (waiting for others), patch, rollout. outcome: "
            "ok, failed, cancelled.",
            ["service", "stage", "outcome"],
            buckets=BUCKETS,
            registry=registry,
        )
        self._phases = Histogram(
            "devloop_rollout_phase_seconds",
            "From the PATCH to: scheduled, started, serving (first new pod Ready, over all targets), "
            "complete (the end of the stage rollout). Only rollouts that devloop PATCHed.",
            ["service", "phase"],
            buckets=BUCKETS,
            registry=registry,
        )
        self._trips = Histogram(
            "devloop_trip_duration_seconds",
            "From the save to the end of the trip. outcome: live, unchanged, failed, superseded, held.",
            ["service", "outcome"],
            buckets=BUCKETS,
            registry=registry,
        )
        self._trip_count = _counter(registry, "devloop_trips", "Trips that ended.", "service", "outcome")
        self._builds = _counter(
            registry,
            "devloop_builds",
            "Images that a trip built or found: buildkit, cli, legacy, continued (only the RUNs after a "
            "COPY were built), delta, reused.",
            "service",
            "how",
        )
        self._loads = _counter(
            registry,
            "devloop_loads",
            "Images loaded into the nodes: shared, docker-env, ….",
            "service",
            "how",
        )
        self._fallbacks = _counter(
            registry,
            "devloop_delta_fallbacks",
            "Full builds where no delta was proven. DeltaFailed: a delta, or a build that went on from "
            "a RUN, failed, and the full build was made instead.",
            "service",
            "reason",
        )
        self._updates = _counter(
            registry,
            "devloop_updates",
            "Trips that wrote an image to the cluster, by what was done with the pods: roll, in-place, sync.",
            "service",
            "mode",
        )
        self._update_fallbacks = _counter(
            registry,
            "devloop_update_fallbacks",
            "Updates that were not made as the service asks, but by the next mode (docs/update.md).",
            "service",
            "reason",
        )
        self._load_bytes = _counter(
            registry,
            "devloop_load_bytes",
            "Bytes of images: sent, or skipped because the node had them.",
            "service",
            "kind",
        )
        self._live = Gauge(
            "devloop_live",
            "1 while the service's ready pods run exactly the tree.",
            ["service"],
            registry=registry,
        )
        self._paused = Gauge(
            "devloop_paused", "1 while the service is paused.", ["service"], registry=registry
        )
        self._pending = Gauge(
            "devloop_pending",
            "1 while something was saved that waits for devloop trigger.",
            ["service"],
            registry=registry,
        )
        self._states = Gauge(
            "devloop_deployment_state",
            "1 for the state that the service's workload is in, 0 for the other six.",
            ["service", "state"],
            registry=registry,
        )
        self._pods = Gauge(
            "devloop_pods", "Pods of the service in each state.", ["service", "state"], registry=registry
        )
        self._size = Gauge(
            "devloop_image_size_bytes", "Size of the newest image, bytes.", ["service"], registry=registry
        )
        self._events = _counter(registry, "devloop_watch_events", "File events, before the ignore rules.")
        self._overflows = _counter(
            registry,
            "devloop_watch_overflows",
            "Times that file events were lost and the whole tree was scanned again.",
        )
        Gauge(
            "devloop_build_info",
            "1, labelled with the versions of devloop and Python.",
            ["version", "python"],
            registry=registry,
        ).labels(version, platform.python_version()).set(1)
        self._of_services = (
            *(self._stages, self._phases, self._trips, self._trip_count, self._builds, self._loads),
            *(self._updates, self._update_fallbacks, self._paused, self._pending),
            *(self._fallbacks, self._load_bytes, self._live, self._states, self._pods, self._size),
        )
        for service in services:
            self._begin(service)

    def _begin(self, service: str) -> None:
        """The samples of a service before anything happens; also of one that has other targets now."""
        for gauge in (self._live, self._paused, self._pending):
            gauge.labels(service).set(0)
        self._state(service, DeploymentState.NOT_DEPLOYED)
        self._count_pods(service, {})

    def _take(self, event: ConfigReloaded) -> None:
        for metric in self._of_services:
            for service in event.gone:
                metric.remove_by_labels({"service": service})
        for service in event.services:
            self._begin(service)

    def __call__(self, event: Event) -> None:
        match event:
            case ConfigReloaded():
                self._take(event)
            case StageEnded():
                self._stages.labels(event.service, event.stage, event.outcome).observe(event.seconds)
            case RolloutPhase():
                self._phases.labels(event.service, event.phase).observe(event.seconds)
            case TripEnded():
                self._ended(event)
            case LiveChanged():
                self._live.labels(event.service).set(int(event.live))
                self._paused.labels(event.service).set(int(event.state == "paused"))
                self._pending.labels(event.service).set(int(event.state == "pending"))
            case StateChanged() | PodsCounted():
                self._showed(event)
            case WatchBatch() | WatchOverflow():
                self._watched(event)
            case ImageBuilt() | ImageLoaded() | DeltaFallback():
                self._image(event)
            case Updated() | UpdateFallback():
                self._updated(event)
            case _:
                pass  # nothing to count

    def _ended(self, event: TripEnded) -> None:
        word = outcome_word(event.outcome)
        self._trips.labels(event.service, word).observe(event.outcome.timing.trip)
        self._trip_count.labels(event.service, word).inc()

    def _showed(self, event: StateChanged | PodsCounted) -> None:
        if isinstance(event, StateChanged):
            self._state(event.service, event.after)
        else:
            self._count_pods(event.service, event.pods)

    def _watched(self, event: WatchBatch | WatchOverflow) -> None:
        if isinstance(event, WatchBatch):
            self._events.inc(event.events)
        else:
            self._overflows.inc()

    def _image(self, event: ImageBuilt | ImageLoaded | DeltaFallback) -> None:
        if isinstance(event, DeltaFallback):
            self._fallbacks.labels(event.service, event.reason).inc()
        elif isinstance(event, ImageBuilt):
            self._builds.labels(event.service, event.how).inc()
            if event.size:
                self._size.labels(event.service).set(event.size)
        else:
            self._loads.labels(event.service, event.how).inc()
            self._load_bytes.labels(event.service, "sent").inc(event.sent)
            self._load_bytes.labels(event.service, "skipped").inc(event.skipped)

    def _updated(self, event: Updated | UpdateFallback) -> None:
        if isinstance(event, Updated):
            self._updates.labels(event.service, event.mode).inc()
        else:
            self._update_fallbacks.labels(event.service, event.reason).inc()

    def _state(self, service: str, now: str) -> None:
        for state in DeploymentState:
            self._states.labels(service, str(state)).set(int(state == now))

    def _count_pods(self, service: str, pods: Mapping[str, int]) -> None:
        for state in PodState:
            self._pods.labels(service, str(state)).set(pods.get(str(state), 0))

    def render(self) -> bytes:
        return generate_latest(self.registry)


def _counter(registry: CollectorRegistry, name: str, text: str, *labels: str) -> Counter:
    return Counter(name, text, labels, registry=registry)
