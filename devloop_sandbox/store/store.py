"""The cluster's memory: every object, one counter of versions, and the rules of writing.

All of it lives in one asyncio loop, so the methods are plain calls and need no lock. Objects handed
out are shared: clone one before changing it (or use `mutate`). A write is on disk before anybody sees it.
"""

from __future__ import annotations

import builtins
import json
import secrets
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from devloop_sandbox.objects import errors
from devloop_sandbox.objects.resources import BY_PLURAL, Obj, Resource, clone
from devloop_sandbox.store import lifecycle
from devloop_sandbox.store.changes import Change, Event, Stream, Subscription
from devloop_sandbox.store.disk import Disk
from devloop_sandbox.store.lifecycle import now

__all__ = ["Admission", "Event", "Store", "Subscription", "now"]

_SUFFIX = "bcdfghjklmnpqrstvwxz2456789"  # what generateName draws from


class Admission(Protocol):
    """Defaults, allocates and validates what is written; raises ApiError to refuse."""

    def admit(self, store: Store, resource: Resource, obj: Obj, old: Obj | None, subresource: str) -> None:
        """Change `obj`, the store's own copy; `old` is None on create."""

    def own(self, resource: Resource, obj: Obj, old: Obj | None, subresource: str) -> None:
        """Write into `obj` that a part of the cluster itself changed it."""


def _key(obj: Obj) -> tuple[str, str]:
    return obj["metadata"].get("namespace", ""), obj["metadata"]["name"]


class Store:
    """`path` is the database file, or None to keep everything in memory only."""

    def __init__(self, path: Path | None = None, admission: Admission | None = None) -> None:
        self._admission = admission
        self._disk = Disk(path)
        self._objects: dict[str, dict[tuple[str, str], Obj]] = {plural: {} for plural in BY_PLURAL}
        self._raw: dict[str, bytes] = {}  # by uid: each object encoded once, for every watch
        self._disk.keep_only(tuple(BY_PLURAL))
        for resource, namespace, name, obj, raw in self._disk.objects():
            self._objects[resource][namespace, name] = obj
            self._raw[obj["metadata"]["uid"]] = raw
        self.resource_version = self._disk.version()
        self._stream = Stream(self.resource_version)

    def close(self) -> None:
        self._disk.close()

    def find(self, resource: str, namespace: str, name: str) -> Obj | None:
        return self._objects[resource].get((namespace, name))

    def get(self, resource: str, namespace: str, name: str) -> Obj:
        """The object, or ApiError 404; `resource` is the plural, `namespace` "" if cluster-wide."""
        found = self.find(resource, namespace, name)
        if found is None:
            raise errors.not_found(BY_PLURAL[resource], name)
        return found

    def list(
        self, resource: str, namespace: str = "", selector: Callable[[Obj], bool] | None = None
    ) -> builtins.list[Obj]:
        """Objects of one namespace, or of all for "", sorted by namespace and name."""
        found = sorted(self._objects[resource].items(), key=lambda item: item[0])
        return [
            obj
            for (home, _), obj in found
            if (not namespace or home == namespace) and (selector is None or selector(obj))
        ]

    def raw(self, resource: str, obj: Obj) -> bytes:
        """The stored object as JSON, or b"" if `obj` is no longer the stored one."""
        current = self.find(resource, *_key(obj))
        return self._raw[obj["metadata"]["uid"]] if current is obj else b""

    def subscribe(self) -> Subscription:
        return self._stream.subscribe()

    def since(self, version: int) -> builtins.list[Event]:
        """Events after `version`; 410 Expired when the history does not reach back that far."""
        return self._stream.since(version)

    def create(self, resource: str, obj: Obj, *, dry_run: bool = False, owned: bool = False) -> Obj:
        """Store a copy with uid, versions and creation time; `owned` if managedFields is up to date.

        Errors: 409 AlreadyExists, 404 for the namespace, 403, 422."""
        kind = BY_PLURAL[resource]
        obj = clone(obj)
        meta = obj["metadata"] = obj.get("metadata") or {}
        if not meta.get("name") and meta.get("generateName"):
            suffix = "".join(secrets.choice(_SUFFIX) for _ in range(5))
            meta["name"] = meta["generateName"][:58] + suffix
        if kind.namespaced:
            meta.setdefault("namespace", "default")
        else:
            meta.pop("namespace", None)
        for name in (*lifecycle.SERVER_OWNED, "resourceVersion", "selfLink"):
            meta.pop(name, None)
        meta |= {"uid": str(uuid.uuid4()), "creationTimestamp": now()}
        if kind.versioned_spec:
            meta["generation"] = 1
        obj |= {"apiVersion": kind.api_version, "kind": kind.kind}
        self._check_namespace(kind, meta)
        if (meta.get("namespace", ""), meta.get("name")) in self._objects[resource]:
            raise errors.already_exists(kind, meta["name"])
        if self._admission is not None:
            self._admission.admit(self, kind, obj, None, "")
            if not owned:
                self._admission.own(kind, obj, None, "")
        return obj if dry_run else self._commit("ADDED", kind, obj, None)

    def update(
        self, resource: str, obj: Obj, *, subresource: str = "", dry_run: bool = False, owned: bool = False
    ) -> Obj:
        """Replace the object; with "status" only its status. `owned` as in create.

        409 when its resourceVersion or uid is not the stored one; without them it overwrites. A
        write that changes nothing keeps the version. An object that is being deleted goes with its
        last finalizer.
        """
        return self._replace(resource, clone(obj), subresource, dry_run=dry_run, owned=owned)

    def _replace(self, resource: str, obj: Obj, subresource: str, *, dry_run: bool, owned: bool) -> Obj:
        """`update` of an object that is already the store's own."""
        kind = BY_PLURAL[resource]
        old = self.get(resource, *_key(obj))
        meta = obj["metadata"]
        lifecycle.check_identity(kind, old, meta.get("uid"), meta.get("resourceVersion"))
        obj = lifecycle.merged(kind, obj, old, subresource)
        if self._admission is not None:
            self._admission.admit(self, kind, obj, old, subresource)
            if not owned:
                self._admission.own(kind, obj, old, subresource)
        meta = obj["metadata"]
        if kind.versioned_spec and lifecycle.counted(obj) != lifecycle.counted(old):
            meta["generation"] = old["metadata"].get("generation", 0) + 1
        meta["resourceVersion"] = old["metadata"]["resourceVersion"]
        if lifecycle.timeless(obj) == lifecycle.timeless(old):
            return old
        if dry_run:
            return obj
        gone = "deletionTimestamp" in meta and not lifecycle.held(obj)
        if gone and not meta.get("deletionGracePeriodSeconds"):
            return self._commit("DELETED", kind, obj, old)
        return self._commit("MODIFIED", kind, obj, old)

    def mutate(
        self,
        resource: str,
        namespace: str,
        name: str,
        change: Callable[[Obj], None],
        *,
        subresource: str = "",
    ) -> Obj:
        """Read, copy, let `change` edit the copy, update if it did."""
        old = self.get(resource, namespace, name)
        obj = clone(old)
        change(obj)
        if obj == old:
            return old
        return self._replace(resource, obj, subresource, dry_run=False, owned=False)

    def delete(
        self,
        resource: str,
        namespace: str,
        name: str,
        *,
        grace: int | None = None,
        propagation: str = "Background",
        uid: str | None = None,
        version: str | None = None,
        dry_run: bool = False,
    ) -> Obj:
        """Delete, or begin to: what is held stays, with a deletionTimestamp.

        Held are pods on a node (the kubelet ends it by calling again with grace=0), objects with
        finalizers, and namespaces. "Foreground" and "Orphan" put their finalizer on the object; the
        garbage collector acts on it and takes it off.
        """
        kind = BY_PLURAL[resource]
        old = self.get(resource, namespace, name)
        lifecycle.check_identity(kind, old, uid, version, "Precondition failed: ")
        obj: Obj = clone(old)
        meta: Obj = obj["metadata"]
        lifecycle.set_propagation(meta, propagation)
        seconds = lifecycle.grace_seconds(kind, obj, grace)
        if not seconds and not lifecycle.held(obj):
            return obj if dry_run else self._commit("DELETED", kind, obj, old)
        if seconds < meta.get("deletionGracePeriodSeconds", seconds + 1):
            meta |= {"deletionTimestamp": now(seconds), "deletionGracePeriodSeconds": seconds}
            if kind.versioned_spec:
                meta["generation"] = meta.get("generation", 0) + 1
        if kind.plural == "namespaces":
            obj["status"] = obj.get("status", {}) | {"phase": "Terminating"}
        if obj == old or dry_run:
            return obj
        return self._commit("MODIFIED", kind, obj, old)

    def _commit(self, change: Change, kind: Resource, obj: Obj, old: Obj | None) -> Obj:
        key = _key(obj)
        version = self.resource_version + 1
        obj["metadata"]["resourceVersion"] = str(version)
        raw = json.dumps(obj, separators=(",", ":"), ensure_ascii=False).encode()
        self._disk.write(kind.plural, key, None if change == "DELETED" else raw, version)
        self.resource_version = version
        if change == "DELETED":
            del self._objects[kind.plural][key]
            del self._raw[obj["metadata"]["uid"]]
        else:
            self._raw[obj["metadata"]["uid"]] = raw
            self._objects[kind.plural][key] = obj
        self._stream.publish(Event(change, kind.plural, obj, old, version, raw))
        return obj

    def _check_namespace(self, kind: Resource, meta: Obj) -> None:
        if not kind.namespaced:
            return
        home = meta["namespace"]
        found = self.find("namespaces", "", home)
        if found is None:
            raise errors.not_found(BY_PLURAL["namespaces"], home)
        if found["status"]["phase"] == "Terminating" and kind.plural != "events":
            why = f"unable to create new content in namespace {home} because it is being terminated"
            refusal = errors.forbidden(kind, meta.get("name", ""), why)
            cause = {"reason": "NamespaceTerminating", "field": "metadata.namespace"}
            refusal.details["causes"] = [cause | {"message": f"namespace {home} is being terminated"}]
            raise refusal
