"""What a pod may not ask of this machine: Pod Security's host rules, and the engine's own socket."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from devloop_sandbox.objects.resources import Obj
from devloop_sandbox.options import Options

_SOCKETS = ("/var/run/docker.sock", "/run/docker.sock", "/run/containerd/containerd.sock")
_CAPABILITIES = {
    "AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE",
    "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT",
}  # fmt: skip


def violations(spec: Obj, options: Options) -> list[str]:
    """Why this pod is refused, in the words of Pod Security admission; empty if it is not."""
    found = []
    host = [name for name in ("hostNetwork", "hostPID", "hostIPC") if spec.get(name)]
    if host:
        found.append("host namespaces (" + ", ".join(f"{name}=true" for name in host) + ")")
    for container, context in _contexts(spec):
        if context.get("privileged"):
            found.append(f'privileged (container "{container}" must not set securityContext.privileged=true)')
        added = {name.removeprefix("CAP_") for name in (context.get("capabilities") or {}).get("add") or []}
        if extra := sorted(added - _CAPABILITIES):
            names = ", ".join(f'"{name}"' for name in extra)
            found.append(
                f'non-default capabilities (container "{container}" must not include {names} in '
                "securityContext.capabilities.add)"
            )
    for volume in spec.get("volumes") or []:
        path = (volume.get("hostPath") or {}).get("path")
        if path and (why := host_path_refusal(path, options)):
            found.append(f'hostPath volumes (volume "{volume.get("name")}": {why})')
    return found


def _contexts(spec: Obj) -> Iterator[tuple[str, Obj]]:
    for kind in ("initContainers", "containers", "ephemeralContainers"):
        for container in spec.get(kind) or []:
            yield container.get("name", ""), container.get("securityContext") or {}


def host_path_refusal(path: str, options: Options) -> str:
    """Why this path of the machine may not be mounted, or ""; follows links, so ask again at the mount."""
    place = Path(os.path.realpath(path))
    for secret in _secrets(options):
        if place == secret or place in secret.parents or secret in place.parents:
            return f"{path} holds {secret}"
    allowed = [Path(os.path.realpath(root)) for root in options.allow_host_paths]
    if not any(place == root or root in place.parents for root in allowed):
        return f"{path} is not below {', '.join(map(str, allowed))}; see --allow-host-path"
    return ""


def _secrets(options: Options) -> list[Path]:
    """The engine's sockets, and the folder with this sandbox's token and keys."""
    engine = urlsplit(options.engine)
    sockets = (*_SOCKETS, engine.path) if engine.scheme == "unix" else _SOCKETS
    return [Path(os.path.realpath(path)) for path in (*sockets, options.state_dir)]
