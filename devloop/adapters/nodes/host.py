"""Nodes that are this very machine: k3s, kubeadm, MicroK8s, `minikube start --driver=none`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

from devloop.adapters.docker.endpoint import DEFAULT
from devloop.adapters.nodes.shells.shell import NodeShell, Started
from devloop.adapters.nodes.shells.ssh_shell import Local
from devloop.adapters.process import Finished, Running
from devloop.errors import ConfigError, PlatformError
from devloop.files import read_text
from devloop.kubernetes_yaml.documents import document
from devloop.model import NodeFacts

MACHINE_ID = Path("/etc/machine-id")
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
# Where a distribution's own containerd listens; `ctr` and `crictl` know the plain one by themselves.
ENDPOINT = "--container-runtime-endpoint"
ENGINE = "--docker-endpoint"  # of cri-dockerd
SOCKETS = (
    Path("/run/k3s/containerd/containerd.sock"),
    Path("/var/snap/microk8s/common/run/containerd.sock"),
)


def is_this_machine(node: NodeFacts) -> bool:
    """Whether the kubelet runs here, outside of any container: one has a machine ID of its own."""
    try:
        mine = MACHINE_ID.read_text().strip(), BOOT_ID.read_text().strip()
    except OSError:
        return False
    return all(mine) and (node.machine_id, node.boot_id) == mine


def containerd_socket() -> Path | None:
    """Where this machine's kubelet finds its containerd; None where `ctr` looks by itself.

    There may be several on one machine: Docker has one of its own.
    """
    for words in _running("kubelet"):
        endpoint = _endpoint(words)
        if endpoint.startswith("unix://"):
            return Path(endpoint.removeprefix("unix://"))
    return next((path for path in SOCKETS if path.exists()), None)


def docker_address() -> str:
    """The Docker engine that this machine's kubelet runs its pods on; "" where no cri-dockerd runs."""
    return next((_flags(words).get(ENGINE) or DEFAULT for words in _running("cri-dockerd")), "")


def _running(name: str) -> Iterator[Sequence[str]]:
    """The command lines of processes of that name."""
    import psutil  # no other cluster's commands wait for its import

    for process in psutil.process_iter(["name", "cmdline"]):
        if process.info["name"] == name:
            yield process.info["cmdline"] or []


def _flags(words: Sequence[str]) -> dict[str, str]:
    """`--name=value` and `--name value`."""
    flags = dict(word.split("=", 1) for word in words if word.startswith("--") and "=" in word)
    return flags | {one: other for one, other in pairwise(words) if one in (ENDPOINT, ENGINE, "--config")}


def _endpoint(words: Sequence[str]) -> str:
    """Of a kubelet's command line, else of the file that `--config` names; "" where neither says it."""
    flags = _flags(words)
    if ENDPOINT in flags:
        return flags[ENDPOINT]
    try:
        path = flags.get("--config", "")
        written = document(read_text(Path(path)), path, reason="InvalidKubeletConfig")
    except (OSError, ConfigError):
        return ""
    return str(written.get("containerRuntimeEndpoint") or "") if isinstance(written, dict) else ""


class HostShell(NodeShell):
    """Lines on this machine as root, by `sudo -n` for any other user."""

    def __init__(self, node: str, environment: Mapping[str, str]) -> None:
        """Blocking: looks for the kubelet."""
        super().__init__(node, {})
        socket = containerd_socket()
        own = {
            "CONTAINERD_ADDRESS": str(socket),
            "CONTAINER_RUNTIME_ENDPOINT": f"unix://{socket}",
        }
        self._environment = {**(own if socket else {}), **environment}

    async def _start(self, line: str) -> Started:
        kept = "CONTAINERD_ADDRESS,CONTAINER_RUNTIME_ENDPOINT"
        root = () if os.geteuid() == 0 else ("sudo", "-n", f"--preserve-env={kept}")
        running = await Running.start([*root, "sh", "-c", line], self._environment, fed=True)
        return Local(running, self._check)

    def _check(self, finished: Finished) -> None:
        if finished.code == 1 and finished.err and finished.err[0].startswith("sudo:"):
            raise PlatformError(
                f"node {self._node} is this machine, and its containerd is root's: {finished.err[0]}",
                reason="NotRoot",
                hint="run devloop as root, allow sudo without a password, or name a cluster.registry",
            )
