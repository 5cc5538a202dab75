"""The hooks `after_live`: run when a trip made a service live, beside whatever comes next.

They are no part of a trip: the service is live whatever they do. The next one of the service ends the last.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import anyio

from devloop.errors import HookError
from devloop.events import Notice, Output
from devloop.model import Live, Outcome, Service
from devloop.ports import World


@dataclass(eq=False, slots=True)
class _Run:
    service: Service
    outcome: Live
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)


class AfterLive:
    """Observes trips. `run` runs the hooks until cancelled, `finish` until none is left."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._runs: dict[str, _Run] = {}  # by service: the last one
        self._new: list[_Run] = []
        self._moved = anyio.Event()

    def begun(self, service: Service) -> None:
        """It may turn out to change nothing."""

    def ended(self, service: Service, outcome: Outcome) -> None:
        if isinstance(outcome, Live) and service.hooks.after_live is not None:
            if service.name in self._runs:
                self._runs[service.name].scope.cancel()
            run = self._runs[service.name] = _Run(service, outcome)
            self._new.append(run)
            self._moved.set()

    async def run(self) -> None:
        async with anyio.create_task_group() as group:
            while True:
                await self._moved.wait()
                self._moved = anyio.Event()
                new, self._new = self._new, []
                for run in new:
                    group.start_soon(self._one, run)

    async def finish(self) -> None:
        """Those of trips that have ended. For whoever does not `run`."""
        new, self._new = self._new, []
        async with anyio.create_task_group() as group:
            for run in new:
                group.start_soon(self._one, run)

    async def _one(self, run: _Run) -> None:
        name, hook = run.service.name, run.service.hooks.after_live
        assert hook is not None
        assert self._world.run_hook is not None
        variables = {
            "DEVLOOP_SERVICE": name,
            "DEVLOOP_IMAGE": run.outcome.image.ref,
            "DEVLOOP_FINGERPRINT": run.outcome.fingerprint.digest,
            "DEVLOOP_URL": run.outcome.url or "",
        }
        with run.scope:
            try:
                await self._world.run_hook(
                    "after_live",
                    hook,
                    variables,
                    lambda line: self._world.emit(Output(name, "after_live", line)),
                )
            except HookError as error:
                self._world.emit(Notice(name, "error", _text(error), error.hint))


def _text(error: HookError) -> str:
    return f"{error.message}: {error.cause}" if error.cause else error.message
