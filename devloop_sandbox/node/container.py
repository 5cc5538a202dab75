"""What the engine is asked for: a pod's container as the body of `POST /containers/create`. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from devloop_sandbox.engine.bridge import LABEL
from devloop_sandbox.engine.holders import TYPE
from devloop_sandbox.engine.problem import Problem
from devloop_sandbox.node.environment import expand
from devloop_sandbox.objects.quantity import to_int, to_milli
from devloop_sandbox.objects.resources import Obj

POD_UID = "io.kubernetes.pod.uid"
CONTAINER = "io.kubernetes.container.name"
ATTEMPT = "annotation.io.kubernetes.container.restartCount"
IMAGE = f"{LABEL}.image"  # the reference that the container was started with
PERIOD = 100_000  # microseconds of the CPU quota


@dataclass(frozen=True, slots=True)
class Mount:
    """A bind mount; `source` is a path of this machine."""

    source: Path
    target: str
    read_only: bool = False


def container_name(pod: Obj, container: Obj, attempt: int) -> str:
    meta = pod["metadata"]
    return f"k8s_{container['name']}_{meta['name']}_{meta['namespace']}_{meta['uid']}_{attempt}"


def labels(pod: Obj, container: Obj, attempt: int, project: str) -> dict[str, str]:
    """By these a restarted node knows its containers again (the dockershim's names)."""
    meta = pod["metadata"]
    return {
        LABEL: project,
        TYPE: "container",
        POD_UID: meta["uid"],
        "io.kubernetes.pod.name": meta["name"],
        "io.kubernetes.pod.namespace": meta["namespace"],
        CONTAINER: container["name"],
        ATTEMPT: str(attempt),
        IMAGE: container["image"],
    }


def create_body(
    pod: Obj,
    container: Obj,
    *,
    image: Obj,
    holder: str,
    values: dict[str, str],
    mounts: list[Mount],
    attempt: int,
    project: str,
) -> Obj:
    """`image` is its inspection, `values` the environment. Problem if it must not run like this."""
    security = effective_security(pod, container)
    _check_user(pod, container, security, image)
    values = {"HOSTNAME": hostname(pod), **values}
    body: Obj = {
        "Image": image["Id"],
        "Env": [f"{name}={value}" for name, value in values.items()],
        "Labels": labels(pod, container, attempt, project),
        "Healthcheck": {"Test": ["NONE"]},  # Kubernetes knows no health check of an image
        "OpenStdin": bool(container.get("stdin")),
        "StdinOnce": bool(container.get("stdinOnce")),
        "Tty": bool(container.get("tty")),
        "HostConfig": _host_config(pod, container, holder, mounts, security),
    }
    if container.get("command"):
        body["Entrypoint"] = [expand(word, values) for word in container["command"]]
    if container.get("args"):
        body["Cmd"] = [expand(word, values) for word in container["args"]]
    if container.get("workingDir"):
        body["WorkingDir"] = container["workingDir"]
    user = security.get("runAsUser")
    group = security.get("runAsGroup")
    if user is not None or group is not None:
        own = (image.get("Config") or {}).get("User", "").split(":")[0] or "0"
        body["User"] = f"{own if user is None else user}{'' if group is None else f':{group}'}"
    return body


def hostname(pod: Obj) -> str:
    return str(pod["spec"].get("hostname") or pod["metadata"]["name"])[:63].rstrip("-.")


def effective_security(pod: Obj, container: Obj) -> Obj:
    """The container's securityContext over the pod's."""
    shared = ("runAsUser", "runAsGroup", "runAsNonRoot")
    of_pod = pod["spec"].get("securityContext") or {}
    inherited = {key: of_pod[key] for key in shared if of_pod.get(key) is not None}
    return inherited | (container.get("securityContext") or {})


def _check_user(pod: Obj, container: Obj, security: Obj, image: Obj) -> None:
    if not security.get("runAsNonRoot"):
        return
    meta = pod["metadata"]
    where = f'(pod: "{meta["name"]}_{meta["namespace"]}({meta["uid"]})", container: {container["name"]})'
    user = security.get("runAsUser")
    if user is not None:
        if user == 0:
            text = f"container's runAsUser breaks non-root policy {where}"
            raise Problem("CreateContainerConfigError", text)
        return
    own = (image.get("Config") or {}).get("User", "").split(":")[0]
    if own in ("", "0"):
        text = f"container has runAsNonRoot and image will run as root {where}"
        raise Problem("CreateContainerConfigError", text)
    if not own.isdigit():
        text = f"container has runAsNonRoot and image has non-numeric user ({own})"
        raise Problem("CreateContainerConfigError", f"{text}, cannot verify user is non-root {where}")


def _host_config(pod: Obj, container: Obj, holder: str, mounts: list[Mount], security: Obj) -> Obj:
    resources = container.get("resources") or {}
    limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
    capabilities = security.get("capabilities") or {}
    of_pod = pod["spec"].get("securityContext") or {}
    groups = [*of_pod.get("supplementalGroups", [])]
    if of_pod.get("fsGroup") is not None:
        groups.append(of_pod["fsGroup"])
    config: Obj = {
        "NetworkMode": f"container:{holder}",
        "IpcMode": f"container:{holder}",
        "CpuShares": max(2, to_milli(requests.get("cpu", limits.get("cpu", 0))) * 1024 // 1000),
        "ReadonlyRootfs": bool(security.get("readOnlyRootFilesystem")),
        "CapAdd": capabilities.get("add") or [],
        "CapDrop": capabilities.get("drop") or [],
        "GroupAdd": [str(group) for group in groups],
        "LogConfig": {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "3"}},
        "SecurityOpt": [],
        "Mounts": [
            {"Type": "bind", "Source": str(m.source), "Target": m.target, "ReadOnly": m.read_only}
            for m in mounts
        ],
    }
    if security.get("allowPrivilegeEscalation") is False:
        config["SecurityOpt"] = ["no-new-privileges"]
    if "memory" in limits:
        config["Memory"] = config["MemorySwap"] = to_int(limits["memory"])
    if "cpu" in limits:
        quota = max(1000, to_milli(limits["cpu"]) * PERIOD // 1000)
        config |= {"CpuPeriod": PERIOD, "CpuQuota": quota}
    return config
