"""What runs Helm, and how a helm process runs."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from subprocess import CompletedProcess
from typing import Protocol

import anyio.to_thread

from devloop.errors import ReleaseError
from devloop.model import Release, Values


class Runner(Protocol):
    """One helm; every call is a process of its own that cancellation does not cut short.

    `fds` stay open in it: a lock that it holds even if devloop is killed.
    Raises ReleaseError, PlatformError.
    """

    async def render(self, release: Release, values: Values, *, upgrade: bool) -> str: ...

    async def install(self, release: Release, values: Values, note: str, fds: Sequence[int] = ()) -> None: ...

    async def upgrade(self, release: Release, values: Values, note: str, fds: Sequence[int] = ()) -> None: ...

    async def uninstall(self, release: Release, fds: Sequence[int] = ()) -> None: ...


@dataclass(frozen=True, slots=True)
class KubeTarget:
    """Which cluster: kubeconfig files as $KUBECONFIG lists them, and the context."""

    kubeconfig: tuple[Path, ...]
    context: str

    def environ(self, base: Mapping[str, str]) -> dict[str, str]:
        return {**base, "KUBECONFIG": os.pathsep.join(map(str, self.kubeconfig))}


async def run(
    command: Sequence[str],
    text: str,
    environ: Mapping[str, str],
    fds: Sequence[int] = (),
    executable: str | None = None,
) -> CompletedProcess[bytes]:
    """Run it to its end, whatever is cancelled meanwhile: a killed helm leaves a pending release (S23).

    `executable` is what runs if it is not command[0]. Its session is its own, so Ctrl-C does not reach it.
    """

    def work() -> CompletedProcess[bytes]:
        return subprocess.run(
            command,
            executable=executable,
            input=text.encode(),
            capture_output=True,
            check=False,
            env=environ,
            start_new_session=True,
            pass_fds=fds,
        )

    try:
        return await anyio.to_thread.run_sync(work)  # a thread is waited for, cancelled or not
    except OSError as error:
        raise ReleaseError(f"{command[0]} cannot be started: {error.strerror}", reason="NoHelm") from error
