"""Fields that the sandbox stores and then does nothing with: a Warning header names them."""

from __future__ import annotations

from collections.abc import Iterator

from devloop_sandbox.objects.resources import Obj

_POD = (
    "activeDeadlineSeconds", "affinity", "dnsConfig", "ephemeralContainers", "hostUsers", "hostnameOverride",
    "imagePullSecrets", "overhead", "priorityClassName", "readinessGates", "resourceClaims", "resources",
    "runtimeClassName", "schedulingGates", "schedulingGroup", "setHostnameAsFQDN", "shareProcessNamespace",
    "topologySpreadConstraints",
)  # fmt: skip
_CONTAINER = ("resizePolicy", "restartPolicy", "restartPolicyRules", "volumeDevices")  # so no sidecars
_SECURITY = ("appArmorProfile", "procMount", "seLinuxOptions", "seccompProfile", "sysctls")
_MOUNT = ("mountPropagation", "recursiveReadOnly", "subPathExpr")
_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
_VOLUMES = {
    "name", "configMap", "downwardAPI", "emptyDir", "hostPath", "persistentVolumeClaim", "projected",
    "secret",
}  # fmt: skip
_JOB = ("backoffLimitPerIndex", "managedBy", "maxFailedIndexes", "podFailurePolicy", "successPolicy")
_SERVICE = ("externalIPs", "loadBalancerIP", "loadBalancerSourceRanges", "trafficDistribution")


def warnings(obj: Obj) -> list[str]:
    """One line for each such field of a pod, a workload or a service."""
    spec = obj.get("spec") or {}
    if obj["kind"] == "Pod":
        found = _pod(spec, "spec")
    elif obj["kind"] == "Service":
        found = _service(spec)
    elif obj["kind"] == "CronJob":
        found = _job((spec.get("jobTemplate") or {}).get("spec") or {}, "spec.jobTemplate.spec")
    elif obj["kind"] == "Job":
        found = _job(spec, "spec")
    elif isinstance(spec.get("template"), dict):
        found = _workload(spec)
    else:
        return []
    return [f"{path}: has no effect in the devloop sandbox" for path in found]


def _given(part: Obj, names: tuple[str, ...], path: str) -> Iterator[str]:
    return (f"{path}.{name}" for name in names if part.get(name))


def _workload(spec: Obj) -> Iterator[str]:
    yield from _given(spec, ("ordinals",), "spec")
    yield from _pod(spec["template"].get("spec") or {}, "spec.template.spec")


def _job(spec: Obj, path: str) -> Iterator[str]:
    yield from _given(spec, _JOB, path)
    yield from _pod((spec.get("template") or {}).get("spec") or {}, f"{path}.template.spec")


def _pod(spec: Obj, path: str) -> Iterator[str]:
    yield from _given(spec, _POD, path)
    yield from _given(spec.get("securityContext") or {}, _SECURITY, f"{path}.securityContext")
    if spec.get("dnsPolicy", "ClusterFirst") not in ("ClusterFirst", "ClusterFirstWithHostNet"):
        yield f"{path}.dnsPolicy"
    if spec.get("schedulerName", "default-scheduler") != "default-scheduler":
        yield f"{path}.schedulerName"
    for at, volume in enumerate(spec.get("volumes") or []):
        yield from (f"{path}.volumes[{at}].{kind}" for kind in volume if kind not in _VOLUMES)
    for kind in ("initContainers", "containers"):
        for at, container in enumerate(spec.get(kind) or []):
            yield from _container(container, f"{path}.{kind}[{at}]")


def _container(container: Obj, path: str) -> Iterator[str]:
    yield from _given(container, _CONTAINER, path)
    yield from _given(container.get("securityContext") or {}, _SECURITY, f"{path}.securityContext")
    for at, mount in enumerate(container.get("volumeMounts") or []):
        yield from _given(mount, _MOUNT, f"{path}.volumeMounts[{at}]")
    for at, port in enumerate(container.get("ports") or []):
        yield from _given(port, ("hostPort",), f"{path}.ports[{at}]")
    for at, variable in enumerate(container.get("env") or []):
        yield from _given(variable.get("valueFrom") or {}, ("fileKeyRef",), f"{path}.env[{at}].valueFrom")
    for kind in _PROBES:
        yield from _given(container.get(kind) or {}, ("grpc",), f"{path}.{kind}")
    yield from _given(container.get("lifecycle") or {}, ("stopSignal",), f"{path}.lifecycle")


def _service(spec: Obj) -> Iterator[str]:
    yield from _given(spec, _SERVICE, "spec")
    if spec.get("sessionAffinity") == "ClientIP":
        yield "spec.sessionAffinity"
    for name in ("externalTrafficPolicy", "internalTrafficPolicy"):
        if spec.get(name) == "Local":
            yield f"spec.{name}"
    for at, port in enumerate(spec.get("ports") or []):
        if port.get("protocol", "TCP") != "TCP":
            yield f"spec.ports[{at}].protocol"
