"""A container's environment and arguments, from the pod's spec and the ConfigMaps and Secrets it names."""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Callable, Mapping

from devloop_sandbox.engine.problem import Problem
from devloop_sandbox.objects.quantity import to_milli, to_number
from devloop_sandbox.objects.resources import Obj

Find = Callable[[str, str, str], Obj | None]  # (plural, namespace, name), as Store.find

_REFERENCE = re.compile(r"\$(?:\$|\(([^)]*)\))")
_NAME = re.compile(r"^[-._a-zA-Z][-._a-zA-Z0-9]*$")


def expand(text: str, values: Mapping[str, str]) -> str:
    """`$(NAME)` by its value; an unknown one stays as written, and `$$` is a dollar sign."""

    def replace(match: re.Match[str]) -> str:
        name = match.group(1)
        return "$" if name is None else values.get(name, match.group(0))

    return _REFERENCE.sub(replace, text)


def data_of(find: Find, kind: str, namespace: str, source: Obj) -> dict[str, bytes] | None:
    """All keys of the ConfigMap or Secret; None when it is absent and optional."""
    plural = f"{kind}s"
    name = str(source.get("name") or source.get("secretName") or "")
    found = find(plural, namespace, name)
    if found is None:
        if source.get("optional"):
            return None
        raise Problem("CreateContainerConfigError", f'{kind} "{name}" not found')
    if kind == "secret":
        return {key: base64.b64decode(value) for key, value in (found.get("data") or {}).items()}
    data = {key: value.encode() for key, value in (found.get("data") or {}).items()}
    return data | {key: base64.b64decode(value) for key, value in (found.get("binaryData") or {}).items()}


def environment(
    pod: Obj, container: Obj, find: Find, capacity: Obj, links: dict[str, str] | None = None
) -> dict[str, str]:
    """Names and values in order; later ones win. Problem for a ConfigMap, Secret or key that is missing.

    `links` are the Services' variables, which every other may name."""
    namespace = pod["metadata"]["namespace"]
    values: dict[str, str] = dict(links or {})
    for source in container.get("envFrom") or []:
        kind = "secret" if "secretRef" in source else "configmap"
        reference = source.get("secretRef") or source.get("configMapRef") or {}
        for key, value in sorted((data_of(find, kind, namespace, reference) or {}).items()):
            if _NAME.match(source.get("prefix", "") + key):
                values[source.get("prefix", "") + key] = value.decode(errors="replace")
    for entry in container.get("env") or []:
        value_from = entry.get("valueFrom")
        if not value_from:
            values[entry["name"]] = expand(entry.get("value") or "", values)
        elif (found := _value_from(pod, container, value_from, find, capacity)) is not None:
            values[entry["name"]] = found
    return values


def service_links(services: list[Obj]) -> dict[str, str]:
    """The variables by which a container finds the Services that exist when it starts."""
    values: dict[str, str] = {}
    for service in services:
        address, ports = service["spec"].get("clusterIP"), service["spec"].get("ports") or []
        if not address or address == "None" or not ports:
            continue
        name = service["metadata"]["name"].upper().replace("-", "_")
        values |= {f"{name}_SERVICE_HOST": address, f"{name}_SERVICE_PORT": str(ports[0]["port"])}
        for port in ports:
            protocol, number = port.get("protocol", "TCP"), port["port"]
            link = f"{name}_PORT_{number}_{protocol}"
            url = f"{protocol.lower()}://{address}:{number}"
            values.setdefault(f"{name}_PORT", url)
            values |= {link: url, f"{link}_PROTO": protocol.lower()}
            values |= {f"{link}_PORT": str(number), f"{link}_ADDR": address}
            if port.get("name"):
                values[f"{name}_SERVICE_PORT_{port['name'].upper().replace('-', '_')}"] = str(number)
    return values


def _value_from(pod: Obj, container: Obj, source: Obj, find: Find, capacity: Obj) -> str | None:
    if "fieldRef" in source:
        return field(pod, source["fieldRef"]["fieldPath"])
    if "resourceFieldRef" in source:
        return resource_field(pod, container, source["resourceFieldRef"], capacity)
    if "fileKeyRef" in source:
        return None  # the writer was warned
    kind = "secret" if "secretKeyRef" in source else "configmap"
    reference = source.get("secretKeyRef") or source.get("configMapKeyRef") or {}
    data = data_of(find, kind, pod["metadata"]["namespace"], reference)
    if data is not None and reference["key"] in data:
        return data[reference["key"]].decode(errors="replace")
    if reference.get("optional"):
        return None
    home = f"{pod['metadata']['namespace']}/{reference.get('name', '')}"
    word = "Secret" if kind == "secret" else "ConfigMap"
    raise Problem("CreateContainerConfigError", f"couldn't find key {reference['key']} in {word} {home}")


def field(pod: Obj, path: str) -> str:
    """The downward API: metadata.labels['x'], spec.nodeName, status.podIP …"""
    meta, spec, status = pod["metadata"], pod["spec"], pod.get("status", {})
    if match := re.fullmatch(r"metadata\.(labels|annotations)\['([^']+)'\]", path):
        return str((meta.get(match[1]) or {}).get(match[2], ""))
    if path in ("metadata.labels", "metadata.annotations"):
        pairs = meta.get(path.removeprefix("metadata.")) or {}
        return "\n".join(f'{key}="{value}"' for key, value in sorted(pairs.items()))
    known = {
        "metadata.name": meta["name"],
        "metadata.namespace": meta["namespace"],
        "metadata.uid": meta["uid"],
        "spec.nodeName": spec.get("nodeName", ""),
        "spec.serviceAccountName": spec.get("serviceAccountName", "default"),
        "status.hostIP": status.get("hostIP", ""),
        "status.hostIPs": status.get("hostIP", ""),
        "status.podIP": status.get("podIP", ""),
        "status.podIPs": status.get("podIP", ""),
    }
    if path not in known:
        raise Problem("CreateContainerConfigError", f"unsupported fieldPath: {path}")
    return str(known[path])


def resource_field(pod: Obj, container: Obj, source: Obj, capacity: Obj) -> str:
    """A request or limit of a container divided by `divisor`, rounded up; no limit = what the node has."""
    named = source.get("containerName")
    spec = pod["spec"]
    if named:
        everything = [*spec["containers"], *spec.get("initContainers", [])]
        container = next(item for item in everything if item["name"] == named)
    kind, _, name = source["resource"].partition(".")
    amounts = (container.get("resources") or {}).get(kind) or {}
    amount = str(amounts.get(name, capacity.get(name, "0") if kind == "limits" else "0"))
    divisor = str(source.get("divisor") or "1")
    if to_number(divisor) == 0:
        divisor = "1"
    return str(math.ceil(to_milli(amount) / to_milli(divisor)))
