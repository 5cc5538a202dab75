"""What goes by itself: dependents with their owner, events with time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from typing_extensions import override

from devloop_sandbox.controllers.base import Controller, Key, key_of
from devloop_sandbox.controllers.owners import delete_quietly, owner_exists, seconds_since
from devloop_sandbox.objects.resources import RESOURCES, Obj
from devloop_sandbox.store.store import Event

FOREGROUND, ORPHAN = "foregroundDeletion", "orphan"
EVENTS_LIVE = 3600  # seconds
EVENTS_SWEEP = 300.0


class GarbageCollector(Controller):
    """Keys are ("plural/namespace", name), because it looks after every kind."""

    component = "garbage-collector"

    @override
    def initial(self) -> Iterable[Key]:
        return [_key(kind.plural, obj) for kind in RESOURCES for obj in self.store.list(kind.plural)]

    @override
    def keys(self, event: Event) -> Iterable[Key]:
        if event.resource == "events":
            return
        meta = event.obj["metadata"]
        if event.type == "DELETED":
            yield from (_key(plural, obj) for plural, obj in self._dependents(event.obj))
            for reference in meta.get("ownerReferences") or []:  # an owner may wait for this one
                for kind in RESOURCES:
                    if (kind.api_version, kind.kind) == (reference["apiVersion"], reference["kind"]):
                        yield f"{kind.plural}/{meta.get('namespace', '')}", reference["name"]
        elif (event.type == "ADDED" and meta.get("ownerReferences")) or meta.get("finalizers"):
            yield _key(event.resource, event.obj)

    @override
    def sync(self, key: Key) -> float | None:
        plural, _, namespace = key[0].partition("/")
        obj = self.store.find(plural, namespace, key[1])
        if obj is None:
            return None
        meta = obj["metadata"]
        if "deletionTimestamp" in meta and ORPHAN in (meta.get("finalizers") or []):
            for kind, dependent in self._dependents(obj):
                self._forget_owner(kind, dependent, meta["uid"])
            self._lift(plural, obj, ORPHAN)
        elif "deletionTimestamp" in meta and FOREGROUND in (meta.get("finalizers") or []):
            left = list(self._dependents(obj))
            for kind, dependent in left:
                self._delete_first(kind, dependent)
            if not any(True for _ in self._dependents(obj)):
                self._lift(plural, obj, FOREGROUND)
        elif meta.get("ownerReferences"):
            self._judge(plural, obj)
        return None

    def _judge(self, plural: str, obj: Obj) -> None:
        """Delete what has no owner left; let go of owners that are gone."""
        namespace = obj["metadata"].get("namespace", "")
        references = obj["metadata"]["ownerReferences"]
        gone = [one for one in references if not owner_exists(self.store, one, namespace)]
        if len(gone) == len(references):
            delete_quietly(self.store, plural, obj)
            return
        for one in gone:
            self._forget_owner(plural, obj, one["uid"])

    def _dependents(self, owner: Obj) -> Iterator[tuple[str, Obj]]:
        uid, namespace = owner["metadata"]["uid"], owner["metadata"].get("namespace", "")
        for kind in RESOURCES:
            if kind.plural == "events":
                continue
            for obj in self.store.list(kind.plural, namespace):
                if any(one["uid"] == uid for one in obj["metadata"].get("ownerReferences") or ()):
                    yield kind.plural, obj

    def _delete_first(self, plural: str, obj: Obj) -> None:
        meta = obj["metadata"]
        if "deletionTimestamp" in meta:
            return
        how = "Foreground" if any(True for _ in self._dependents(obj)) else "Background"
        self.store.delete(plural, meta.get("namespace", ""), meta["name"], propagation=how, uid=meta["uid"])

    def _forget_owner(self, plural: str, obj: Obj, uid: str) -> None:
        def change(copy: Obj) -> None:
            left = [one for one in copy["metadata"]["ownerReferences"] if one["uid"] != uid]
            copy["metadata"]["ownerReferences"] = left
            if not left:
                del copy["metadata"]["ownerReferences"]

        self.store.mutate(plural, *key_of(obj), change)

    def _lift(self, plural: str, obj: Obj, finalizer: str) -> None:
        def change(copy: Obj) -> None:
            left = [name for name in copy["metadata"]["finalizers"] if name != finalizer]
            copy["metadata"]["finalizers"] = left
            if not left:
                del copy["metadata"]["finalizers"]

        self.store.mutate(plural, *key_of(obj), change)


class EventExpiry(Controller):
    """Events live an hour, as an API server's --event-ttl has it."""

    @override
    def initial(self) -> Iterable[Key]:
        return [("", "sweep")]

    @override
    def keys(self, event: Event) -> Iterable[Key]:
        return []

    @override
    def sync(self, key: Key) -> float | None:
        for event in self.store.list("events"):
            moment = event.get("lastTimestamp") or event["metadata"]["creationTimestamp"]
            if seconds_since(moment) > EVENTS_LIVE:
                delete_quietly(self.store, "events", event)
        return EVENTS_SWEEP


def _key(plural: str, obj: Obj) -> Key:
    return f"{plural}/{obj['metadata'].get('namespace', '')}", obj["metadata"]["name"]
