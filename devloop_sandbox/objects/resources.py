"""The kinds that the sandbox serves: one row each, read by store, discovery, HTTP and tables."""

from __future__ import annotations

import json
import marshal
from dataclasses import dataclass
from typing import Any

Obj = dict[str, Any]  # a Kubernetes object as JSON; shared once it is in the store, so never changed in place

EVERY_VERB = ("create", "delete", "get", "list", "patch", "update", "watch")


@dataclass(frozen=True, slots=True)
class Resource:
    """One served kind. `versioned_spec` says that metadata.generation counts its spec changes."""

    group: str
    version: str
    plural: str
    kind: str
    short: tuple[str, ...] = ()
    namespaced: bool = True
    subresources: tuple[str, ...] = ()
    versioned_spec: bool = False
    categories: tuple[str, ...] = ()
    verbs: tuple[str, ...] = EVERY_VERB

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def qualified(self) -> str:
        """The name that messages use: `pods`, `deployments.apps`."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def qualified_kind(self) -> str:
        return f"{self.kind}.{self.group}" if self.group else self.kind

    @property
    def has_status(self) -> bool:
        return "status" in self.subresources


_POD_PARTS = ("status", "log", "exec", "portforward")
_WORKLOAD = ("all",)

RESOURCES: tuple[Resource, ...] = (
    Resource("", "v1", "namespaces", "Namespace", ("ns",), False, ("status",)),
    Resource("", "v1", "nodes", "Node", ("no",), False, ("status",)),
    Resource("", "v1", "pods", "Pod", ("po",), True, _POD_PARTS, True, _WORKLOAD),
    Resource("", "v1", "services", "Service", ("svc",), True, ("status",), False, _WORKLOAD),
    Resource("", "v1", "endpoints", "Endpoints", ("ep",)),
    Resource("", "v1", "configmaps", "ConfigMap", ("cm",)),
    Resource("", "v1", "secrets", "Secret"),
    Resource("", "v1", "serviceaccounts", "ServiceAccount", ("sa",)),
    Resource("", "v1", "events", "Event", ("ev",)),
    Resource(
        "apps",
        "v1",
        "deployments",
        "Deployment",
        ("deploy",),
        True,
        ("status", "scale"),
        True,
        _WORKLOAD,
    ),
    Resource(
        "apps",
        "v1",
        "replicasets",
        "ReplicaSet",
        ("rs",),
        True,
        ("status", "scale"),
        True,
        _WORKLOAD,
    ),
    Resource(
        "apps",
        "v1",
        "statefulsets",
        "StatefulSet",
        ("sts",),
        True,
        ("status", "scale"),
        True,
        _WORKLOAD,
    ),
    Resource("apps", "v1", "controllerrevisions", "ControllerRevision"),
    Resource("batch", "v1", "jobs", "Job", (), True, ("status",), True, _WORKLOAD),
    Resource("batch", "v1", "cronjobs", "CronJob", ("cj",), True, ("status",), True, _WORKLOAD),
    Resource("networking.k8s.io", "v1", "ingresses", "Ingress", ("ing",), True, ("status",), True),
    Resource("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice"),
)

BY_PLURAL = {resource.plural: resource for resource in RESOURCES}
BY_KIND = {(resource.api_version, resource.kind): resource for resource in RESOURCES}
GROUPS = tuple(dict.fromkeys(resource.group for resource in RESOURCES))


def clone(value: Any) -> Any:
    """A deep copy of JSON data, many times faster than copy.deepcopy; nothing in it is shared."""
    try:
        return marshal.loads(marshal.dumps(value, 2))  # format 2 keeps no references
    except ValueError:  # a subclass of dict or list
        return json.loads(json.dumps(value))
