"""Helm 4 as a library (helm-python-sdk), each call in a short-lived worker process."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from devloop.adapters.helm.errors import refusal
from devloop.adapters.helm.runner import KubeTarget, run
from devloop.borders import COMMAND_OUTPUT
from devloop.errors import ReleaseError
from devloop.model import Release, Values

# The library signs what it writes with the name of its process: as "helm", like the command, so that a
# hand-run helm finds its own fields. Python then needs to know where its packages are.
WORKER = ("helm", "-m", "devloop.adapters.helm.worker")


class SdkRunner:
    def __init__(self, place: KubeTarget, environ: Mapping[str, str]) -> None:
        self._place = place
        self._environ = {
            **place.environ(environ),
            "PYTHONHOME": f"{sys.base_prefix}{os.pathsep}{sys.base_exec_prefix}",
            "PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path),
        }

    def __str__(self) -> str:
        return "the library helm-python-sdk (Helm 4)"

    async def render(self, release: Release, values: Values, *, upgrade: bool) -> str:
        return str(await self._ask("render", release, values=values, upgrade=upgrade))

    async def install(self, release: Release, values: Values, note: str, fds: Sequence[int] = ()) -> None:
        await self._ask("install", release, fds, values=values, note=note)

    async def upgrade(self, release: Release, values: Values, note: str, fds: Sequence[int] = ()) -> None:
        await self._ask("upgrade", release, fds, values=values, note=note)

    async def uninstall(self, release: Release, fds: Sequence[int] = ()) -> None:
        await self._ask("uninstall", release, fds)

    async def _ask(self, action: str, release: Release, fds: Sequence[int] = (), **more: Any) -> Any:
        asked = {
            "action": action,
            "name": release.name,
            "namespace": release.namespace,
            "chart": str(release.chart),
            "context": self._place.context,
            **more,
        }
        done = await run(WORKER, json.dumps(asked, default=str), self._environ, fds, sys.executable)
        try:
            answer = json.loads(done.stdout)
        except (ValueError, RecursionError) as error:
            last_lines = done.stderr.decode(errors="replace").strip().splitlines()[-5:]
            raise ReleaseError(
                f"{release}: the helm worker ended with {done.returncode}",
                reason="HelmDied",
                evidence=tuple(last_lines),
            ) from error
        with COMMAND_OUTPUT(f"{release}: what the helm worker answered"):
            if "error" not in answer:
                return answer["result"]
            kind, message = str(answer["error"]["kind"]), str(answer["error"]["message"])
        raise refusal(release, action, message, unreachable=kind == "HelmKubeError")
