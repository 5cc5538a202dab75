"""Ports with scripted answers, for faults and orders of events that real parts cannot be made to show."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import anyio

from devloop import activity
from devloop.clock import Clock
from devloop.errors import PrerequisiteError
from devloop.events import Event
from devloop.inputs.tree_look import TreeLook
from devloop.model import (
    Application,
    BuildSpec,
    Change,
    ContainerView,
    Fingerprint,
    Hook,
    Image,
    InPlacePlan,
    Inputs,
    LoadedImage,
    PodToUpdate,
    PodView,
    Refusal,
    Revision,
    Service,
    Snapshot,
    Target,
    Trouble,
    UpdateMode,
)
from devloop.ports import Waiting, World
from devloop.trip.sharing import Sharing

TARGET = Target("deployment", "todo-backend", "default")
SERVICE = Service("backend", "todo-backend", BuildSpec(Path("/src"), Path("/src/Dockerfile")), (TARGET,))
NO_INPUTS = Inputs({}, (), "linux/amd64", "", "")


def fingerprint(text: str) -> Fingerprint:
    return Fingerprint(text.encode().hex().ljust(16, "0")[:16], NO_INPUTS)


class Gate:
    """Lets callers through, or holds them until opened, or throws at them, in the order of the script."""

    def __init__(self) -> None:
        self.calls = 0
        self.cancelled = 0
        self.script: list[anyio.Event | Exception] = []

    async def pass_through(self) -> None:
        self.calls += 1
        if not self.script:
            await anyio.lowlevel.checkpoint()
            return
        step = self.script.pop(0)
        if isinstance(step, Exception):
            raise step
        try:
            await step.wait()
        except anyio.get_cancelled_exc_class():
            self.cancelled += 1
            raise


class FakeFeed:
    def __init__(self, snapshot: Snapshot) -> None:
        self.latest = snapshot
        self._newer = anyio.Event()

    def show(self, **changes: object) -> None:
        self.latest = replace(self.latest, **changes)  # type: ignore[arg-type]
        self._newer.set()
        self._newer = anyio.Event()

    async def next(self, seen: Snapshot) -> Snapshot:
        while self.latest is seen:
            await self._newer.wait()
        return self.latest


class FakeWorld:
    """A tree with one text as content, an engine, a node and a cluster with one Deployment."""

    def __init__(self, tree: str = "v1", running: str = "todo-backend:1.0.0") -> None:
        self.tree = tree
        self.events: list[Event] = []
        self.clock = Clock()
        self.fingerprints, self.builds, self.loads, self.patches = Gate(), Gate(), Gate(), Gate()
        self.looks, self.hooks = Gate(), Gate()
        self.sharing: Sharing | None = None  # what services know of each other, where they depend on others
        self.hooked: list[tuple[str, dict[str, str]]] = []  # hook and variables
        self.generates: Callable[[str], str] = lambda tree: tree  # what before_build makes of the tree
        self.taken: Fingerprint | None = None  # by whoever looked last
        self.built: set[str] = set()
        self.full_builds = 0  # after a delta that could not be loaded
        self.ids: dict[str, str] = {}  # reference -> the id that was loaded
        self.patched: list[str] = []
        self.restarted: list[str] = []
        self.rolls_by_itself = True
        self.shows_patches = True  # whether the watch shows what was PATCHed
        self.busy = False  # whether a build shows progress all the time
        self.loads_as = ""  # the id of what a load brings, "" = of what was built
        self.runs = ""  # the id that pods run, "" = of what was loaded
        self.feed_ = FakeFeed(self._snapshot(running, 1))
        self.last_lines: tuple[str, ...] = ("Traceback", "SyntaxError: invalid syntax")
        self.deleted: list[str] = []  # uids of pods
        # Updates in place: why there is none, how many at once, whether new containers end, what was done.
        self.refusal: Refusal | None = None
        self.at_once, self.ends, self.puts = 1, False, Gate()
        self.put: list[tuple[str, str]] = []
        self.undone: list[str] = []
        self.hurried: list[tuple[str, bool]] = []  # what was to end at once, and whether only if it is deaf
        self.deaf = False
        self.gives_another = ""  # the image that every new pod gets, whatever the template names
        self.keeps_old = False  # whether the instance before stays until a test shows another one
        self.min_ready = 0.0  # seconds that a pod is to stay ready
        self.keeps_unready = False  # whether pods whose container was restarted are not ready from then on

    def world(self) -> World:
        steps = self, self, self, self, self
        return World(*steps, self.events.append, self.clock, run_hook=self.run_hook)

    # Fingerprinter
    async def take(self, service: Service, change: Change) -> Fingerprint:
        await self.fingerprints.pass_through()
        self.taken = fingerprint(self.tree)
        return self.taken

    async def still_matches(self, service: Service, fp: Fingerprint) -> bool:
        await anyio.lowlevel.checkpoint()
        return fingerprint(self.tree) == fp

    async def run_hook(
        self, name: str, hook: Hook, variables: Mapping[str, str], on_line: Callable[[str], None]
    ) -> None:
        self.hooked.append((name, dict(variables)))
        await self.hooks.pass_through()
        on_line(f"{name} ran")
        if name == "before_build":
            self.tree = self.generates(self.tree)

    async def look(self, service: Service) -> TreeLook:
        await self.looks.pass_through()
        before, self.taken = self.taken, fingerprint(self.tree)
        return TreeLook(self.taken.digest, self.taken != before, frozenset({Path("/src/found.py")}))

    # Builder, Loader
    async def build(self, service: Service, fp: Fingerprint) -> Image:
        if self.busy:
            async with anyio.create_task_group() as group:
                group.start_soon(self._progress)
                await self.builds.pass_through()
                group.cancel_scope.cancel()
        else:
            await self.builds.pass_through()
        ref = service.ref(fp)
        self.built.add(ref)
        return Image(service.name, fp, ref, f"sha256:{fp.digest}", "cli")

    async def build_full(self, service: Service, fp: Fingerprint) -> Image:
        self.full_builds += 1
        return await self.build(service, fp)

    async def find(self, service: Service, fp: Fingerprint) -> Image | None:
        ref = service.ref(fp)
        return Image(service.name, fp, ref, f"sha256:{fp.digest}", "reused") if ref in self.built else None

    async def load(self, image: Image) -> LoadedImage:
        await self.loads.pass_through()
        image = replace(image, id=self.loads_as or image.id)
        self.ids[image.ref] = image.id
        return LoadedImage(image, ("node",), "shared")

    async def end(self, node: str, instance: str, *, deaf: bool) -> bool:
        self.hurried.append((instance, deaf))
        return not deaf or self.deaf

    async def _progress(self) -> None:
        while True:
            activity.note()
            await anyio.sleep(0.01)

    # Installer
    async def install(self, service: Service, ref: str, *, missing: bool = False) -> bool:
        await anyio.lowlevel.checkpoint()
        return False

    @asynccontextmanager
    async def writing(self, service: Service) -> AsyncIterator[None]:
        yield

    async def turn(self, service: Service, waiting: Waiting) -> None:
        if self.sharing is not None:
            await self.sharing.turn(service, waiting)

    async def unblocked(self) -> None:
        await anyio.sleep_forever()

    # Cluster
    context = "test"

    @asynccontextmanager
    async def feed(self, target: Target) -> AsyncIterator[FakeFeed]:
        yield self.feed_

    async def patch(self, target: Target, service: Service, loaded: LoadedImage) -> Revision:
        with anyio.CancelScope(shield=True):
            await self.patches.pass_through()
        self.patched.append(loaded.image.ref)
        generation = self.feed_.latest.generation + 1
        if not self.shows_patches:
            return Revision(target, "uid-1", generation, loaded.image.ref, self.clock.now())
        self.feed_.show(generation=generation, images={"app": loaded.image.ref})
        if self.rolls_by_itself:
            self.roll(loaded.image.ref)
        return Revision(target, "uid-1", generation, loaded.image.ref, self.clock.now())

    async def restart(self, target: Target, ref: str) -> Revision:
        self.restarted.append(ref)
        generation = self.feed_.latest.generation + 1
        self.feed_.show(generation=generation)
        if self.rolls_by_itself:
            self.roll(ref)
        return Revision(target, "uid-1", generation, ref, self.clock.now())

    @asynccontextmanager
    async def in_place(self, target: Target, service: Service, ref: str) -> AsyncIterator[FakeUpdate]:
        yield FakeUpdate(self, ref)

    def roll(self, ref: str) -> None:
        self.feed_.latest = self._snapshot(ref, self.feed_.latest.generation)
        self.feed_.show()

    async def last_words(self, target: Target, pod: str, container: str, lines: int = 20) -> tuple[str, ...]:
        return self.last_lines

    async def delete_pod(self, target: Target, pod: str, uid: str) -> None:
        self.deleted.append(uid)

    async def url(self, target: Target) -> str | None:
        return "http://127.0.0.1:30080"

    async def logs(
        self, target: Target, pod: str, container: str, *, from_now: bool = False
    ) -> AsyncIterator[str]:
        for line in self.last_lines:
            yield line

    async def apply(
        self,
        paths: Sequence[Path],
        refs: Sequence[str],
        withheld: Sequence[str] = (),
        only: Collection[Trouble] | None = None,
    ) -> Application:
        return Application()

    async def prerequisite(self, image: str = "") -> PrerequisiteError | None:
        return None

    def _snapshot(self, ref: str, generation: int) -> Snapshot:
        now = self.clock.now()
        tag = ref.rpartition(":")[2]
        image_id = self.runs or self.ids.get(ref, f"sha256:{tag.removeprefix('dl-')}")
        container = ContainerView("app", ref, image_id, True, 0, running=True)
        pod = PodView(
            name=f"todo-backend-{generation}",
            namespace="default",
            uid=f"pod-{generation}",
            revision=f"hash-{generation}",
            phase="Running",
            ready=True,
            terminating=False,
            scheduled=True,
            unschedulable="",
            containers=(container,),
            scheduled_at=now,
            started_at=now,
            ready_at=now,
        )
        return Snapshot(
            TARGET, now, "uid-1", generation, generation, 1, 1, 1, 1,
            images={"app": ref}, revision=f"hash-{generation}", pods=(pod,),
        )  # fmt: skip


class FakeUpdate:
    """An update in place of the world's one Deployment: its pods restart at once, unless `ends` is set."""

    def __init__(self, world: FakeWorld, ref: str) -> None:
        self._world, self._ref = world, ref
        self._sync = False

    async def look(self, *, sync: bool = False) -> InPlacePlan | Refusal:
        world, seen = self._world, self._world.feed_.latest
        self._sync = sync
        if world.refusal is not None:
            return world.refusal
        before = seen.images["app"]
        pods = tuple(
            PodToUpdate(
                pod.name,
                pod.uid,
                tuple(dict.fromkeys((before, pod.containers[0].image))),
                pod.containers[0].instance if pod.containers[0].running else "",
                pod.node,
            )
            for pod in seen.pods
        )
        return InPlacePlan("app", before, self._ref, pods, world.at_once, world.min_ready)

    async def put(self, pod: PodToUpdate) -> bool:
        await self._world.puts.pass_through()
        self._world.put.append((pod.uid, self._ref))
        self._show(pod.uid, self._ref, ends=self._world.ends)
        return True

    async def finish(self) -> Revision:
        seen = self._world.feed_.latest
        self._world.feed_.show(images={"app": self._ref}, generation=seen.generation + 3)
        self._world.feed_.show(observed_generation=seen.generation + 3)
        how: UpdateMode = "sync" if self._sync else "in-place"
        return Revision(TARGET, seen.uid, seen.generation + 3, self._ref, seen.at, how=how)

    async def undo(self, pod: PodToUpdate) -> None:
        self._world.undone.append(pod.uid)
        self._show(pod.uid, self._world.feed_.latest.images["app"])

    async def drop(self, pod: str, uid: str, container: str) -> bool:
        world = self._world
        await world.delete_pod(TARGET, pod, uid)
        if world.gives_another:  # the next pod has that one too
            (view,) = world.feed_.latest.pods
            world.feed_.show(pods=(replace(view, uid=f"{uid}+"),))
        else:
            self._show(uid, self._ref)
        return True

    async def mend(self, pod: str, uid: str, container: str) -> str:
        self._world.put.append((uid, self._ref))
        self._show(uid, self._ref)
        return "restarting its container"

    async def bake(self) -> list[str]:
        return []

    async def clear(self) -> list[str]:
        seen = self._world.feed_.latest
        left = [pod for pod in seen.pods if pod.containers[0].image != seen.images["app"]]
        for pod in left:
            await self._world.delete_pod(TARGET, pod.name, pod.uid)
            self._show(pod.uid, seen.images["app"])
        return [pod.name for pod in left]

    def _show(self, uid: str, ref: str, *, ends: bool = False) -> None:
        feed, ids = self._world.feed_, self._world.ids
        pods = []
        for pod in feed.latest.pods:
            if pod.uid == uid:
                app = replace(pod.containers[0], image=ref, image_id=ids.get(ref, ""), ready=not ends)
                app = replace(app, synced=None, running=True)
                app = replace(app, stale=self._world.keeps_old)
                app = replace(app, exit_code=1, exit_reason="Error", running=False) if ends else app
                pod = replace(
                    pod,
                    containers=(app, *pod.containers[1:]),
                    ready=not (ends or self._world.keeps_unready),
                )
            pods.append(pod)
        feed.show(pods=tuple(pods))


class Answers:
    """A cluster that answers `apply` with what it is given, whatever the files hold."""

    def __init__(self) -> None:
        self.next = Application()
        self.lacks: PrerequisiteError | None = None

    async def apply(self, *_: object) -> Application:
        return self.next

    async def prerequisite(self, _: str = "") -> PrerequisiteError | None:
        return self.lacks
