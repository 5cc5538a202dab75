"""API objects as devloop's own values: workload + ReplicaSets + pods + events -> Snapshot. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from devloop.adapters.kubernetes.api.answers import Json
from devloop.adapters.kubernetes.in_place_note import IN_PLACE, noted, replaced
from devloop.adapters.kubernetes.stamps import Instance, Stamp, grace_of
from devloop.checks.quantity import number
from devloop.model import ContainerView, EventView, PodView, Target

HOLD = "dev.devloop/hold"
OWNER = "dev.devloop/owner"
STATE = "dev.devloop/state"  # installing, upgrading, uninstalling: only as long as devloop writes manifests
MADE_BY = "dev.devloop/created-by"  # what devloop made itself: the id of the project
REVISION = "deployment.kubernetes.io/revision"
DEFAULT_DEADLINE = 600.0  # seconds, Kubernetes' own for a Deployment
LONGEST_DEADLINE = 86400.0  # seconds; who writes more, 2147483647 for one, wants none
TEMPLATE_HASH = "pod-template-hash"
SLOW_PROBE = 2  # seconds from which a probe's setting is worth a note


def workload_fields(target: Target, item: Json) -> dict[str, Any]:
    """The fields of a Snapshot that the Deployment or StatefulSet itself holds."""
    meta, spec, status = item["metadata"], item.get("spec") or {}, item.get("status") or {}
    notes = meta.get("annotations") or {}
    stateful = target.kind == "statefulset"
    strategy = spec.get("updateStrategy" if stateful else "strategy") or {}
    return {
        "uid": meta["uid"],
        "deleting": bool(meta.get("deletionTimestamp")),
        "generation": int(meta.get("generation") or 0),
        "observed_generation": int(status.get("observedGeneration") or 0),
        "replicas": 1 if spec.get("replicas") is None else int(spec["replicas"]),
        "current": int(status.get("replicas") or 0),
        "updated": int(status.get("updatedReplicas") or 0),
        "available": int(status.get("readyReplicas" if stateful else "availableReplicas") or 0),
        "paused": bool(spec.get("paused")),
        "hold": str(notes.get(HOLD) or ""),
        "owner": str(notes.get(OWNER) or ""),
        "writing": str(notes.get(STATE) or ""),
        "in_place": str(notes.get(IN_PLACE) or "") if spec.get("paused") else "",
        "helm_managed": is_helm_managed(item),
        "images": template_images(item),
        "conditions": {
            c["type"]: (str(c.get("status")), str(c.get("reason") or ""), str(c.get("message") or ""))
            for c in status.get("conditions") or ()
        },
        "later": is_later(target, item),
        "writer": image_writer(item),
        "probe_note": probe_note(item),
        "cpu_limit": cpu_limit(item),
        "progress_deadline": DEFAULT_DEADLINE if stateful else progress_deadline(spec),
        "strategy": str(strategy.get("type") or "RollingUpdate"),
        "partition": int((strategy.get("rollingUpdate") or {}).get("partition") or 0) if stateful else 0,
    }


def is_later(target: Target, item: Json) -> bool:
    """Whether another template was brought out before: by the Deployment's count of templates, or the
    StatefulSet's two revisions, which are one again when its rollout is over."""
    if target.kind == "deployment":
        return revision_of(item) not in ("", "1")
    status = item.get("status") or {}
    return bool(status.get("currentRevision")) and status.get("currentRevision") != status.get(
        "updateRevision"
    )


def progress_deadline(spec: Json) -> float:
    """The seconds that the Deployment's rollout may stand still."""
    written = float(spec.get("progressDeadlineSeconds") or DEFAULT_DEADLINE)
    return written if written <= LONGEST_DEADLINE else DEFAULT_DEADLINE


def is_helm_managed(item: Json) -> bool:
    meta = item["metadata"]
    return (meta.get("labels") or {}).get("app.kubernetes.io/managed-by") == "Helm" and bool(
        (meta.get("annotations") or {}).get("meta.helm.sh/release-name")
    )


def template_images(item: Json) -> dict[str, str]:
    """Container name -> image of the pod template, init containers among them."""
    spec = _template_spec(item)
    return {
        c["name"]: str(c.get("image") or "")
        for kind in ("initContainers", "containers")
        for c in spec.get(kind) or ()
    }


def owned_by(items: Iterable[Json], uids: set[str]) -> list[Json]:
    return [
        item
        for item in items
        if any(
            owner.get("controller") and owner.get("uid") in uids
            for owner in item["metadata"].get("ownerReferences") or ()
        )
    ]


def newest_replicaset(deployment: Json, replicasets: Iterable[Json]) -> Json | None:
    """The ReplicaSet whose revision is the Deployment's own, if it carries its template: with Recreate the
    controller says that it has seen a template before it makes the ReplicaSet, and names the old one's."""
    wanted, template = revision_of(deployment), template_of(deployment)
    for item in replicasets:
        if wanted and revision_of(item) == wanted and template_of(item) == template:
            return item
    return None


def template_of(item: Json) -> tuple[Json, Json]:
    """(labels and annotations, spec) of the pod template, without what distinguishes ReplicaSets."""
    meta = _dig(item, "spec", "template", "metadata")
    labels = {key: value for key, value in (meta.get("labels") or {}).items() if key != TEMPLATE_HASH}
    return {"labels": labels, "annotations": meta.get("annotations") or {}}, _template_spec(item)


def revision_of(item: Json) -> str:
    """The number of a Deployment's template, on the Deployment and on its ReplicaSet."""
    return str((item["metadata"].get("annotations") or {}).get(REVISION) or "")


def pod_view(pod: Json, stamp: Stamp, label: str) -> PodView:
    """`label` is the one that holds the revision: pod-template-hash or controller-revision-hash."""
    meta, spec, status = pod["metadata"], pod.get("spec") or {}, pod.get("status") or {}
    conditions = {c["type"]: c for c in status.get("conditions") or ()}
    scheduled = conditions.get("PodScheduled", {})
    return PodView(
        name=meta["name"],
        namespace=meta["namespace"],
        uid=meta["uid"],
        revision=str((meta.get("labels") or {}).get(label) or ""),
        phase=str(status.get("phase") or "Pending"),
        ready=conditions.get("Ready", {}).get("status") == "True",
        terminating=bool(meta.get("deletionTimestamp")),
        scheduled=scheduled.get("status") == "True",
        unschedulable=str(scheduled.get("message") or "")
        if scheduled.get("reason") == "Unschedulable"
        else "",
        containers=tuple(_containers(pod, stamp.instances)),
        node=str(spec.get("nodeName") or ""),
        scheduled_at=stamp.scheduled_at,
        started_at=stamp.started_at,
        ready_at=stamp.ready_at,
        coarse=stamp.coarse,
        since=stamp.since,
        reason=str(status.get("reason") or ""),
        message=str(status.get("message") or "").strip(),
        ending_since=stamp.ending_since,
        grace=grace_of(pod),
        stop_grace=_stop_grace(spec),
        pre_stop=any("preStop" in (c.get("lifecycle") or {}) for c in spec.get("containers") or ()),
    )


def event_view(event: Json, at: float) -> EventView:
    about = event.get("involvedObject") or {}
    series = event.get("series") or {}
    return EventView(
        about=f"{about.get('kind')}/{about.get('name')}",
        type=str(event.get("type") or "Normal"),
        reason=str(event.get("reason") or ""),
        message=str(event.get("message") or "").strip(),
        count=int(event.get("count") or series.get("count") or 1),
        seen_at=at,
        uid=str(about.get("uid") or ""),
    )


def image_id(text: str) -> str:
    """The digest in a status' imageID. `docker://sha256:…` and `sha256:…` are config digests (S2);
    `…@sha256:…` is a repository's manifest digest and keeps its "@" to mark it."""
    name, at, digest = text.rpartition("@")
    if at:
        return f"{name.rpartition('://')[2]}@{digest}"
    return text.rpartition("://")[2]


def image_writer(item: Json) -> str:
    """The manager that last wrote an image of the pod template, from managedFields."""
    found = ("", "")
    for entry in item["metadata"].get("managedFields") or ():
        template = _dig(entry.get("fieldsV1"), "f:spec", "f:template", "f:spec")
        for kind in ("f:containers", "f:initContainers"):
            if any("f:image" in c for c in _dig(template, kind).values() if isinstance(c, dict)):
                found = max(found, (str(entry.get("time") or ""), str(entry.get("manager") or "")))
    return found[1]


def probe_note(item: Json) -> str:
    """The setting of the template that delays readiness most, "readinessProbe.initialDelaySeconds 10"."""
    found: list[tuple[int, str]] = []
    for container in _template_spec(item).get("containers") or ():
        for kind in ("readinessProbe", "startupProbe"):
            probe = container.get(kind)
            if probe:
                for key, default in (("initialDelaySeconds", 0), ("periodSeconds", 10)):
                    seconds = int(probe.get(key) or default)
                    found.append((seconds, f"{kind}.{key} {seconds}"))
    ready = int((item.get("spec") or {}).get("minReadySeconds") or 0)
    found.append((ready, f"minReadySeconds {ready}"))
    # The first of equals: an initial delay is waited out before any period counts.
    seconds, note = max(found, key=lambda one: one[0])
    return note if seconds >= SLOW_PROBE else ""


def cpu_limit(item: Json) -> str:
    """The lowest CPU limit of the template's containers as it is written, "" from one core on: a process
    that may use less than a core takes longer to start."""
    found: list[tuple[float, str]] = []
    for container in _template_spec(item).get("containers") or ():
        written = _dig(container, "resources", "limits").get("cpu")
        cores = number(written)
        if cores is not None and 0 < cores < 1:
            found.append((cores, str(written)))
    return min(found)[1] if found else ""


def _template_spec(item: Json) -> Json:
    return _dig(item, "spec", "template", "spec")


def _stop_grace(spec: Json) -> float:
    seconds = spec.get("terminationGracePeriodSeconds")
    return float(seconds) if isinstance(seconds, int) else 30.0  # Kubernetes' own


def _dig(value: Any, *keys: str) -> Json:
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}


def _containers(pod: Json, known: Mapping[str, Instance]) -> Iterable[ContainerView]:
    spec, status = pod.get("spec") or {}, pod.get("status") or {}
    for kind, statuses, init in (
        ("initContainers", "initContainerStatuses", True),
        ("containers", "containerStatuses", False),
    ):
        seen = {s["name"]: s for s in status.get(statuses) or ()}
        for container in spec.get(kind) or ():
            name = container["name"]
            before = replaced(pod, name) if not init else ("", 0)
            one = _container(container, seen.get(name, {}), known.get(name), before, init=init)
            yield replace(one, updated=not init and name in noted(pod))


def _container(
    container: Json, seen: Mapping[str, Any], known: Instance | None, before: tuple[str, int], *, init: bool
) -> ContainerView:
    """`before`: the instance that an update in place replaced, and the first restart count after it."""
    state, last = seen.get("state") or {}, seen.get("lastState") or {}
    waiting = state.get("waiting") or {}
    ended = state.get("terminated") or last.get("terminated") or {}
    code = ended.get("exitCode")
    reason = str(waiting.get("reason") or "")
    limits = (container.get("resources") or {}).get("limits") or {}
    return ContainerView(
        name=container["name"],
        image=str(container.get("image") or ""),
        image_id=image_id(str(seen.get("imageID") or "")),
        ready=bool(seen.get("ready")),
        restarts=int(seen.get("restartCount") or 0),
        waiting="" if reason in ("ContainerCreating", "PodInitializing") else reason,
        message=str(waiting.get("message") or ended.get("message") or ""),
        exit_code=None if code is None else int(code),
        exit_reason=str(ended.get("reason") or ""),
        running="running" in state,
        init=init,
        memory_limit=str(limits.get("memory") or ""),
        instance=str(seen.get("containerID") or ""),
        first=max(known.first if known else 0, before[1]),
        stale=bool(seen.get("containerID"))
        and seen["containerID"] in (known.before if known else "", before[0]),
    )
