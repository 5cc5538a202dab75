"""`devloop watch` as a terminal sees it: the real screen, keys, workers and actions, over a fake world.

usage: python -m tests.support.terminal_program COUNT [fails]
COUNT services; the first has a workload, the others are built only. `fails`: the first build fails.
"""

from __future__ import annotations

import sys
import tempfile
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

import anyio

from devloop.commands.frame import run
from devloop.commands.watch_keys import keys_of
from devloop.control.actions import Actions
from devloop.errors import BuildError
from devloop.events import PodLog
from devloop.fault_reports import Reports
from devloop.inputs.rebuild_salt import RebuildSalts
from devloop.model import Service
from devloop.safety_net import SafetyNet
from devloop.sinks.console import Terminal
from devloop.sinks.fan import Fan
from devloop.trip.sharing import Sharing
from devloop.trip.worker_pool import WorkerPool
from tests.support.fakes import SERVICE, FakeWorld

CAUSE = "TS2322: Type 'string' is not assignable to type 'number'. (index.ts, line 3)"


def services(count: int) -> list[Service]:
    built = [replace(SERVICE, name=f"service-{number:02}", targets=()) for number in range(1, count)]
    return [SERVICE, *built]


async def main(count: int, fails: bool) -> None:
    fan, fake = Fan(), FakeWorld()
    world = replace(fake.world(), emit=fan)
    if fails:
        error = BuildError("tsc failed", reason="BuildFailed", evidence=("src/index.ts(3,7)",), cause=CAUSE)
        fake.builds.script = [error, error]
    employed = services(count)
    terminal = Terminal([one.name for one in employed], Path("/src"), world.clock, stream=sys.stdout)
    fan.sinks.append(terminal)
    net = SafetyNet(Reports(Path("/dev/null/none"), str), fan)
    pool = WorkerPool(world, lambda _: nullcontext(), net, Sharing(), ())
    actions = Actions(pool, RebuildSalts(Path(tempfile.mkdtemp())), _no_hold, world.clock)
    with terminal, anyio.CancelScope() as scope, keys_of(terminal, scope.cancel) as keys:
        async with anyio.create_task_group() as group:
            group.start_soon(terminal.run)
            group.start_soon(pool.run, employed)
            group.start_soon(_speak, fan, [one.name for one in employed])
            if keys is not None:
                group.start_soon(keys.run, actions)


async def _speak(fan: Fan, names: list[str]) -> None:
    """Every service logs a line now and then."""
    for number in range(10_000):
        for name in names[:3]:
            fan(PodLog(name, f"{name}-7d9f-abcde", "app", f"{name} says {number}"))
        await anyio.sleep(0.3)


async def _no_hold(_: Service) -> bool:
    return False


if __name__ == "__main__":
    run(partial(main, int(sys.argv[1]), "fails" in sys.argv))
    print("ended well")
