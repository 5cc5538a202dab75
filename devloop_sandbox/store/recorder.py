"""Events as the cluster's components write them, repeated ones counted in one object."""

from __future__ import annotations

import time
from collections import OrderedDict

from devloop_sandbox.objects.errors import ApiError
from devloop_sandbox.objects.resources import Obj
from devloop_sandbox.store.store import Store, now

_KNOWN = 4096  # events remembered for counting


class Recorder:
    """`component` and `host` are the source, e.g. kubelet on a node."""

    def __init__(self, store: Store, component: str, host: str = "") -> None:
        self._store = store
        self._source = {"component": component} | ({"host": host} if host else {})
        self._component = component
        self._known: OrderedDict[tuple[str, ...], tuple[str, str]] = OrderedDict()

    def __call__(self, obj: Obj, kind: str, reason: str, message: str, field: str = "") -> None:
        """`kind` is Normal or Warning, `field` e.g. spec.containers{web}. It never fails: a courtesy."""
        key = (obj["metadata"].get("uid", ""), kind, reason, message, field)
        try:
            known = self._known.get(key)
            if known is not None and self._store.find("events", *known) is not None:
                self._store.mutate("events", *known, _count)
            else:
                made = self._store.create("events", self._new(obj, kind, reason, message, field))
                self._known[key] = (made["metadata"]["namespace"], made["metadata"]["name"])
        except ApiError:
            return
        while len(self._known) > _KNOWN:
            self._known.popitem(last=False)

    def _new(self, obj: Obj, kind: str, reason: str, message: str, field: str) -> Obj:
        meta = obj["metadata"]
        involved = {
            "kind": obj.get("kind"),
            "namespace": meta.get("namespace", ""),
            "name": meta["name"],
            "uid": meta.get("uid"),
            "apiVersion": obj.get("apiVersion"),
            "resourceVersion": meta.get("resourceVersion"),
        }
        if field:
            involved["fieldPath"] = field
        moment = now()
        return {
            "metadata": {
                "name": f"{meta['name']}.{time.time_ns():x}",
                "namespace": meta.get("namespace") or "default",
            },
            "involvedObject": {name: value for name, value in involved.items() if value},
            "reason": reason,
            "message": message[:1024],
            "source": self._source,
            "firstTimestamp": moment,
            "lastTimestamp": moment,
            "count": 1,
            "type": kind,
            "eventTime": None,
            "reportingComponent": self._component,
            "reportingInstance": self._source.get("host", ""),
        }


def _count(event: Obj) -> None:
    event["count"] = event.get("count", 1) + 1
    event["lastTimestamp"] = now()
