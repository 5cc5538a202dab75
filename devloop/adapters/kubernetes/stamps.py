"""When things happened, by the arrival of watch events: the API's own times are whole seconds (S18)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime

from devloop.adapters.kubernetes.api.answers import Json

_PULLS = {"ErrImagePull": "pull", "ImagePullBackOff": "pull"}  # these two take turns: one trouble


@dataclass(frozen=True, slots=True)
class Instance:
    """What a container's spec asked for when last seen, and which of its instances were before that.

    `first`: the restart count from which an instance runs `image`; `before`: the id of the last that did not.
    """

    image: str
    restarts: int
    id: str
    first: int = 0
    before: str = ""

    def seen(self, image: str, restarts: int, container: str) -> Instance:
        if image == self.image:
            return Instance(image, restarts, container or self.id, self.first, self.before)
        # The image was changed in place: what ran until now is counted out, if anything ever ran.
        return Instance(image, restarts, container, self.restarts + bool(self.id), self.id)


@dataclass(slots=True)
class Stamp:
    """Times of one pod. `trouble` is what `since` belongs to; `instances` by container."""

    scheduled_at: float | None = None
    started_at: float | None = None
    ready_at: float | None = None
    coarse: bool = False
    trouble: tuple[str, ...] = ()
    since: float | None = None
    ending_since: float | None = None
    instances: dict[str, Instance] = field(default_factory=dict)


class PodStamps:
    """Stamps of the pods of one namespace, by uid."""

    def __init__(self) -> None:
        self._stamps: dict[str, Stamp] = {}

    def of(self, pod: Json) -> Stamp:
        return self._stamps.get(pod["metadata"]["uid"], Stamp())

    def observe(self, pod: Json, at: float, *, live: bool) -> None:
        stamp = self._stamps.setdefault(pod["metadata"]["uid"], Stamp())
        status = pod.get("status") or {}
        conditions = {c["type"]: c for c in status.get("conditions") or ()}
        if stamp.scheduled_at is None and _is_true(conditions, "PodScheduled"):
            stamp.scheduled_at = _arrival(
                stamp, conditions["PodScheduled"].get("lastTransitionTime"), at, live
            )
        if stamp.started_at is None and (started := _first_start(status)) is not None:
            stamp.started_at = _arrival(stamp, started or None, at, live)
        if stamp.ready_at is None and _is_true(conditions, "Ready"):
            stamp.ready_at = _arrival(stamp, conditions["Ready"].get("lastTransitionTime"), at, live)
        deleted = pod["metadata"].get("deletionTimestamp")
        if stamp.ending_since is None and deleted:
            stamp.ending_since = at if live else min(at, _seconds(deleted) - grace_of(pod))
        for name, image, seen in _containers(pod):
            now = image, int(seen.get("restartCount") or 0), str(seen.get("containerID") or "")
            known = stamp.instances.get(name)
            stamp.instances[name] = known.seen(*now) if known else Instance(*now)
        trouble = _trouble(status, conditions)
        if trouble != stamp.trouble:
            stamp.trouble, stamp.since = trouble, at if trouble else None

    def forget(self, pod: Json) -> None:
        self._stamps.pop(pod["metadata"]["uid"], None)


class ConditionStamps:
    """Since when each condition of each object of a namespace says what it says, by uid."""

    def __init__(self) -> None:
        self._seen: dict[str, dict[str, tuple[tuple[str, str], float]]] = {}

    def of(self, item: Json) -> dict[str, float]:
        return {kind: at for kind, (_, at) in self._seen.get(item["metadata"]["uid"], {}).items()}

    def observe(self, item: Json, at: float) -> None:
        seen = self._seen.setdefault(item["metadata"]["uid"], {})
        conditions = (item.get("status") or {}).get("conditions") or ()
        for gone in seen.keys() - {c["type"] for c in conditions}:
            del seen[gone]
        for condition in conditions:
            state = (str(condition.get("status")), str(condition.get("reason")))
            if seen.get(condition["type"], (None,))[0] != state:
                seen[condition["type"]] = (state, at)

    def forget(self, item: Json) -> None:
        self._seen.pop(item["metadata"]["uid"], None)


def grace_of(pod: Json) -> float:
    """The seconds that a pod which is being deleted has to end, 0 for any other."""
    return float(pod["metadata"].get("deletionGracePeriodSeconds") or 0)


def _containers(pod: Json) -> Iterator[tuple[str, str, Json]]:
    """(name, image of the spec, status) of each container, init containers too."""
    spec, status = pod.get("spec") or {}, pod.get("status") or {}
    for kind in ("initContainer", "container"):
        seen = {one["name"]: one for one in status.get(f"{kind}Statuses") or ()}
        for container in spec.get(f"{kind}s") or ():
            name = container["name"]
            yield name, str(container.get("image") or ""), seen.get(name, {})


def _seconds(written: str) -> float:
    return datetime.fromisoformat(written.replace("Z", "+00:00")).timestamp()


def _arrival(stamp: Stamp, written: str | None, at: float, live: bool) -> float:
    """The arrival if a watch showed it; what the API wrote down (coarse) if a list did."""
    if live:
        return at
    stamp.coarse = True
    return min(at, _seconds(written)) if written else at


def _is_true(conditions: dict[str, Json], kind: str) -> bool:
    return conditions.get(kind, {}).get("status") == "True"


def _first_start(status: Json) -> str | None:
    """When the first container began, as the API wrote it; "" if it began at a time unknown."""
    for container in status.get("containerStatuses") or ():
        state = container.get("state") or {}
        for word in ("running", "terminated"):
            if word in state:
                return str((state[word] or {}).get("startedAt") or "")
        if container.get("restartCount"):
            return ""
    return None


def _trouble(status: Json, conditions: dict[str, Json]) -> tuple[str, ...]:
    found = []
    if conditions.get("PodScheduled", {}).get("reason") == "Unschedulable":
        found.append("Unschedulable")
    for kind in ("initContainerStatuses", "containerStatuses"):
        for container in status.get(kind) or ():
            state = container.get("state") or {}
            reason = (state.get("waiting") or {}).get("reason", "")
            if reason and reason not in ("ContainerCreating", "PodInitializing"):
                found.append(f"{container['name']}: {_PULLS.get(reason, reason)}")
            elif (state.get("terminated") or {}).get("exitCode"):
                found.append(f"{container['name']}: exited")
    return tuple(found)
