"""Namespaces' own business: a service account in each, their end, quotas' figures, old events."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

from devloop.sandbox import quotas
from devloop.sandbox.errors import ApiError
from devloop.sandbox.quantity import canonical
from devloop.sandbox.resources import RESOURCES, Obj
from devloop.sandbox.store import Store

_EVENT_LIFE = timedelta(hours=1)
_SWEEP = 300.0  # seconds between two looks for old events
_SYSTEM = ("default", "kube-system", "kube-public", "kube-node-lease")


def bootstrap(store: Store) -> None:
    """The namespaces that every cluster has."""
    for name in _SYSTEM:
        if store.find("namespaces", "", name) is None:
            store.create("namespaces", {"metadata": {"name": name}})
    for namespace in store.list("namespaces"):
        _keep(store, namespace)


async def run(store: Store) -> None:
    """Until cancelled."""
    async with asyncio.TaskGroup() as group:
        group.create_task(_sweep(store))
        with store.subscribe() as events:
            bootstrap(store)
            async for event in events:
                if event.resource == "namespaces" and event.type != "DELETED":
                    _keep(store, event.obj)
                home = event.obj["metadata"].get("namespace")
                if home and event.type == "DELETED":
                    namespace = store.find("namespaces", "", home)
                    if namespace is not None and "deletionTimestamp" in namespace["metadata"]:
                        _keep(store, namespace)
                if home and event.resource != "events":
                    _count(store, home)


def _keep(store: Store, namespace: Obj) -> None:
    """Give a namespace its service account, or take a dying one apart."""
    name = namespace["metadata"]["name"]
    if "deletionTimestamp" not in namespace["metadata"]:
        if store.find("serviceaccounts", name, "default") is None:
            store.create("serviceaccounts", {"metadata": {"name": "default", "namespace": name}})
        return
    left = 0
    for resource in RESOURCES:
        for obj in store.list(resource.plural, name) if resource.namespaced else []:
            if "deletionTimestamp" not in obj["metadata"]:
                store.delete(resource.plural, name, obj["metadata"]["name"])
            left += store.find(resource.plural, name, obj["metadata"]["name"]) is not None
    found = store.find("namespaces", "", name)
    if not left and found is not None:
        store.update("namespaces", found | {"spec": {}}, subresource="finalize")


def _count(store: Store, home: str) -> None:
    for quota in store.list("resourcequotas", home):
        used = {name: canonical(str(value)) for name, value in quotas.usage(store, quota).items()}
        status = {"hard": quota.get("spec", {}).get("hard", {}), "used": used}
        if quota.get("status") != status:
            fresh = quota | {"status": status}
            store.update("resourcequotas", fresh, subresource="status")


async def _sweep(store: Store) -> None:
    """Events live for an hour."""
    while True:
        await asyncio.sleep(_SWEEP)
        limit = (datetime.now(UTC) - _EVENT_LIFE).strftime("%Y-%m-%dT%H:%M:%SZ")
        for event in store.list("events"):
            last = event.get("lastTimestamp") or event["metadata"]["creationTimestamp"]
            if last < limit:
                try:
                    store.delete("events", event["metadata"]["namespace"], event["metadata"]["name"])
                except ApiError:
                    continue  # somebody was quicker
