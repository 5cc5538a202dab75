"""The Node object: what the engine's machine has, and whether the engine answers."""

from __future__ import annotations

import logging
import platform
import shutil

from devloop_sandbox.engine.bridge import Network
from devloop_sandbox.objects.errors import ApiError
from devloop_sandbox.objects.resources import Obj, clone
from devloop_sandbox.options import Options
from devloop_sandbox.store.lifecycle import now
from devloop_sandbox.store.store import Store

PODS = 110
logger = logging.getLogger(__name__)
_NOTE = "Ingress objects are stored and not served: use a NodePort Service"
# condition -> its reason and message when all is well
_WELL = {
    "MemoryPressure": ("KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
    "DiskPressure": ("KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
    "PIDPressure": ("KubeletHasSufficientPID", "kubelet has sufficient PID available"),
    "Ready": ("KubeletReady", "kubelet is posting ready status"),
}
_AWAY = ("KubeletNotReady", "container runtime is down")


def register(store: Store, name: str, options: Options, network: Network, info: Obj) -> Obj:
    """Make or refresh the Node object from what the engine says of itself; its capacity."""
    arch = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    labels = {
        "kubernetes.io/hostname": name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": arch,
        "node-role.kubernetes.io/control-plane": "",
    }
    annotations = {"dev.devloop/engine": options.engine, "dev.devloop/notes": _NOTE}

    def change(node: Obj) -> None:
        node["metadata"].setdefault("labels", {}).update(labels)
        node["metadata"].setdefault("annotations", {}).update(annotations)
        node.setdefault("spec", {})["podCIDR"] = network.subnet

    if store.find("nodes", "", name) is None:
        fresh: Obj = {"metadata": {"name": name}}
        change(fresh)
        store.create("nodes", fresh)
    else:
        store.mutate("nodes", "", name, change)
    capacity = _capacity(options, info)
    addresses = [
        {"type": "InternalIP", "address": network.gateway},
        {"type": "Hostname", "address": name},
    ]
    facts = {"capacity": capacity, "allocatable": capacity, "addresses": addresses}
    report(store, name, facts | {"nodeInfo": _node_info(info, arch)})
    return capacity


def report(store: Store, name: str, facts: Obj | None = None, *, ready: bool = True) -> None:
    """Write the node's conditions, and `facts` into its status; on a full disk they stay as they are."""
    moment = now()

    def change(node: Obj) -> None:
        before = {item["type"]: item for item in node.get("status", {}).get("conditions", [])}
        conditions = [_condition(kind, before.get(kind, {}), ready, moment) for kind in _WELL]
        node["status"] = node.get("status", {}) | clone(facts or {}) | {"conditions": conditions}

    try:
        store.mutate("nodes", "", name, change, subresource="status")
    except ApiError as error:
        logger.warning("status of the node: %s", error)


def _condition(kind: str, before: Obj, ready: bool, moment: str) -> Obj:
    value = "True" if kind == "Ready" and ready else "False"
    reason, message = _AWAY if kind == "Ready" and not ready else _WELL[kind]
    return {
        "type": kind,
        "status": value,
        "reason": reason,
        "message": message,
        "lastHeartbeatTime": moment,
        "lastTransitionTime": before["lastTransitionTime"] if before.get("status") == value else moment,
    }


def _capacity(options: Options, info: Obj) -> Obj:
    return {
        "cpu": str(info["NCPU"]),
        "memory": f"{info['MemTotal'] // 1024}Ki",
        "pods": str(PODS),
        "ephemeral-storage": f"{shutil.disk_usage(options.state_dir).total // 1024}Ki",
    }


def _node_info(info: Obj, arch: str) -> Obj:
    return {
        "machineID": info.get("ID", ""),
        "systemUUID": info.get("ID", ""),
        "bootID": "",
        "kernelVersion": info["KernelVersion"],
        "osImage": info["OperatingSystem"],
        "containerRuntimeVersion": f"docker://{info['ServerVersion']}",
        "kubeletVersion": "v1.36.0-devloop",
        "kubeProxyVersion": "",
        "operatingSystem": "linux",
        "architecture": arch,
    }
