"""What `devloop sandbox up` was told; the same value for the API server, controllers and node."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self


@dataclass(frozen=True, slots=True)
class Options:
    """`backoff_scale` multiplies every wait of the kubelet's back-off; `api_port` 0 takes a free one.

    `allow_host_paths` are the folders that hostPath volumes may lie in. `project` is the value of the
    label `dev.devloop.sandbox` on everything that the sandbox makes on the engine.
    """

    name: str
    state_dir: Path
    engine: str = "unix:///var/run/docker.sock"
    backoff_scale: float = 1.0
    node_port_range: tuple[int, int] = (30000, 32767)
    allow_host_paths: tuple[Path, ...] = ()
    memory_mib: int = 0  # what the Node reports; 0 = the machine's
    cpus: int = 0
    api_port: int = 0

    @property
    def project(self) -> str:
        return self.name

    def dump(self) -> str:
        return json.dumps(asdict(self), default=str, indent=1)

    @classmethod
    def load(cls, text: str) -> Self:
        values = json.loads(text)
        values["state_dir"] = Path(values["state_dir"])
        values["node_port_range"] = tuple(values["node_port_range"])
        values["allow_host_paths"] = tuple(Path(path) for path in values["allow_host_paths"])
        return cls(**values)
