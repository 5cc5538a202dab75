"""The minikube command: where its nodes' Docker is, what runs there, and a shell on each node."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from devloop.adapters.docker.endpoint import Endpoint, from_variables
from devloop.adapters.nodes.shells.ssh_shell import SshShell
from devloop.adapters.nodes.stores import Shell
from devloop.adapters.private_folder import private_folder
from devloop.adapters.process import Finished, run
from devloop.errors import PlatformError

# Exit codes of pkg/minikube/reason/exitcodes.go, in words that help.
LONGEST_SOCKET = 80  # of 104 characters: ssh adds 17 while it makes one
_EXITS = {
    14: "this runtime has no docker-env",
    51: "this driver has no docker-env",
    81: "docker-env works on profiles of one node only",
    83: "the cluster is not running",
    85: "there is no such profile",
    103: "the API server is paused or not running",
}


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """One line of `minikube status`: Running, Stopped, Paused, Nonexistent, ..."""

    name: str
    host: str
    kubelet: str
    api_server: str
    worker: bool


@dataclass(frozen=True, slots=True)
class Minikube:
    """One profile. Its context, its cluster and its user have the profile's name."""

    profile: str
    environment: Mapping[str, str]

    async def docker_env(self) -> Endpoint:
        """The node's engine, asked again each time: its port changes when Minikube restarts (S13)."""
        answer = _json(await self._run("docker-env", "--shell", "none", "-o", "json"))
        variables = (
            {k: v for k, v in answer.items() if isinstance(v, str)} if isinstance(answer, dict) else {}
        )
        endpoint = from_variables(variables, f"minikube -p {self.profile} docker-env")
        if endpoint is None:
            raise PlatformError(
                f"minikube -p {self.profile} docker-env: it printed no DOCKER_HOST",
                reason="NoDockerEnv",
                hint=f"minikube -p {self.profile} status; with another runtime set cluster.load: image-load",
            )
        return endpoint

    async def status(self) -> tuple[NodeStatus, ...]:
        """The nodes' states; () where Minikube does not report them (it prints `null` and exits 7)."""
        answer = _json(await self._run("status", "-o", "json", checked=False))
        rows = answer if isinstance(answer, list) else [answer] if isinstance(answer, dict) else []
        return tuple(
            NodeStatus(
                str(row["Name"]),
                str(row.get("Host", "")),
                str(row.get("Kubelet", "")),
                str(row.get("APIServer", "")),
                bool(row.get("Worker")),
            )
            for row in rows
            if "Name" in row
        )

    async def stopped(self) -> str:
        """Why nothing can be loaded now, "" if all nodes run."""
        nodes = await self.status()
        if not nodes:
            return f"minikube status -p {self.profile} shows no node"
        down = [node for node in nodes if node.host != "Running"]
        return f"node {down[0].name} is {down[0].host}" if down else ""

    async def image_load(self, ref: str, builder: Endpoint) -> Finished:
        """Copy an image from the builder's engine into every node. Exits 0 when that failed: verify."""
        return await run(
            self._argv("image", "load", "--daemon=true", "--remote=false", ref),
            {**self.environment, **builder.environment()},
        )

    def shell(self, node: str) -> Shell:
        """Command lines on a node. The ssh binary is used: Minikube's own client adds a terminal."""

        async def ssh(line: str) -> tuple[int, str]:
            finished = await run(
                self._argv("ssh", "-n", node, "--native-ssh=false", "--", line), self.environment
            )
            return finished.code, finished.out.decode(errors="replace") + "\n".join(finished.err)

        return ssh

    async def machine(self, node: str) -> SshShell:
        """Root's command lines on a node that is a machine, by the user's ssh; bytes pass as they are."""
        key = (await self._run("ssh-key", "-n", node)).decode().strip()
        address = (await self._run("ip", "-n", node)).decode().strip()
        control = private_folder() / f"ssh-{address}"
        if len(str(control)) > LONGEST_SOCKET:  # then each line connects by itself
            control = Path("none")
        options = {
            "BatchMode": "yes",
            "StrictHostKeyChecking": "no",  # Minikube recreates the machine's key with each cluster
            "UserKnownHostsFile": "/dev/null",
            "LogLevel": "ERROR",
            "ControlMaster": "auto",
            "ControlPath": str(control),
            "ControlPersist": "600",
            "Ciphers": "^aes128-gcm@openssh.com",  # the fastest there is, for a machine on this host
        }
        words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        return SshShell(["ssh", *words, "-i", key, f"docker@{address}"], self.environment)

    def _argv(self, *words: str) -> list[str]:
        return ["minikube", "-p", self.profile, *words]

    async def _run(self, *words: str, checked: bool = True) -> bytes:
        finished = await run(self._argv(*words), self.environment)
        if checked and finished.code != 0:
            why = _EXITS.get(finished.code) or " ".join(finished.tail(1)) or "no output"
            raise PlatformError(
                f"minikube -p {self.profile} {' '.join(words)}: exit code {finished.code}: {why}",
                reason="MinikubeFailed",
                evidence=finished.tail(5),
                hint=f"minikube -p {self.profile} status, then minikube -p {self.profile} start",
            )
        return finished.out


def _json(output: bytes) -> Any:
    try:
        return json.loads(output)
    except ValueError:
        return None
