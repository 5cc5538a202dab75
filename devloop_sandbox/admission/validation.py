"""What every kind must be before it is stored, and what may not change afterwards."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from devloop_sandbox.admission import batch, pod_updates, podspec
from devloop_sandbox.admission.problems import Problems
from devloop_sandbox.objects import errors
from devloop_sandbox.objects.resources import Obj, Resource
from devloop_sandbox.objects.selectors import matches

_IMMUTABLE = "field is immutable"
_MEBIBYTE = 1024 * 1024
_SECRET_KEYS = {
    "kubernetes.io/tls": ("tls.crt", "tls.key"),
    "kubernetes.io/dockerconfigjson": (".dockerconfigjson",),
    "kubernetes.io/ssh-auth": ("ssh-privatekey",),
}
_STATEFUL = (
    "replicas", "ordinals", "template", "updateStrategy", "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy", "minReadySeconds",
)  # fmt: skip


def check(resource: Resource, obj: Obj, old: Obj | None) -> None:
    """ApiError 422 with everything that is wrong, in the order of the object."""
    problems = Problems()
    _metadata(problems, resource, obj["metadata"], old)
    rule = _RULES.get(resource.kind)
    if rule is not None:
        rule(problems, obj, old)
    if problems.found:
        raise errors.invalid(resource, obj["metadata"].get("name", ""), problems.found)


def _metadata(problems: Problems, resource: Resource, meta: Obj, old: Obj | None) -> None:
    name = meta.get("name")
    if not name:
        problems.required("metadata.name", "name or generateName is required")
    else:
        rule = {"namespaces": "label", "services": "service"}.get(resource.plural, "subdomain")
        problems.text(rule, "metadata.name", name)
    problems.labels("metadata.labels", meta.get("labels"))
    for key in meta.get("annotations") or {}:
        problems.text("key", "metadata.annotations", key.lower())
    if old is not None and "deletionTimestamp" in old["metadata"]:
        known = old["metadata"].get("finalizers") or []
        if new := [name for name in meta.get("finalizers") or [] if name not in known]:
            names = ", ".join(f'"{name}"' for name in new)
            why = "no new finalizers can be added if the object is being deleted, found new finalizers "
            why += f"[]string{{{names}}}"
            problems.forbidden("metadata.finalizers", why)
    for at, owner in enumerate(meta.get("ownerReferences") or []):
        for part in ("apiVersion", "kind", "name", "uid"):
            if not owner.get(part):
                problems.invalid(f"metadata.ownerReferences[{at}].{part}", "", "must not be empty")


def _selector(problems: Problems, spec: Obj, old: Obj | None) -> None:
    """The selector of a workload: there, not empty, never changed, and matching its own template."""
    selector = spec.get("selector")
    if not selector:
        problems.required("spec.selector")
        return
    if not (selector.get("matchLabels") or selector.get("matchExpressions")):
        problems.invalid("spec.selector", selector, "empty selector is invalid for deployment")
    problems.labels("spec.selector.matchLabels", selector.get("matchLabels"))
    for at, rule in enumerate(selector.get("matchExpressions") or []):
        kinds = ("In", "NotIn", "Exists", "DoesNotExist")
        problems.one_of(f"spec.selector.matchExpressions[{at}].operator", rule.get("operator"), kinds)
    labels = ((spec.get("template") or {}).get("metadata") or {}).get("labels") or {}
    problems.labels("spec.template.metadata.labels", labels)
    if not matches(selector, labels):
        why = "`selector` does not match template `labels`"
        problems.invalid("spec.template.metadata.labels", labels, why)
    if old is not None and old["spec"].get("selector") != selector:
        problems.invalid("spec.selector", selector, _IMMUTABLE)


def _workload(problems: Problems, obj: Obj, old: Obj | None) -> None:
    spec = obj["spec"]
    for name in ("replicas", "minReadySeconds", "revisionHistoryLimit"):
        problems.at_least(f"spec.{name}", spec.get(name), 0)
    _selector(problems, spec, old)
    template = spec.get("template")
    if not template:
        problems.required("spec.template")
        return
    templates = spec.get("volumeClaimTemplates") or []
    claims = [(claim.get("metadata") or {}).get("name", "") for claim in templates]
    podspec.check(
        problems, template.get("spec") or {}, "spec.template.spec", policies=("Always",), claims=claims
    )


def _deployment(problems: Problems, obj: Obj, old: Obj | None) -> None:
    _workload(problems, obj, old)
    spec = obj["spec"]
    strategy = spec["strategy"]
    problems.one_of("spec.strategy.type", strategy.get("type"), ("Recreate", "RollingUpdate"))
    limits = strategy.get("rollingUpdate")
    if strategy.get("type") == "Recreate" and limits:
        why = "may not be specified when strategy `type` is 'Recreate'"
        problems.forbidden("spec.strategy.rollingUpdate", why)
    elif limits:
        for name in ("maxSurge", "maxUnavailable"):
            _share(problems, f"spec.strategy.rollingUpdate.{name}", limits.get(name))
        if all(str(limits.get(name)) in ("0", "0%") for name in ("maxSurge", "maxUnavailable")):
            path, why = "spec.strategy.rollingUpdate.maxUnavailable", "may not be 0 when `maxSurge` is 0"
            problems.invalid(path, limits["maxUnavailable"], why)
    deadline = spec.get("progressDeadlineSeconds", 600)
    if deadline <= spec.get("minReadySeconds", 0):
        problems.invalid("spec.progressDeadlineSeconds", deadline, "must be greater than minReadySeconds")


def _share(problems: Problems, path: str, value: Any) -> None:
    if isinstance(value, int):
        problems.at_least(path, value, 0)
    elif not (isinstance(value, str) and value.endswith("%") and value[:-1].isdigit()):
        why = "must be an integer or percentage (e.g '5%', regex used for validation is '[0-9]+%')"
        problems.invalid(path, value, why)


def _stateful_set(problems: Problems, obj: Obj, old: Obj | None) -> None:
    _workload(problems, obj, old)
    spec = obj["spec"]
    problems.one_of("spec.podManagementPolicy", spec.get("podManagementPolicy"), ("OrderedReady", "Parallel"))
    types = ("OnDelete", "RollingUpdate")
    problems.one_of("spec.updateStrategy.type", spec["updateStrategy"].get("type"), types)
    if old is not None and any(
        spec.get(name) != old["spec"].get(name)
        for name in (spec.keys() | old["spec"].keys()) - {*_STATEFUL, "selector"}
    ):
        allowed = ", ".join(f"'{name}'" for name in _STATEFUL[:-1])
        why = (
            f"updates to statefulset spec for fields other than {allowed} and 'minReadySeconds' are forbidden"
        )
        problems.forbidden("spec", why)


def _pod(problems: Problems, obj: Obj, old: Obj | None) -> None:
    podspec.check(problems, obj["spec"], "spec")
    if old is not None:
        pod_updates.check(problems, obj["spec"], old["spec"])


def _service(problems: Problems, obj: Obj, old: Obj | None) -> None:
    spec = obj["spec"]
    kind, ports = spec.get("type"), spec.get("ports") or []
    kinds = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
    problems.one_of("spec.type", kind, kinds)
    problems.one_of("spec.sessionAffinity", spec.get("sessionAffinity"), ("ClientIP", "None"))
    problems.labels("spec.selector", spec.get("selector"))
    if kind == "ExternalName" and not spec.get("externalName"):
        problems.required("spec.externalName")
    if not ports and kind != "ExternalName" and spec.get("clusterIP") != "None":
        problems.required("spec.ports")
    for at, port in enumerate(ports):
        here = f"spec.ports[{at}]"
        if len(ports) > 1 and not port.get("name"):
            problems.required(f"{here}.name")
        elif port.get("name"):
            problems.text("label", f"{here}.name", port["name"])
        problems.port(f"{here}.port", port.get("port"))
        problems.port(f"{here}.targetPort", port.get("targetPort"))
        problems.one_of(f"{here}.protocol", port.get("protocol"), ("SCTP", "TCP", "UDP"))
        if port.get("nodePort") and kind == "ClusterIP":
            problems.forbidden(f"{here}.nodePort", "may not be used when `type` is 'ClusterIP'")
    problems.unique("spec.ports", ports, lambda port: port.get("name"), ".name")
    pairs = [(port.get("protocol"), port.get("port")) for port in ports]
    problems.unique("spec.ports", pairs, lambda pair: f"{pair[0]}/{pair[1]}", "")
    known = (old or {}).get("spec", {})
    if known.get("clusterIP") and kind != "ExternalName" and spec.get("clusterIP") != known["clusterIP"]:
        path, value = "spec.clusterIPs[0]", spec.get("clusterIPs")
        problems.invalid(path, value, "may not change once set")


def _keys(problems: Problems, obj: Obj, old: Obj | None) -> None:
    """ConfigMap and Secret: valid keys, a size, and nothing changed once immutable."""
    data, binary = obj.get("data") or {}, obj.get("binaryData") or {}
    for part, values in (("data", data), ("binaryData", binary)):
        for key in values:
            problems.text("config key", f"{part}[{key}]", key)
    for key in data.keys() & binary.keys():
        problems.invalid(f"data[{key}]", key, "duplicate of key present in binaryData")
    size = sum(len(key) + len(value) for key, value in [*data.items(), *binary.items()])
    if size > _MEBIBYTE * (4 / 3 if obj["kind"] == "Secret" else 1):
        problems.too_long("data", _MEBIBYTE)
    for key in _SECRET_KEYS.get(obj.get("type", ""), ()):
        if key not in data:
            problems.required(f"data[{key}]")
    if old is not None:
        _unchanged(problems, obj, old)


def _unchanged(problems: Problems, obj: Obj, old: Obj) -> None:
    if obj["kind"] == "Secret" and obj.get("type") != old.get("type"):
        problems.invalid("type", obj.get("type"), _IMMUTABLE)
    if old.get("immutable"):
        why = "field is immutable when `immutable` is set"
        if not obj.get("immutable"):
            problems.forbidden("immutable", why)
        for part in ("data", "binaryData"):
            if obj.get(part) != old.get(part):
                problems.forbidden(part, why)


def _ingress(problems: Problems, obj: Obj, old: Obj | None) -> None:
    spec = obj.get("spec") or {}
    if not spec.get("rules") and not spec.get("defaultBackend"):
        problems.invalid("spec", spec, "either `defaultBackend` or `rules` must be specified")
    for at, rule in enumerate(spec.get("rules") or []):
        for index, path in enumerate((rule.get("http") or {}).get("paths") or []):
            here = f"spec.rules[{at}].http.paths[{index}]"
            if not path.get("pathType"):
                problems.required(f"{here}.pathType", "pathType must be specified")
            problems.one_of(
                f"{here}.pathType", path.get("pathType"), ("Exact", "ImplementationSpecific", "Prefix")
            )


_RULES: dict[str, Callable[[Problems, Obj, Obj | None], None]] = {
    "Pod": _pod,
    "Deployment": _deployment,
    "ReplicaSet": _workload,
    "StatefulSet": _stateful_set,
    "Service": _service,
    "ConfigMap": _keys,
    "Secret": _keys,
    "Ingress": _ingress,
    "Job": batch.job,
    "CronJob": batch.cron_job,
}
