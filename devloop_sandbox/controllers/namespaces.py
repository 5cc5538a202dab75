"""What every namespace has, and how it is emptied when it is deleted."""

from __future__ import annotations

from collections.abc import Iterable

from typing_extensions import override

from devloop_sandbox.controllers.base import Controller, Key, key_of
from devloop_sandbox.controllers.owners import delete_quietly
from devloop_sandbox.objects.resources import RESOURCES, Obj
from devloop_sandbox.store.store import Event


class Namespaces(Controller):
    """Keys are ("", name)."""

    component = "namespace-controller"

    @override
    def initial(self) -> Iterable[Key]:
        return [key_of(obj) for obj in self.store.list("namespaces")]

    @override
    def keys(self, event: Event) -> Iterable[Key]:
        if event.resource == "namespaces":
            return [key_of(event.obj)]
        if event.type == "DELETED" and event.obj["metadata"].get("namespace") and event.resource != "events":
            return [("", event.obj["metadata"]["namespace"])]
        return []

    @override
    def sync(self, key: Key) -> float | None:
        found = self.store.find("namespaces", *key)
        if found is None:
            return None
        if "deletionTimestamp" in found["metadata"]:
            self._empty(found)
        elif self.store.find("serviceaccounts", key[1], "default") is None:
            self.store.create("serviceaccounts", {"metadata": {"name": "default", "namespace": key[1]}})
        if key[1] == "default" and self.store.find("services", "default", "kubernetes") is None:
            self.store.create("services", _api_service())
        return None

    def _empty(self, namespace: Obj) -> None:
        name, left = namespace["metadata"]["name"], 0
        for kind in (kind for kind in RESOURCES if kind.namespaced):
            for obj in self.store.list(kind.plural, name):
                if "deletionTimestamp" not in obj["metadata"]:
                    delete_quietly(self.store, kind.plural, obj)
                left += self.store.find(kind.plural, *key_of(obj)) is not None
        if left:
            return

        def change(copy: Obj) -> None:
            copy["spec"] = {**copy.get("spec", {}), "finalizers": []}

        self.store.mutate("namespaces", "", name, change)


def _api_service() -> Obj:
    """Every cluster has it. Here nothing stands behind it: pods have no business with this API."""
    labels = {"component": "apiserver", "provider": "kubernetes"}
    ports = [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": 6443}]
    meta = {"name": "kubernetes", "namespace": "default", "labels": labels}
    return {"metadata": meta, "spec": {"type": "ClusterIP", "ports": ports}}
