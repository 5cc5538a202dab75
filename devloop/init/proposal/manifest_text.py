"""The text of a minimal manifest: a Deployment, and with a port a probe and a Service."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from devloop.init.found import ComposeService
from devloop.init.proposal.yaml_text import comment, json_text, mapping, scalar, sequence

# What every Kubernetes takes for the name of a variable.
ENVIRONMENT = re.compile(r"^[-._a-zA-Z][-._a-zA-Z0-9]*$")


@dataclass(frozen=True, slots=True)
class Mounted:
    """A Secret or ConfigMap in a container, made by `command`. `key`: the one at `path`, "" for all."""

    name: str
    path: str
    key: str
    command: str
    is_secret: bool = False


def manifest(
    name: str,
    image: str,
    compose: ComposeService,
    ports: Sequence[int],
    secrets: Sequence[str] = (),
    mounted: Sequence[Mounted] = (),
) -> str:
    """The text. Without a port: no probe and no Service. `secrets`: commands that make the Secret."""
    called = scalar(name)
    lines = [
        "apiVersion: apps/v1",
        "kind: Deployment",
        f"metadata: {{name: {called}}}",
        "spec:",
        "  replicas: 1",
        *(["  strategy: {type: Recreate}"] if compose.volumes else []),
        f"  selector: {{matchLabels: {{app: {called}}}}}",
        "  template:",
        f"    metadata: {{labels: {{app: {called}}}}}",
        "    spec:",
        "      containers:",
        f"        - name: {called}",
        f"          image: {scalar(image)}",
        *_command(compose),
        *_environment(compose),
        *_environment_files(name, secrets),
        *_ports(ports),
        *_mounts(compose.volumes, mounted),
        *_volumes(compose.volumes, mounted),
        *_service(called, ports),
    ]
    return "\n".join(lines) + "\n"


def _command(compose: ComposeService) -> list[str]:
    found = []
    for key, value in (("command", compose.entrypoint), ("args", compose.command)):
        found += [f"          {key}: {sequence(value)}"] if value else []
    return found


def _environment(compose: ComposeService) -> list[str]:
    """`$(` would be expanded in the cluster."""
    pairs = [
        f"            - {{name: {scalar(name)}, value: {json_text(value.replace('$(', '$$('))}}}"
        for name, value in compose.environment.items()
        if ENVIRONMENT.match(name)
    ]
    lines = ["          env:", *pairs] if pairs else []
    for name in compose.unknown:
        text = f"- {{name: {name}, value: …}}: its value is not in {compose.where}"
        lines += comment(text if pairs else f"env: {text}", " " * (12 if pairs else 10))
    return lines


def _environment_files(name: str, commands: Sequence[str]) -> list[str]:
    if not commands:
        return []
    reference = mapping({"name": f"{name}-env", "optional": True})
    return [*comment(commands[0], " " * 10), "          envFrom:", f"            - secretRef: {reference}"]


def _ports(ports: Sequence[int]) -> list[str]:
    if not ports:
        return [
            "          # no port is known: with EXPOSE in the Dockerfile there would be a probe and a Service"
        ]
    return [
        "          ports:",
        *(f"            - {{containerPort: {port}}}" for port in ports),
        "          readinessProbe:  # a rollout is over when this answers",
        f"            tcpSocket: {{port: {ports[0]}}}",
        "            periodSeconds: 1",
    ]


def _mounts(volumes: Sequence[str], mounted: Sequence[Mounted]) -> list[str]:
    data = [{"name": f"data-{number}", "mountPath": path} for number, path in enumerate(volumes)]
    files = [
        {"name": f"file-{number}", "mountPath": one.path, **({"subPath": one.key} if one.key else {})}
        for number, one in enumerate(mounted)
    ]
    mounts = [f"            - {mapping(one)}" for one in (*data, *files)]
    return ["          volumeMounts:", *mounts] if mounts else []


def _volumes(volumes: Sequence[str], mounted: Sequence[Mounted]) -> list[str]:
    listed = [
        f"        - {{name: data-{number}, emptyDir: {{}}}}  # gone with the pod"
        for number, _ in enumerate(volumes)
    ]
    for number, one in enumerate(mounted):
        named = {"secretName": one.name} if one.is_secret else {"name": one.name}
        kind = "secret" if one.is_secret else "configMap"
        listed += comment(one.command, " " * 8)
        listed.append(f"        - {{name: file-{number}, {kind}: {mapping(named)}}}")
    return ["      volumes:", *listed] if listed else []


def _service(name: str, ports: Sequence[int]) -> list[str]:
    if not ports:
        return []
    listed = [f"    - {{name: port-{port}, port: {port}, targetPort: {port}}}" for port in ports]
    return [
        "---",
        "apiVersion: v1",
        "kind: Service",
        f"metadata: {{name: {name}}}",
        "spec:",
        f"  selector: {{app: {name}}}",
        "  ports:",
        *listed,
    ]
