"""Sandboxes of devloop's own that run, and are not the cluster that config.yaml uses."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import anyio

from devloop.adapters.kubernetes.api.access import Access, open_access
from devloop.adapters.kubernetes.api.client import Client
from devloop.adapters.kubernetes.api.kubeconfig import current_context, read_context
from devloop.doctor.diagnosis import Diagnoses, Examined, Machine, warning
from devloop.errors import DevloopError

FOLDER = "sandbox"  # of the state directory: one folder per sandbox, its kubeconfig in it
PATIENCE = 2.0  # seconds for an answer


@dataclass(frozen=True, slots=True)
class Sandbox:
    name: str
    context: str
    server: str
    kubeconfig: Path

    def selected(self) -> str:
        """The line that selects it."""
        return f"export KUBECONFIG={self.kubeconfig} DEVLOOP_CONTEXT={self.context}"


async def running(machine: Machine) -> list[Sandbox]:
    """Those of this user that answer."""
    found = []
    for file in sorted((machine.state / FOLDER).glob("*/kubeconfig")):
        try:
            context = read_context([file], current_context([file]))
        except DevloopError:
            continue
        one = Sandbox(file.parent.name, context.name, context.server, file)
        if await _answers(one):
            found.append(one)
    return found


async def _answers(sandbox: Sandbox) -> bool:
    async def opened(last: Access | None) -> Access:
        return await open_access([sandbox.kubeconfig], sandbox.context, allow_remote=False, last=last)

    with anyio.move_on_after(PATIENCE):
        try:
            async with Client(opened) as client:
                await client.get("/version")
        except DevloopError:
            return False
        return True
    return False


async def unselected(project: Examined, server: str | None) -> Diagnoses:
    """`server`: of the cluster that is used, None where the context could not be read."""
    found = await running(project.machine)
    if not found or any(one.server == server for one in found):
        return []
    context = project.config.cluster.context
    files = ", ".join(map(str, project.kubeconfig))
    return [
        warning(
            "sandbox",
            f"sandbox {one.name} runs and is not used: "
            + (
                f"its context {context} is not in {files}"
                if context == one.context
                else f"the context of config.yaml is {context}"
            ),
            one.selected(),
        )
        for one in found
    ]
