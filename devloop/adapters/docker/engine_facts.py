"""What an engine's answers say, as values: the engine, its images, its list of them."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]
CONFIG_DIGEST = "config.digest"  # BuildKit's annotation, in a descriptor of the containerd image store


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What one engine says about itself. `containerd_store`: Ids are manifest digests there (S2)."""

    id: str
    name: str
    version: str
    os: str
    architecture: str
    containerd_store: bool
    root: str = ""

    @property
    def identity(self) -> tuple[str, str, str]:
        """What distinguishes engines: the ID alone may be shared where a machine was cloned with its key."""
        return self.id, self.name, self.root

    @property
    def platform(self) -> str:
        return f"{self.os}/{architecture(self.architecture)}"


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """One image as an engine holds it. `id` is the engine's own Id: see `config_digest` (S2)."""

    id: str
    size: int
    os: str
    architecture: str
    variant: str
    diff_ids: tuple[str, ...]
    onbuild: tuple[str, ...]
    tags: tuple[str, ...]
    tagged_at: str
    labels: Mapping[str, str] = field(default_factory=dict)
    env: tuple[str, ...] = ()
    workdir: str = ""
    user: str = ""
    ports: tuple[str, ...] = ()  # "8000/tcp"
    config: str = ""  # the config's digest, where the containerd image store has noted it

    @property
    def platform(self) -> str:
        return f"{self.os}/{architecture(self.architecture)}"


@dataclass(frozen=True, slots=True)
class Listed:
    """One line of the engine's list of images; `created` in seconds since the epoch."""

    id: str
    refs: tuple[str, ...]
    labels: Mapping[str, str]
    created: int


@dataclass(frozen=True, slots=True)
class ContainerFacts:
    """A container: `mounts` are the paths in it, with leading slash, at which something else is mounted."""

    running: bool
    read_only: bool = False
    mounts: tuple[str, ...] = ()


def architecture(name: str) -> str:
    """Go's word for a machine, whatever `uname` says."""
    return {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}.get(name, name)


def info_of(answer: Json) -> EngineInfo:
    status = {str(row[0]): str(row[1]) for row in answer.get("DriverStatus") or () if len(row) > 1}
    return EngineInfo(
        str(answer.get("ID", "")),
        str(answer.get("Name", "")),
        str(answer.get("ServerVersion", "")),
        str(answer.get("OSType", "linux")),
        str(answer.get("Architecture", "")),
        status.get("driver-type", "").startswith("io.containerd.snapshotter"),
        str(answer.get("DockerRootDir", "")),
    )


def facts_of(answer: Json) -> ImageFacts:
    config = answer.get("Config") or {}
    return ImageFacts(
        str(answer["Id"]),
        int(answer.get("Size") or 0),
        str(answer.get("Os") or "linux"),
        str(answer.get("Architecture") or ""),
        str(answer.get("Variant") or ""),
        _texts((answer.get("RootFS") or {}).get("Layers")),
        _texts(config.get("OnBuild")),
        _texts(answer.get("RepoTags")),
        str((answer.get("Metadata") or {}).get("LastTagTime") or answer.get("Created") or ""),
        _labels(config.get("Labels")),
        _texts(config.get("Env")),
        str(config.get("WorkingDir") or ""),
        str(config.get("User") or ""),
        _texts(config.get("ExposedPorts")),
        str(((answer.get("Descriptor") or {}).get("annotations") or {}).get(CONFIG_DIGEST) or ""),
    )


def container_of(answer: Json) -> ContainerFacts:
    state, host = answer.get("State") or {}, answer.get("HostConfig") or {}
    mounts = [str(one["Destination"]) for one in answer.get("Mounts") or ()]
    running = bool(state.get("Running")) and not (state.get("Paused") or state.get("Restarting"))
    return ContainerFacts(
        running, bool(host.get("ReadonlyRootfs")), (*mounts, *_texts(host.get("Tmpfs") or {}))
    )


def link_of(header: str) -> str:
    """Where a link leads, by the engine's description of a path (X-Docker-Container-Path-Stat); "" = none."""
    return str(json.loads(base64.b64decode(header)).get("linkTarget") or "")


def listed_of(row: Json) -> Listed:
    refs = tuple(tag for tag in _texts(row.get("RepoTags")) if tag != "<none>:<none>")
    return Listed(str(row["Id"]), refs, _labels(row.get("Labels")), int(row.get("Created") or 0))


def _texts(value: Any) -> tuple[str, ...]:
    """Of a list, or the keys of a mapping. Raises TypeError for anything else."""
    if isinstance(value, str | int):
        raise TypeError(f"{type(value).__name__} where a list is expected")
    return tuple(map(str, value or ()))


def _labels(value: Any) -> dict[str, str]:
    return {str(key): str(one) for key, one in (value or {}).items()}
