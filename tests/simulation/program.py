"""One life of `devloop watch` in the simulation: all between file events and sinks, on simulated ports."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import anyio

from devloop import __version__, wiring
from devloop.adapters.kubernetes.cluster import KubernetesCluster
from devloop.adapters.lock import Owner, TargetLocks
from devloop.checks.background import Json
from devloop.clock import Clock
from devloop.commands.synced_pods import bake_all, take_over
from devloop.commands.watch_control import waits_of
from devloop.commands.watch_tasks import OnDisk, Outside, serve
from devloop.config import load as configs
from devloop.config.load import Config, CurrentConfig
from devloop.control.actions import Actions
from devloop.control.waiting import Decision
from devloop.errors import DevloopError
from devloop.events import Event
from devloop.fault_reports import Reports
from devloop.inputs.fingerprinter import TreeFingerprinter
from devloop.inputs.rebuild_salt import RebuildSalts
from devloop.inputs.stat_cache import StatCache
from devloop.ports import World
from devloop.safety_net import SafetyNet
from devloop.secrets.redaction import Secrets
from devloop.sinks.fan import Fan
from devloop.sinks.metrics import Metrics
from devloop.sinks.status import StatusBoard
from devloop.synced import SyncedContainers
from devloop.wiring import Images, Session, Setup
from tests.simulation.api import SERVER
from tests.simulation.clock import Monotonic
from tests.simulation.engine import Engine, Ports
from tests.simulation.syncer import Syncer
from tests.simulation.tree import Tree

WAIT_SECONDS = 60.0


class Program:
    """`run` until cancelled or killed; `board` and `metrics` are what a user asks."""

    def __init__(
        self, tree: Tree, state: Path, engine: Engine, clock: Clock, emit: Callable[[Event], None],
        ordered: Callable[[str, str], None],
    ) -> None:  # fmt: skip
        self._tree, self._state, self._engine, self._clock = tree, state, engine, clock
        self.fan = Fan(Secrets())
        self.fan.sinks.append(emit)
        self._emit_order = ordered
        self.locks: TargetLocks
        self.board: StatusBoard
        self.metrics: Metrics
        self._waits: list[tuple[str, float, Callable[[str, float, Decision], None]]] = []
        self._waiting = anyio.Event()
        self._orders: list[tuple[str, str]] = []
        self.refused: DevloopError | None = None  # why it did not start

    async def run(self) -> None:
        try:
            config = configs.load(self._tree.root / configs.FILE_NAME)
            await self._run(config)
        except* DevloopError as errors:
            error: BaseException = errors
            while isinstance(error, BaseExceptionGroup):
                error = error.exceptions[0]
            assert isinstance(error, DevloopError)
            self.refused = error

    async def _run(self, config: Config) -> None:
        fan, clock, state = self.fan, self._clock, self._state
        state.mkdir(parents=True, exist_ok=True)
        names = [service.name for service in config.services()]
        self.metrics = Metrics(__version__, names)
        self.board = StatusBoard(
            __version__, config.path, "simulation", names, clock.now(), config.cluster.context,
            config.cluster.namespace,
        )  # fmt: skip
        net = SafetyNet(Reports(state / "reports", Secrets()), fan)
        fan.fell = net.sink_fell
        fan.sinks += [self.metrics, self.board]
        owner = Owner("simulated", 1, str(config.path))
        setup = Setup(CurrentConfig(config), (), state, state / "locks", owner, dict(os.environ), fan, clock)
        async with AsyncExitStack() as stack:
            cluster = await stack.enter_async_context(
                KubernetesCluster(
                    (), config.cluster.context, owner=setup.owner, clock=clock, emit=fan,
                    namespace=config.cluster.namespace, project="simulation", patient=True,
                    synced=SyncedContainers(state / "synced.json"),
                )
            )  # fmt: skip
            (state / "locks").mkdir(mode=0o700, exist_ok=True)
            self.locks = TargetLocks(state / "locks", SERVER, setup.owner)
            ports, rebuilt = Ports(self._engine), RebuildSalts(state)
            ports.trees = TreeFingerprinter(
                ports,
                StatCache(state / "stat.sqlite", now_ns=Monotonic.time_ns),
                _platform,
                rebuild_salts=rebuilt.by_service,
            )
            stack.push_async_callback(ports.trees.close)
            images = cast(Images, SimpleNamespace(fingerprinter=ports.trees, companions=(), rebuilt=rebuilt))
            deployment = wiring._deployment(setup, cluster)
            syncer = Syncer(self._engine, cluster.synced)
            world = World(
                ports.trees, ports, ports, cluster, deployment.installation, fan, clock, net.error,
                syncer=syncer,
            )  # fmt: skip
            session = Session(setup, cluster, self.locks, images, deployment, world)
            on_disk = OnDisk()
            take_over(session)
            try:
                await serve(
                    session, net, _as_it_is, Secrets(), Outside(self._tree.backend(), _no_rules),
                    commanders=[("waits", partial(self._answer, session, on_disk))], on_disk=on_disk,
                )  # fmt: skip
            finally:
                await bake_all(session)

    def wait(self, service: str, asked: float, answer: Callable[[str, float, Decision], None]) -> None:
        """Have a `devloop wait` decided, if this life lasts as long; `asked`: the loop's time."""
        self._waits.append((service, asked, answer))
        self._waiting.set()

    async def _answer(self, session: Session, on_disk: OnDisk, actions: Actions) -> None:
        waiting = waits_of(session, on_disk, actions)

        async def one(service: str, asked: float, answer: Callable[[str, float, Decision], None]) -> None:
            async def note(decision: Decision) -> None:
                answer(service, asked, decision)

            await waiting.decide([service], WAIT_SECONDS, note)

        async with anyio.create_task_group() as group:
            while True:
                await self._waiting.wait()
                self._waiting = anyio.Event()
                while self._waits:
                    group.start_soon(one, *self._waits.pop(0))
                while self._orders:
                    group.start_soon(self._obey, actions, *self._orders.pop(0))

    def order(self, service: str, what: str) -> None:
        """Have a service paused, resumed, rebuilt or restarted, if this life lasts as long."""
        self._orders.append((service, what))
        self._waiting.set()

    async def _obey(self, actions: Actions, service: str, what: str) -> None:
        with suppress(DevloopError):  # config.yaml does not have it now
            if what == "resume":
                self._emit_order(service, what)
            for result in await getattr(actions, what)([service]):
                if result.done and what != "resume":
                    self._emit_order(service, what)

    def let_go(self) -> None:
        """What the kernel does for a process that was killed: its locks are free."""
        held: dict[str, tuple[int, int]] = self.locks._held if hasattr(self, "locks") else {}
        for handle, _ in held.values():
            os.close(handle)
        held.clear()


async def _platform() -> str:
    return "linux/amd64"


def _as_it_is(config: Config) -> Config:
    return config


async def _no_rules(_: Config) -> Json:
    found: dict[str, Any] = {"findings": [], "errors": 0, "warnings": 0}
    return found
