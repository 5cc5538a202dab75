"""What a pod's spec must be, wherever it stands: in a pod or in a template."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from devloop_sandbox.admission.problems import Problems
from devloop_sandbox.objects.quantity import to_number
from devloop_sandbox.objects.resources import Obj

POLICIES = ("Always", "OnFailure", "Never")
_HANDLERS = ("exec", "httpGet", "tcpSocket", "grpc")
_DNS = ("ClusterFirst", "ClusterFirstWithHostNet", "Default", "None")
_SOURCES = ("fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef")


def check(
    problems: Problems,
    spec: Obj,
    path: str,
    *,
    policies: Sequence[str] = POLICIES,
    claims: Collection[str] = (),
) -> None:
    """Every rule on a pod spec; `policies` are what its restartPolicy can be.

    `claims` are volumes that the spec itself does not have: those of a StatefulSet's claims.
    """
    containers = spec.get("containers") or []
    inits = spec.get("initContainers") or []
    volumes = spec.get("volumes") or []
    if not containers:
        problems.required(f"{path}.containers")
    problems.one_of(f"{path}.restartPolicy", spec.get("restartPolicy"), policies)
    problems.one_of(f"{path}.dnsPolicy", spec.get("dnsPolicy"), _DNS)
    problems.at_least(f"{path}.terminationGracePeriodSeconds", spec.get("terminationGracePeriodSeconds"), 0)
    problems.unique(f"{path}.volumes", volumes, lambda volume: volume.get("name"), ".name")
    for at, volume in enumerate(volumes):
        _volume(problems, volume, f"{path}.volumes[{at}]")
    problems.unique(f"{path}.containers", containers, lambda c: c.get("name"), ".name")
    names = {container.get("name") for container in containers}
    mountable = {volume.get("name") for volume in volumes} | {*claims}
    for at, container in enumerate(containers):
        _container(problems, container, f"{path}.containers[{at}]", mountable)
    for at, container in enumerate(inits):
        here = f"{path}.initContainers[{at}]"
        if container.get("name") in names:
            problems.duplicate(f"{here}.name", container["name"])
        names.add(container.get("name"))
        _container(problems, container, here, mountable, init=True)


def _container(
    problems: Problems, container: Obj, path: str, mountable: set[Any], *, init: bool = False
) -> None:
    if not container.get("name"):
        problems.required(f"{path}.name")
    else:
        problems.text("label", f"{path}.name", container["name"])
    if not container.get("image"):
        problems.required(f"{path}.image")
    elif container["image"] != container["image"].strip():
        problems.invalid(f"{path}.image", container["image"], "must not have leading or trailing whitespace")
    policies = ("Always", "IfNotPresent", "Never")
    problems.one_of(f"{path}.imagePullPolicy", container.get("imagePullPolicy"), policies)
    _ports(problems, container.get("ports") or [], f"{path}.ports")
    for at, variable in enumerate(container.get("env") or []):
        _variable(problems, variable, f"{path}.env[{at}]")
    _mounts(problems, container.get("volumeMounts") or [], f"{path}.volumeMounts", mountable)
    _resources(problems, container.get("resources") or {}, f"{path}.resources")
    restarting = container.get("restartPolicy") == "Always"
    for name in ("livenessProbe", "readinessProbe", "startupProbe"):
        if name in container and init and not restarting:
            problems.forbidden(
                f"{path}.{name}", "may not be set for init containers without restartPolicy=Always"
            )
        elif name in container:
            _probe(problems, container[name], f"{path}.{name}", once=name != "readinessProbe")
    for hook, action in (container.get("lifecycle") or {}).items():
        if isinstance(action, dict):
            _handler(problems, action, f"{path}.lifecycle.{hook}", (*_HANDLERS, "sleep"))


def _ports(problems: Problems, ports: list[Obj], path: str) -> None:
    problems.unique(path, ports, lambda port: port.get("name"), ".name")
    hosts = [(p["hostPort"], p.get("protocol")) if p.get("hostPort") else None for p in ports]
    problems.unique(path, hosts, lambda host: host and f"{host[1]}//{host[0]}", ".hostPort")
    for at, port in enumerate(ports):
        here = f"{path}[{at}]"
        if "containerPort" not in port:
            problems.required(f"{here}.containerPort")
        else:
            problems.port(f"{here}.containerPort", port["containerPort"])
        if "name" in port:
            problems.text("port name", f"{here}.name", port["name"])
        problems.one_of(f"{here}.protocol", port.get("protocol"), ("TCP", "UDP", "SCTP"))


def _variable(problems: Problems, variable: Obj, path: str) -> None:
    if not variable.get("name"):
        problems.required(f"{path}.name")
    elif "=" in variable["name"] or not (variable["name"].isascii() and variable["name"].isprintable()):
        why = (
            "a valid environment variable name must consist only of printable ASCII characters other than '='"
        )
        problems.invalid(f"{path}.name", variable["name"], why)
    source = variable.get("valueFrom")
    if source is None:
        return
    if variable.get("value"):
        problems.invalid(f"{path}.valueFrom", "", "may not be specified when `value` is not empty")
    count = sum(name in source for name in _SOURCES)
    if count != 1:
        choice = ", ".join(f"`{name}`" for name in _SOURCES)
        why = (
            "may not have more than one field specified at a time"
            if count
            else f"must specify one of: {choice}"
        )
        problems.invalid(f"{path}.valueFrom", "", why)
    for name in ("configMapKeyRef", "secretKeyRef"):
        if name in source and not source[name].get("key"):
            problems.required(f"{path}.valueFrom.{name}.key")


def _mounts(problems: Problems, mounts: list[Obj], path: str, mountable: set[Any]) -> None:
    seen = set()
    for at, mount in enumerate(mounts):
        here = f"{path}[{at}]"
        if not mount.get("name"):
            problems.required(f"{here}.name")
        elif mount["name"] not in mountable:
            problems.missing(f"{here}.name", mount["name"])
        if not mount.get("mountPath"):
            problems.required(f"{here}.mountPath")
        elif mount["mountPath"] in seen:
            problems.invalid(f"{here}.mountPath", mount["mountPath"], "must be unique")
        if ":" in mount.get("mountPath", ""):
            problems.invalid(f"{here}.mountPath", mount["mountPath"], "must not contain ':'")
        seen.add(mount.get("mountPath"))
        problems.inside(f"{here}.subPath", mount.get("subPath"))


def _resources(problems: Problems, resources: Obj, path: str) -> None:
    limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
    for side, amounts in (("limits", limits), ("requests", requests)):
        for name, amount in amounts.items():
            if to_number(amount) < 0:
                problems.invalid(f"{path}.{side}[{name}]", amount, "must be greater than or equal to 0")
    for name, amount in requests.items():
        if name in limits and to_number(amount) > to_number(limits[name]):
            why = f"must be less than or equal to {name} limit of {limits[name]}"
            problems.invalid(f"{path}.requests", amount, why)


def _handler(problems: Problems, action: Obj, path: str, handlers: tuple[str, ...]) -> None:
    given = [name for name in handlers if name in action]
    if not given:
        problems.required(path, "must specify a handler type")
    for extra in given[1:]:
        problems.forbidden(f"{path}.{extra}", "may not specify more than 1 handler type")
    if "exec" in action and not action["exec"].get("command"):
        problems.required(f"{path}.exec.command")
    for name in ("httpGet", "tcpSocket", "grpc"):
        if name in action:
            problems.port(f"{path}.{name}.port", action[name].get("port"))
    if "httpGet" in action:
        problems.one_of(f"{path}.httpGet.scheme", action["httpGet"].get("scheme"), ("HTTP", "HTTPS"))


def _probe(problems: Problems, probe: Obj, path: str, *, once: bool) -> None:
    _handler(problems, probe, path, _HANDLERS)
    for name in (
        "initialDelaySeconds",
        "timeoutSeconds",
        "periodSeconds",
        "successThreshold",
        "failureThreshold",
    ):
        problems.at_least(f"{path}.{name}", probe.get(name), 0)
    if once and probe.get("successThreshold", 1) != 1:
        problems.invalid(f"{path}.successThreshold", probe["successThreshold"], "must be 1")


def _volume(problems: Problems, volume: Obj, path: str) -> None:
    if not volume.get("name"):
        problems.required(f"{path}.name")
    else:
        problems.text("label", f"{path}.name", volume["name"])
    for extra in sorted(volume.keys() - {"name"})[1:]:
        problems.forbidden(f"{path}.{extra}", "may not specify more than 1 volume type")
    for kind, field in (("hostPath", "path"), ("secret", "secretName"), ("configMap", "name")):
        if kind in volume and not volume[kind].get(field):
            problems.required(f"{path}.{kind}.{field}")
    place = (volume.get("hostPath") or {}).get("path", "")
    if ".." in place.split("/"):
        problems.invalid(f"{path}.hostPath.path", place, "must not contain '..'")
    if "persistentVolumeClaim" in volume:
        claim = volume["persistentVolumeClaim"].get("claimName", "")
        problems.text("subdomain", f"{path}.persistentVolumeClaim.claimName", claim)
    for kind in ("configMap", "secret", "downwardAPI"):
        _items(problems, volume.get(kind) or {}, f"{path}.{kind}")
    for at, source in enumerate((volume.get("projected") or {}).get("sources") or []):
        for kind, part in source.items():
            _items(problems, part, f"{path}.projected.sources[{at}].{kind}")


def _items(problems: Problems, source: Obj, path: str) -> None:
    """Files of a volume lie inside it."""
    for at, item in enumerate(source.get("items") or []):
        problems.inside(f"{path}.items[{at}].path", item.get("path"))
    problems.inside(f"{path}.path", source.get("path"))
