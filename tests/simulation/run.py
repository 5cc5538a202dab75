"""One run: a world, a script, lives of devloop; what it came to."""

from __future__ import annotations

import asyncio
import contextvars
import hashlib
import logging
import random
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import anyio.to_thread
from anyio._backends import _asyncio

from devloop import clock as clock_module
from devloop.adapters.kubernetes import cluster as cluster_module
from devloop_sandbox.admission.gate import Gate
from devloop_sandbox.api import watch as watch_module
from devloop_sandbox.controllers import manager, owners
from devloop_sandbox.options import Options
from devloop_sandbox.store import lifecycle, recorder
from devloop_sandbox.store import store as store_module
from devloop_sandbox.store.store import Store
from tests.simulation.actions import Actions
from tests.simulation.api import Wire, client_on
from tests.simulation.clock import Monotonic, SimulatedClock, SimulatedDatetime
from tests.simulation.engine import Engine
from tests.simulation.faults import Faults
from tests.simulation.invariants import Watchman
from tests.simulation.node import Content, Node
from tests.simulation.program import Program
from tests.simulation.script import ORDERS_FROM, SERVICES, WAITS_FROM, Step, kinds_of, updates_of
from tests.simulation.tree import Tree
from tests.simulation.virtual_loop import LIFE, Inline, VirtualLoop, numbered

QUIET = 420.0  # seconds after the last step in which everything has to have settled
REFUSED = 5.0  # seconds until a user starts devloop again that did not start
ENDS = 15.0  # seconds within which a cancelled devloop has ended
MEMORY = Path("/dev/shm")


@dataclass(frozen=True, slots=True)
class Result:
    violations: Sequence[str]
    trace: Sequence[str]
    trips: int
    seconds: float  # virtual
    answers: Mapping[str, int]  # of `devloop wait`, by state

    @property
    def digest(self) -> str:
        """The same for the same seed and script."""
        return hashlib.sha256("\n".join(self.trace).encode()).hexdigest()[:12]


def run(seed: int, steps: Sequence[Step]) -> Result:
    """`seed` decides the order of tasks and each delay; `steps` are done at their times."""
    loop = VirtualLoop(seed)
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # tasks of a killed life are never finished
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="dls", dir=MEMORY if MEMORY.is_dir() else None))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        stack.callback(loop.close)
        simulation = _Simulation(seed, folder, loop)
        stack.enter_context(simulation.patched())
        return loop.run_until_complete(simulation.run(steps))


class _Simulation:
    def __init__(self, seed: int, folder: Path, loop: VirtualLoop) -> None:
        self.rng = random.Random(seed + 1)
        self.kinds, self.updates = kinds_of(seed), updates_of(seed)
        self.waits, self.orders = seed >= WAITS_FROM, seed >= ORDERS_FROM
        self.loop, self.folder = loop, folder
        self.faults = Faults(random.Random(seed + 2))
        options = Options("simulation", folder / "cluster")
        self.store = Store(None, Gate(options))
        self.options = options
        contents: dict[str, Content] = {}
        self.node = Node(self.store, self.faults, contents)
        self.engine = Engine(self.faults, self.node, contents)
        self.wire = Wire(self.store, self.faults)
        self.tree = Tree(folder / "project", self.faults)
        self.clock = SimulatedClock()
        self.watchman = Watchman(self.kinds, self.tree, self.engine, self.store)
        self.tree.on_heard = self.watchman.heard
        self.wire.on_write = self.written
        self._outside = contextvars.copy_context()
        self._kill_in: tuple[int, float] | None = None  # writes from now on, seconds until the next start
        self.lives = 0
        self.program: Program
        self.task: asyncio.Task[None] | None = None
        self._killed: list[asyncio.Task[None]] = []

    @contextmanager
    def patched(self) -> Iterator[None]:
        """What reaches for threads, clocks, chance or a socket by itself."""
        uuids = SimpleNamespace(uuid4=lambda: uuid.UUID(int=self.rng.getrandbits(128)))
        with ExitStack() as stack:
            for where, name, what in (
                (anyio.to_thread, "run_sync", Inline(self.rng)),
                (cluster_module, "Client", client_on(self.wire)),
                (store_module, "uuid", uuids),
                (store_module, "secrets", self.rng),
                (lifecycle, "datetime", SimulatedDatetime),
                (owners, "datetime", SimulatedDatetime),
                (recorder, "time", Monotonic),
                (watch_module, "time", Monotonic),
                (clock_module, "time", Monotonic),
            ):
                stack.enter_context(patch.object(where, name, what))
            stack.enter_context(patch.object(_asyncio.CancelScope, "__hash__", numbered))
            random.seed(self.rng.random())
            yield

    async def run(self, steps: Sequence[Step]) -> Result:
        for name in ("default", "kube-system"):
            self.store.create("namespaces", {"metadata": {"name": name}})
        self.node.register()
        world = [
            asyncio.create_task(manager.run_all(self.store, self.options)),
            asyncio.create_task(self.node.run()),
        ]
        self.tree.history = {name: [] for name in SERVICES}
        actions = Actions(
            self.kinds,
            self.updates,
            self.tree,
            self.store,
            self.engine,
            self.faults,
            self.rng,
            kill=self.kill,
            stop=self.stop,
            kill_at_write=self.kill_at_write,
            jump=self.jump,
            order=lambda service, what: self.program.order(service, what),
        )
        actions.lay_out()
        self.begin()
        for step in steps:
            await asyncio.sleep(max(0.0, step.at - self.loop.time()))
            self.watchman.trace.append(f"--> {step}")
            actions.do(step)
            if self.waits and step.words[:1] and step.words[0] in SERVICES:
                self.program.wait(step.words[0], self.loop.time(), self.watchman.answered)
        self.faults.heal()
        self._kill_in = None
        self.mend(actions)
        await asyncio.sleep(QUIET)
        if self.program.refused is not None:
            self.watchman.violations.append(f"devloop did not run: {self.program.refused.message}")
        elif self.task is None or self.task.done():
            done = self.task is not None and not self.task.cancelled()
            why = repr(self.task.exception()) if done and self.task is not None else "killed"
            self.watchman.violations.append(f"devloop ended: {why}")
        else:
            self.watchman.check_quiet(self.program.board.answer())
            await self.end()
        for task in world:
            task.cancel()
        await asyncio.gather(*world, return_exceptions=True)
        trace = [line.replace(f"{self.folder}/", "") for line in self.watchman.trace]
        return Result(
            self.watchman.violations, trace, self.watchman.trips, self.loop.time(), self.watchman.answers
        )

    def mend(self, actions: Actions) -> None:
        """The project's own files are good in the end; the services' trees stay as their users left them."""
        actions.mend_config()
        if self.orders:
            for name in SERVICES:
                actions.do(Step(self.loop.time(), "order", (name, "resume")))
        for name in SERVICES:
            actions.mend_manifest(name)
            if not (self.tree.root / name).exists():  # a devloop that was killed would not start again
                actions.do(Step(self.loop.time(), "move_back", (name,)))

    # --- devloop's life ---------------------------------------------------------------------------

    def begin(self) -> None:
        self.lives += 1
        self.watchman.begin()
        self.program = Program(
            self.tree, self.folder / "state", self.engine, self.clock, self.watchman, self.watchman.ordered
        )
        token = LIFE.set(self.lives)
        self.task = asyncio.create_task(self.program.run())
        LIFE.reset(token)
        self.task.add_done_callback(self._again_if_refused, context=contextvars.copy_context())

    def _again_if_refused(self, task: asyncio.Task[None]) -> None:
        """A start is refused while config.yaml, or what it names, is not right: its user starts it again."""
        if task is self.task and not task.cancelled() and self.program.refused is not None:
            self.watchman.trace.append(f"refused: {self.program.refused.message}")
            self.loop.call_later(REFUSED, self._begin_again, task)

    def _begin_again(self, refused: asyncio.Task[None]) -> None:
        if self.task is refused:
            self.begin()

    def kill(self, seconds: float) -> None:
        """kill -9, and a new start after some seconds."""
        if self.task is None:
            return
        self.loop.kill(self.lives)
        self._killed.append(self.task)  # never finished: it must not be collected
        self.task = None
        self.program.let_go()
        self.tree.deafen()
        self.loop.call_later(seconds, self.begin)

    def stop(self, seconds: float) -> None:
        """Ctrl-C, and a new start some seconds after it ended."""
        if self.task is None:
            return
        task, self.task = self.task, None

        def ended(_: object) -> None:
            self.loop.call_later(seconds, self.begin)

        task.add_done_callback(ended, context=self._outside.copy())
        task.cancel()

    def kill_at_write(self, number: int, seconds: float) -> None:
        self._kill_in = (number, seconds)

    def written(self, path: str) -> None:
        self.watchman.written(path)
        if self._kill_in is not None:
            left, seconds = self._kill_in
            self._kill_in = (left - 1, seconds) if left > 1 else None
            if left == 1:
                self.watchman.trace.append(f"killed after a write to {path}")
                # Not in the context of the life that writes and dies: the next start is not its own.
                self._outside.copy().run(self.kill, seconds)

    def jump(self, seconds: float) -> None:
        self.clock.jumped += seconds

    async def end(self) -> None:
        """As Ctrl-C does it; nothing may be left of it."""
        assert self.task is not None
        self.task.cancel()
        await asyncio.wait([self.task], timeout=ENDS)
        if not self.task.done():
            self.watchman.violations.append(f"devloop did not end within {ENDS:.0f} s of virtual time")
        error: Any = None if not self.task.done() or self.task.cancelled() else self.task.exception()
        if error is not None:
            self.watchman.violations.append(f"devloop ended with {error!r}")
