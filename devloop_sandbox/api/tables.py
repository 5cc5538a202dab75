"""The columns of `kubectl get`: objects as rows of a meta.k8s.io/v1 Table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from devloop_sandbox.api.columns import age, pod_reason
from devloop_sandbox.objects.resources import Obj, Resource

Cells = Callable[[Obj], list[Any]]


def table(resource: Resource, objects: list[Obj], meta: Obj, *, include: str, header: bool = True) -> Obj:
    """A Table; `include` (Metadata, Object, None) says how much of each object a row carries."""
    columns, cells = _TABLES.get(resource.plural, _PLAIN)
    document: Obj = {"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": meta}
    document["columnDefinitions"] = [_column(name) for name in columns] if header else None
    document["rows"] = [
        {"cells": cells(obj) if columns[0] != "Name" else [obj["metadata"]["name"], *cells(obj)]}
        | _body(obj, include)
        for obj in objects
    ]
    return document


def _column(name: str) -> Obj:
    wide = name.startswith("+")
    name = name.removeprefix("+")
    kind = "integer" if name in ("Desired", "Current", "Data", "Secrets", "Active") else "string"
    return {
        "name": name,
        "type": kind,
        "format": "name" if name == "Name" else "",
        "description": "",
        "priority": int(wide),
    }


def partial(obj: Obj) -> Obj:
    """Only the metadata, as clients that list many objects ask for it."""
    kind = {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1"}
    return kind | {"metadata": obj["metadata"]}


def _body(obj: Obj, include: str) -> Obj:
    if include == "None":
        return {}
    return {"object": obj if include == "Object" else partial(obj)}


def _age(obj: Obj) -> str:
    return age(obj["metadata"].get("creationTimestamp"))


def _selector(labels: dict[str, str] | None) -> str:
    return ",".join(f"{key}={value}" for key, value in sorted((labels or {}).items())) or "<none>"


def _template(obj: Obj) -> list[str]:
    containers = obj["spec"]["template"]["spec"]["containers"]
    names = ",".join(container["name"] for container in containers)
    images = ",".join(container.get("image", "") for container in containers)
    return [names, images, _selector(obj["spec"]["selector"].get("matchLabels"))]


def _pod(obj: Obj) -> list[Any]:
    spec, status = obj["spec"], obj.get("status", {})
    states = status.get("containerStatuses", [])
    ready = sum(bool(state.get("ready")) for state in states)
    restarts = sum(state.get("restartCount", 0) for state in states)
    last = [s.get("lastState", {}).get("terminated", {}).get("finishedAt") for s in states]
    since = max((stamp for stamp in last if stamp), default="")
    again = f"{restarts} ({age(since)} ago)" if restarts and since else str(restarts)
    gates = spec.get("readinessGates", [])
    return [
        f"{ready}/{len(spec['containers'])}",
        pod_reason(obj),
        again,
        _age(obj),
        status.get("podIP", "<none>"),
        spec.get("nodeName", "<none>"),
        status.get("nominatedNodeName", "<none>"),
        f"0/{len(gates)}" if gates else "<none>",
    ]


def _deployment(obj: Obj) -> list[Any]:
    status = obj.get("status", {})
    ready = f"{status.get('readyReplicas', 0)}/{obj['spec'].get('replicas', 0)}"
    counts = [status.get("updatedReplicas", 0), status.get("availableReplicas", 0)]
    return [ready, *map(str, counts), _age(obj), *_template(obj)]


def _replica_set(obj: Obj) -> list[Any]:
    status = obj.get("status", {})
    counts = [obj["spec"].get("replicas", 0), status.get("replicas", 0)]
    return [*counts, str(status.get("readyReplicas", 0)), _age(obj), *_template(obj)]


def _stateful_set(obj: Obj) -> list[Any]:
    ready = f"{obj.get('status', {}).get('readyReplicas', 0)}/{obj['spec'].get('replicas', 0)}"
    return [ready, _age(obj), *_template(obj)[:2]]


def _job(obj: Obj) -> list[Any]:
    spec, status = obj["spec"], obj.get("status", {})
    conditions = {one["type"] for one in status.get("conditions") or [] if one["status"] == "True"}
    known = ("Complete", "Failed", "SuccessCriteriaMet", "FailureTarget", "Suspended")
    state = next((kind for kind in known if kind in conditions), "Running")
    goal = spec.get("completions")
    goal = f"1 of {spec['parallelism']}" if goal is None and spec["parallelism"] > 1 else goal or 1
    start, end = status.get("startTime"), status.get("completionTime")
    took = "" if start is None else age(start, end)
    return [state, f"{status.get('succeeded', 0)}/{goal}", took, _age(obj), *_template(obj)]


def _cron_job(obj: Obj) -> list[Any]:
    spec, status = obj["spec"], obj.get("status", {})
    last = status.get("lastScheduleTime")
    row = [spec["schedule"], spec.get("timeZone") or "<none>", str(bool(spec.get("suspend")))]
    inner = spec["jobTemplate"]["spec"]
    template = _template({"spec": {"selector": {}, **inner}})
    return [*row, len(status.get("active") or []), age(last) if last else "<none>", _age(obj), *template]


def _service(obj: Obj) -> list[Any]:
    spec = obj["spec"]
    ports = [
        f"{port['port']}:{port['nodePort']}/{port['protocol']}"
        if port.get("nodePort")
        else f"{port['port']}/{port['protocol']}"
        for port in spec.get("ports", [])
    ]
    outside = spec.get("externalName") or ("<pending>" if spec["type"] == "LoadBalancer" else "<none>")
    address = spec.get("clusterIP") or "<none>"
    labels = _selector(spec.get("selector"))
    return [spec["type"], address, outside, ",".join(ports) or "<none>", _age(obj), labels]


def _node(obj: Obj) -> list[Any]:
    status = obj.get("status", {})
    ready = any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions", []))
    state = "Ready" if ready else "NotReady"
    if obj.get("spec", {}).get("unschedulable"):
        state += ",SchedulingDisabled"
    prefix = "node-role.kubernetes.io/"
    roles = [label[len(prefix) :] for label in obj["metadata"].get("labels", {}) if label.startswith(prefix)]
    info = status.get("nodeInfo", {})
    address = {a["type"]: a["address"] for a in status.get("addresses", [])}
    wide = [address.get("InternalIP", "<none>"), address.get("ExternalIP", "<none>")]
    wide += [info.get("osImage", ""), info.get("kernelVersion", "")]
    wide.append(info.get("containerRuntimeVersion", ""))
    names = ",".join(roles) or "<none>"
    return [state, names, _age(obj), info.get("kubeletVersion", ""), *wide]


def _event(obj: Obj) -> list[Any]:
    about = obj.get("involvedObject", {})
    last = obj.get("lastTimestamp") or obj.get("eventTime") or obj.get("firstTimestamp")
    where = f"{about.get('kind', '').lower()}/{about.get('name', '')}"
    source = obj.get("source", {})
    sender = ", ".join(filter(None, (source.get("component"), source.get("host"))))
    message = str(obj.get("message", "")).strip()
    first = age(obj.get("firstTimestamp"))
    wide = [about.get("fieldPath", ""), sender, first, str(obj.get("count", 1))]
    row = [age(last), obj.get("type", ""), obj.get("reason", ""), where]
    return [*row, wide[0], wide[1], message, *wide[2:], obj["metadata"]["name"]]


def _endpoints(obj: Obj) -> list[Any]:
    places = [
        f"{address['ip']}:{port['port']}"
        for subset in obj.get("subsets", [])
        for port in subset.get("ports", [])
        for address in subset.get("addresses", [])
    ]
    more = f" + {len(places) - 3} more..." if len(places) > 3 else ""
    return [",".join(places[:3]) + more or "<none>", _age(obj)]


def _slice(obj: Obj) -> list[Any]:
    ports = [str(port["port"]) for port in obj.get("ports") or []]
    places = [address for entry in obj.get("endpoints") or [] for address in entry["addresses"]]
    lists = [",".join(found) or "<unset>" for found in (ports, places)]
    return [obj.get("addressType", ""), *lists, _age(obj)]


def _ingress(obj: Obj) -> list[Any]:
    spec = obj.get("spec", {})
    hosts = [rule.get("host", "*") for rule in spec.get("rules", [])]
    ports = "80, 443" if spec.get("tls") else "80"
    return [spec.get("ingressClassName", "<none>"), ",".join(hosts) or "*", "", ports, _age(obj)]


def _revision(obj: Obj) -> list[Any]:
    owners = obj["metadata"].get("ownerReferences", [])
    owner = f"{owners[0]['kind'].lower()}.apps/{owners[0]['name']}" if owners else "<none>"
    return [owner, obj.get("revision", 0), _age(obj)]


_WORKLOAD = ["+Containers", "+Images", "+Selector"]
_PLAIN: tuple[list[str], Cells] = (["Name", "Age"], lambda obj: [_age(obj)])
_TABLES: dict[str, tuple[list[str], Cells]] = {
    "pods": (
        ["Name", "Ready", "Status", "Restarts", "Age", "+IP", "+Node", "+Nominated Node", "+Readiness Gates"],
        _pod,
    ),
    "deployments": (["Name", "Ready", "Up-to-date", "Available", "Age", *_WORKLOAD], _deployment),
    "replicasets": (["Name", "Desired", "Current", "Ready", "Age", *_WORKLOAD], _replica_set),
    "statefulsets": (["Name", "Ready", "Age", *_WORKLOAD[:2]], _stateful_set),
    "jobs": (["Name", "Status", "Completions", "Duration", "Age", *_WORKLOAD], _job),
    "cronjobs": (
        ["Name", "Schedule", "Timezone", "Suspend", "Active", "Last Schedule", "Age", *_WORKLOAD],
        _cron_job,
    ),
    "services": (
        ["Name", "Type", "Cluster-IP", "External-IP", "Port(s)", "Age", "+Selector"],
        _service,
    ),
    "nodes": (
        [
            "Name",
            "Status",
            "Roles",
            "Age",
            "Version",
            "+Internal-IP",
            "+External-IP",
            "+OS-Image",
            "+Kernel-Version",
            "+Container-Runtime",
        ],
        _node,
    ),
    "namespaces": (
        ["Name", "Status", "Age"],
        lambda obj: [obj.get("status", {}).get("phase", ""), _age(obj)],
    ),
    "configmaps": (
        ["Name", "Data", "Age"],
        lambda obj: [len(obj.get("data", {})) + len(obj.get("binaryData", {})), _age(obj)],
    ),
    "secrets": (
        ["Name", "Type", "Data", "Age"],
        lambda obj: [obj.get("type", ""), len(obj.get("data", {})), _age(obj)],
    ),
    "serviceaccounts": (
        ["Name", "Secrets", "Age"],
        lambda obj: [len(obj.get("secrets", [])), _age(obj)],
    ),
    "events": (
        [
            "Last Seen",
            "Type",
            "Reason",
            "Object",
            "+Subobject",
            "+Source",
            "Message",
            "+First Seen",
            "+Count",
            "+Name",
        ],
        _event,
    ),
    "endpoints": (["Name", "Endpoints", "Age"], _endpoints),
    "endpointslices": (["Name", "AddressType", "Ports", "Endpoints", "Age"], _slice),
    "ingresses": (["Name", "Class", "Hosts", "Address", "Ports", "Age"], _ingress),
    "controllerrevisions": (["Name", "Controller", "Revision", "Age"], _revision),
}
