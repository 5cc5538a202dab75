"""Feeds: the newest snapshot of a target, built from the shared informers of its namespace."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import anyio
from anyio.abc import TaskGroup

from devloop.adapters.kubernetes.api.answers import Json
from devloop.adapters.kubernetes.api.client import Client
from devloop.adapters.kubernetes.informer import NEWEST, Health, Informer
from devloop.adapters.kubernetes.stamps import ConditionStamps, PodStamps
from devloop.adapters.kubernetes.views import (
    event_view,
    newest_replicaset,
    owned_by,
    pod_view,
    workload_fields,
)
from devloop.clock import Clock
from devloop.model import EventView, PodView, Snapshot, Target
from devloop.synced import SyncedContainers

PATHS = {
    "deployments": "/apis/apps/v1/namespaces/{}/deployments",
    "statefulsets": "/apis/apps/v1/namespaces/{}/statefulsets",
    "replicasets": "/apis/apps/v1/namespaces/{}/replicasets",
    "pods": "/api/v1/namespaces/{}/pods",
    "events": "/api/v1/namespaces/{}/events",
}
NEEDS = {
    "deployment": ("deployments", "replicasets", "pods", "events"),
    "statefulset": ("statefulsets", "pods", "events"),
}
LABELS = {"deployment": "pod-template-hash", "statefulset": "controller-revision-hash"}
SHOWN_EVENTS = 30  # of a target, the newest


class NamespaceView:
    """The informers of one namespace, each running while a feed needs it, and what they have seen.

    `synced` knows in which containers files were synced (S37). `patient`: a feed waits for a server that does
    not answer yet, instead of failing.
    """

    def __init__(
        self,
        namespace: str,
        client: Client,
        clock: Clock,
        health: Health,
        tasks: TaskGroup,
        synced: SyncedContainers | None = None,
        *,
        patient: bool = False,
    ) -> None:
        self.namespace = namespace
        self._synced = synced
        if synced is not None:
            synced.on_change.append(self._count_change)
        self._patient = patient
        self.changed = anyio.Event()  # set, and replaced, at every change
        self._client, self._clock, self._health, self._tasks = client, clock, health, tasks
        self._informers: dict[str, Informer] = {}
        self._users: dict[str, int] = {}
        self._pods = PodStamps()
        self._conditions = ConditionStamps()
        self._events: dict[str, tuple[str, EventView]] = {}  # by name, newest last: what it is about, itself
        self._at = clock.now()
        self._built: dict[Target, tuple[float, Snapshot]] = {}
        self._count = 0.0  # of changes

    @asynccontextmanager
    async def watching(self, kind: str) -> AsyncIterator[None]:
        """Run what a target of `kind` needs; entered when all of it is listed. Raises PlatformError."""
        resources = NEEDS[kind]
        for resource in resources:
            self._users[resource] = self._users.get(resource, 0) + 1
            if resource not in self._informers:
                self._start(resource)
        try:
            for resource in resources:
                if resource != "events":  # evidence only: a role may not show them
                    await self._informers[resource].first_list(patient=self._patient)
            yield
        finally:
            for resource in resources:
                self._users[resource] -= 1
                if not self._users[resource]:
                    self._stop(resource)

    def find(self, target: Target) -> Json | None:
        """The Deployment or StatefulSet itself as the informer holds it."""
        informer = self._informers.get(NEEDS[target.kind][0])
        return informer.objects.get(target.name) if informer else None

    def snapshot(self, target: Target) -> Snapshot:
        """The snapshot of now; the same object as before if nothing of it has changed."""
        count, old = self._built.get(target, (-1.0, None))
        if old is not None and count == self._count:
            return old
        new = self._build(target)
        if old is not None and replace(new, at=old.at) == old:
            new = old
        self._built[target] = (self._count, new)
        return new

    def drop(self, target: Target) -> None:
        self._built.pop(target, None)

    def _start(self, resource: str) -> None:
        path = PATHS[resource].format(self.namespace)
        newest = NEWEST if resource == "events" else 0

        def listen(old: Json | None, new: Json | None, at: float, *, live: bool) -> None:
            self._observe(resource, old, new, at, live=live)

        informer = Informer(self._client, path, self._clock, self._health, listen, newest=newest)
        self._informers[resource] = informer
        self._tasks.start_soon(informer.run, name=f"informer {path}")

    def _stop(self, resource: str) -> None:
        self._informers.pop(resource).scope.cancel()
        if resource == "pods":  # nobody sees them go from here on
            self._pods = PodStamps()
        elif resource in ("deployments", "statefulsets"):
            self._conditions = ConditionStamps()
        elif resource == "events":
            self._events.clear()

    def _observe(self, resource: str, old: Json | None, new: Json | None, at: float, *, live: bool) -> None:
        item = new if new is not None else old
        assert item is not None
        gone = new is None or (old is not None and old["metadata"]["uid"] != new["metadata"]["uid"])
        if resource == "pods":
            if gone and old is not None:
                self._pods.forget(old)
            if new is not None:
                new["metadata"].pop("managedFields", None)
                self._pods.observe(new, at, live=live)
        elif resource in ("deployments", "statefulsets"):
            if gone and old is not None:
                self._conditions.forget(old)
            if new is not None:
                self._conditions.observe(new, at)
        elif resource == "replicasets":
            item["metadata"].pop("managedFields", None)
        else:
            self._arrive(item["metadata"]["name"], new, at)
        self._at = at
        self._count_change()

    def _count_change(self) -> None:
        self._count += 1
        self.changed.set()
        self.changed = anyio.Event()

    def _arrive(self, name: str, new: Json | None, at: float) -> None:
        self._events.pop(name, None)
        if new is not None:
            event = event_view(new, at)
            self._events[name] = event.about.lower(), event
            if len(self._events) > NEWEST:
                del self._events[next(iter(self._events))]

    # --- building -------------------------------------------------------------------------------

    def _objects(self, resource: str) -> list[Json]:
        informer = self._informers.get(resource)
        return list(informer.objects.values()) if informer else []

    def _build(self, target: Target) -> Snapshot:
        item = self.find(target)
        if item is None:
            return Snapshot(target, self._at)
        fields: dict[str, Any] = workload_fields(target, item)
        uids = {item["metadata"]["uid"]}
        names = {f"{target.kind}/{target.name}".lower()}
        if target.kind == "deployment":
            replicasets = owned_by(self._objects("replicasets"), uids)
            newest = newest_replicaset(item, replicasets)
            labels = (newest["metadata"].get("labels") or {}) if newest else {}
            fields["revision"] = str(labels.get(LABELS[target.kind]) or "")
            uids = {replicaset["metadata"]["uid"] for replicaset in replicasets}
            if newest:
                names.add(f"replicaset/{newest['metadata']['name']}")
        else:
            fields["revision"] = str((item.get("status") or {}).get("updateRevision") or "")
        pods = owned_by(self._objects("pods"), uids)
        names |= {f"pod/{pod['metadata']['name']}" for pod in pods}
        return Snapshot(
            target,
            self._at,
            **fields,
            since=self._conditions.of(item),
            pods=tuple(self._marked(pod_view(pod, self._pods.of(pod), LABELS[target.kind])) for pod in pods),
            events=self._events_about(names),
        )

    def _marked(self, pod: PodView) -> PodView:
        """The pod with what was synced into its containers."""
        if self._synced is None:
            return pod
        contents = [self._synced.content(one.instance) for one in pod.containers]
        if contents.count(None) == len(contents):
            return pod
        marked = zip(pod.containers, contents, strict=True)
        return replace(pod, containers=tuple(replace(one, synced=content) for one, content in marked))

    def _events_about(self, names: set[str]) -> tuple[EventView, ...]:
        found = [event for about, event in self._events.values() if about in names]
        return tuple(found[-SHOWN_EVENTS:])


class TargetFeed:
    """`ports.Feed` of one target."""

    def __init__(self, view: NamespaceView, target: Target) -> None:
        self._view, self._target = view, target

    @property
    def latest(self) -> Snapshot:
        return self._view.snapshot(self._target)

    async def next(self, seen: Snapshot) -> Snapshot:
        """The newest snapshot once it differs from `seen` (the object that `latest` gave)."""
        while True:
            changed = self._view.changed
            newest = self.latest
            if newest is not seen:
                return newest
            await changed.wait()
