"""What the server fills in when the writer leaves it out; a second write of the same changes nothing."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

from devloop_sandbox.objects.resources import Obj, Resource

_PROBE = {"timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3}
_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
_TOLERATED = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")


def fill(resource: Resource, obj: Obj) -> None:
    """Put the defaults of its kind into `obj`."""
    filler = _BY_KIND.get(resource.kind)
    if filler is not None:
        filler(obj)


def _put(target: Obj, values: Obj) -> None:
    for key, value in values.items():
        target.setdefault(key, value)


def _deployment(obj: Obj) -> None:
    spec = obj.setdefault("spec", {})
    _put(spec, {"replicas": 1, "revisionHistoryLimit": 10, "progressDeadlineSeconds": 600})
    if not spec.get("paused"):
        spec.pop(
            "paused", None
        )  # Kubernetes leaves a false out of the object, and so a null is expected of it
    strategy = spec.setdefault("strategy", {})
    strategy.setdefault("type", "RollingUpdate")
    if strategy["type"] == "RollingUpdate":
        limits = strategy.setdefault("rollingUpdate", {})
        _put(limits, {"maxSurge": "25%", "maxUnavailable": "25%"})
    _template(spec)


def _replica_set(obj: Obj) -> None:
    spec = obj.setdefault("spec", {})
    spec.setdefault("replicas", 1)
    _template(spec)


def _stateful_set(obj: Obj) -> None:
    spec = obj.setdefault("spec", {})
    retention = {"whenDeleted": "Retain", "whenScaled": "Retain"}
    _put(spec, {"replicas": 1, "revisionHistoryLimit": 10, "podManagementPolicy": "OrderedReady"})
    _put(spec, {"persistentVolumeClaimRetentionPolicy": retention})
    strategy = spec.setdefault("updateStrategy", {})
    strategy.setdefault("type", "RollingUpdate")
    if strategy["type"] == "RollingUpdate":
        strategy.setdefault("rollingUpdate", {}).setdefault("partition", 0)
    _template(spec)


def _job(obj: Obj) -> None:
    spec, meta = obj.setdefault("spec", {}), obj["metadata"]
    obj.setdefault("status", {})
    if "parallelism" not in spec and "completions" not in spec:
        spec["completions"] = 1
    _put(spec, {"parallelism": 1, "backoffLimit": 6, "completionMode": "NonIndexed", "suspend": False})
    _put(spec, {"manualSelector": False, "podReplacementPolicy": "TerminatingOrFailed"})
    template = spec.get("template")
    if (
        "uid" in meta and not spec["manualSelector"] and isinstance(template, dict)
    ):  # on its way into the store
        uid, name = meta["uid"], meta["name"]
        labels = template.setdefault("metadata", {}).setdefault("labels", {})
        for prefix in ("", "batch.kubernetes.io/"):
            labels |= {f"{prefix}controller-uid": uid, f"{prefix}job-name": name}
        spec.setdefault("selector", {"matchLabels": {"batch.kubernetes.io/controller-uid": uid}})
    _template(spec)


def _cron_job(obj: Obj) -> None:
    spec = obj.setdefault("spec", {})
    obj.setdefault("status", {})
    _put(spec, {"concurrencyPolicy": "Allow", "suspend": False})
    _put(spec, {"successfulJobsHistoryLimit": 3, "failedJobsHistoryLimit": 1})
    if isinstance(spec.get("jobTemplate"), dict):
        _template(spec["jobTemplate"].setdefault("spec", {}))


def _template(spec: Obj) -> None:
    if isinstance(spec.get("template"), dict):
        _pod_spec(spec["template"].setdefault("spec", {}))


def _pod(obj: Obj) -> None:
    spec = obj.setdefault("spec", {})
    _pod_spec(spec)
    _put(spec, {"enableServiceLinks": True, "serviceAccountName": "default", "priority": 0})
    _put(spec, {"serviceAccount": spec["serviceAccountName"]})
    _put(spec, {"preemptionPolicy": "PreemptLowerPriority"})
    tolerations = spec.setdefault("tolerations", [])
    for key in _TOLERATED:
        if not any(known.get("key") in (key, None) for known in tolerations):
            toleration = {"key": key, "operator": "Exists", "effect": "NoExecute"}
            tolerations.append(toleration | {"tolerationSeconds": 300})
    obj.setdefault("status", {}).setdefault("phase", "Pending")
    obj["status"].setdefault("qosClass", _quality(spec))


def _quality(spec: Obj) -> str:
    """Guaranteed, Burstable or BestEffort, from cpu and memory of every container."""
    containers = [c.get("resources", {}) for c in spec.get("containers", [])]
    asked = [r.get(side, {}) for r in containers for side in ("requests", "limits")]
    if not any(asked):
        return "BestEffort"
    full = all(
        r.get("limits", {}).keys() >= {"cpu", "memory"}
        and all(r["limits"][n] == r.get("requests", {}).get(n) for n in ("cpu", "memory"))
        for r in containers
    )
    return "Guaranteed" if full else "Burstable"


def _pod_spec(spec: Obj) -> None:
    _put(
        spec,
        {
            "restartPolicy": "Always",
            "dnsPolicy": "ClusterFirst",
            "schedulerName": "default-scheduler",
            "securityContext": {},
            "terminationGracePeriodSeconds": 30,
        },
    )
    if "serviceAccountName" in spec:
        spec.setdefault("serviceAccount", spec["serviceAccountName"])
    for container in spec.get("initContainers", []) + spec.get("containers", []):
        _container(container)
    for volume in spec.get("volumes", []):
        _volume(volume)


def _container(container: Obj) -> None:
    _put(
        container,
        {
            "imagePullPolicy": _pull_policy(container.get("image", "")),
            "resources": {},
            "terminationMessagePath": "/dev/termination-log",
            "terminationMessagePolicy": "File",
        },
    )
    limits = container["resources"].get("limits")
    if limits:
        _put(container["resources"].setdefault("requests", {}), limits)
    for port in container.get("ports", []):
        port.setdefault("protocol", "TCP")
    for variable in container.get("env", []):
        reference = variable.get("valueFrom", {}).get("fieldRef")
        if reference is not None:
            reference.setdefault("apiVersion", "v1")
    for name in _PROBES:
        if name in container:
            _put(container[name], _PROBE)
            _action(container[name])
    for hook in container.get("lifecycle", {}).values():
        if isinstance(hook, dict):
            _action(hook)


def _action(probe: Obj) -> None:
    if "httpGet" in probe:
        _put(probe["httpGet"], {"path": "/", "scheme": "HTTP"})
    if "grpc" in probe:
        probe["grpc"].setdefault("service", "")


def _pull_policy(image: str) -> str:
    name = image.rpartition("/")[2]
    untagged = ":" not in name and "@" not in image
    return "Always" if untagged or name.endswith(":latest") else "IfNotPresent"


def _volume(volume: Obj) -> None:
    if not volume.keys() - {"name"}:
        volume["emptyDir"] = {}
    for kind in ("configMap", "secret", "downwardAPI", "projected"):
        if kind in volume:
            volume[kind].setdefault("defaultMode", 420)
    if "hostPath" in volume:
        volume["hostPath"].setdefault("type", "")
    fields = volume.get("downwardAPI", {}).get("items", [])
    for source in volume.get("projected", {}).get("sources", []):
        fields = fields + source.get("downwardAPI", {}).get("items", [])
        if "serviceAccountToken" in source:
            source["serviceAccountToken"].setdefault("expirationSeconds", 3600)
    for item in fields:
        if "fieldRef" in item:
            item["fieldRef"].setdefault("apiVersion", "v1")


def _service(obj: Obj) -> None:
    spec = obj.setdefault("spec", {})
    _put(spec, {"type": "ClusterIP", "sessionAffinity": "None"})
    for port in spec.get("ports", []):
        port.setdefault("protocol", "TCP")
        port.setdefault("targetPort", port.get("port"))
    if spec["type"] != "ExternalName":
        spec.setdefault("internalTrafficPolicy", "Cluster")
        _put(spec, {"ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack"})
    if spec["type"] in ("NodePort", "LoadBalancer"):
        spec.setdefault("externalTrafficPolicy", "Cluster")
    if spec["type"] == "LoadBalancer":
        spec.setdefault("allocateLoadBalancerNodePorts", True)
    obj.setdefault("status", {}).setdefault("loadBalancer", {})


def _namespace(obj: Obj) -> None:
    name = obj["metadata"].get("name", "")
    obj["metadata"].setdefault("labels", {})["kubernetes.io/metadata.name"] = name
    obj.setdefault("status", {}).setdefault("phase", "Active")


def _secret(obj: Obj) -> None:
    obj.setdefault("type", "Opaque")
    for key, text in (obj.pop("stringData", None) or {}).items():
        obj.setdefault("data", {})[key] = base64.b64encode(str(text).encode()).decode()


def _endpoints(obj: Obj) -> None:
    for subset in obj.get("subsets", []):
        for port in subset.get("ports", []):
            port.setdefault("protocol", "TCP")


_BY_KIND: dict[str, Callable[[Any], None]] = {
    "Deployment": _deployment,
    "ReplicaSet": _replica_set,
    "StatefulSet": _stateful_set,
    "Job": _job,
    "CronJob": _cron_job,
    "Pod": _pod,
    "Service": _service,
    "Namespace": _namespace,
    "Secret": _secret,
    "Endpoints": _endpoints,
}
