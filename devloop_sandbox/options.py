"""What `devloop sandbox up` was asked for; the same value for the API server, controllers and node."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
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
    api_port: int = 0

    @property
    def project(self) -> str:
        return self.name

    def dump(self) -> str:
        return json.dumps(asdict(self), default=str, indent=1)

    @classmethod
    def load(cls, text: str) -> Self:
        """From `dump`, also that of an older version; ValueError if it is none."""
        known = {field.name for field in fields(cls)}
        values = {name: value for name, value in json.loads(text).items() if name in known}
        values["state_dir"] = Path(values["state_dir"])
        values["node_port_range"] = tuple(values["node_port_range"])
        values["allow_host_paths"] = tuple(Path(path) for path in values["allow_host_paths"])
        return cls(**values)
