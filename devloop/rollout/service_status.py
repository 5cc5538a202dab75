"""Does the cluster run the tree? From tree and cluster alone; a running daemon adds its stage (S27)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace

from devloop.concurrency import gather
from devloop.errors import PlatformError, StageError
from devloop.image_refs import same_repository
from devloop.model import (
    Change,
    Fingerprint,
    Progressing,
    Ready,
    Service,
    Snapshot,
    Stuck,
    Target,
    UpdateMode,
)
from devloop.ports import Cluster, World
from devloop.rollout.hold import hold_of
from devloop.rollout.judge import Expectation, carries, judge
from devloop.rollout.state_monitor import count_synced, worst
from devloop.rollout.states import deployment_state, pod_state
from devloop.rollout.symptoms import read_log

ONCE = "devloop once"  # the command that mends it where no watch does


@dataclass(frozen=True, slots=True)
class Standing:
    """How one service stands.

    `state`: live, rolling, stuck, stale (the cluster runs another content), held, missing (no target),
    built-only (no targets), or unknown (the tree has no fingerprint; `message` says why).
    """

    state: str
    deployment: str = ""  # the word of states.py, of the worst target
    pods: Mapping[str, int] = field(default_factory=dict)  # the word of states.py -> how many
    fingerprint: str = ""
    image: str = ""  # what the tree asks for
    running: tuple[str, ...] = ()  # what the templates say
    ready: int = 0
    replicas: int = 0
    url: str | None = None
    message: str = ""
    hint: str | None = None
    forwards: tuple[str, ...] = ()  # URLs of this machine that a running watch forwards
    update: UpdateMode = "roll"  # what config.yaml asks for
    cause: str = ""  # of `stuck`: the one line that says why
    synced: int = 0  # pods that run files which their image does not hold

    @property
    def well(self) -> bool:
        return self.state in ("live", "held", "built-only")


async def standings(
    services: Sequence[Service], world: World, release: Callable[[Service], Awaitable[str]]
) -> Mapping[str, Standing]:
    """Every service's standing, side by side; `release` gives its Helm release's status, "" without one.

    Raises PlatformError.
    """

    async def stand(service: Service) -> tuple[str, Standing]:
        standing = await _stand(service, world, await release(service))
        return service.name, replace(standing, update=service.update)

    return dict(await gather(stand, services))


async def _stand(service: Service, world: World, release: str) -> Standing:
    async with AsyncExitStack() as stack:
        feeds = [await stack.enter_async_context(world.cluster.feed(target)) for target in service.targets]
        snapshots = [feed.latest for feed in feeds]
    running = tuple(
        text for s in snapshots for text in s.images.values() if same_repository(text, service.image)
    )
    ready = sum(pod.ready and not pod.terminating for s in snapshots for pod in s.pods)
    replicas = sum(s.replicas for s in snapshots)
    try:
        fingerprint = await world.fingerprinter.take(service, Change.start(world.clock.now()))
    except StageError as error:
        found = Standing("unknown", message=error.message, hint=error.hint)
        return replace(found, running=running, ready=ready, replicas=replicas)
    ref = service.ref(fingerprint)
    image_id = await _image_id(service, fingerprint, world)
    expected = Expectation(service.image, ref, image_id, context=world.cluster.context)
    judged = _judged(service.name, expected, fingerprint.digest, snapshots, world.clock.now())
    if isinstance(judged, _StuckTarget):
        stuck = await judged.read(world.cluster)
        state, message, hint = "stuck", f"{stuck.reason}: {stuck.message}", stuck.hint
        cause = stuck.cause or stuck.message
    else:
        (state, message, hint), cause = judged, ""
    url = await world.cluster.url(service.targets[0]) if service.targets and running else None
    pods = Counter(str(pod_state(pod)) for snapshot in snapshots for pod in snapshot.pods)
    word = str(worst([deployment_state(one, release) for one in snapshots])) if snapshots else ""
    found = Standing(
        state, word, dict(pods), fingerprint.digest, ref, running, ready, replicas, url, message, hint
    )
    found = replace(found, cause=cause.partition("\n")[0])
    synced = sum(map(count_synced, snapshots))
    if synced and not message:
        found = replace(found, message=f"{synced} of {replicas} pods run synced files, on an older image")
    return replace(found, synced=synced)


@dataclass(frozen=True, slots=True)
class _StuckTarget:
    target: Target
    stuck: Stuck

    async def read(self, cluster: Cluster) -> Stuck:
        """With what the log of the container that ended says."""
        if not self.stuck.exited:
            return self.stuck
        log = await cluster.last_words(self.target, self.stuck.pod, self.stuck.container)
        return read_log(self.stuck, log)


async def _image_id(service: Service, fingerprint: Fingerprint, world: World) -> str:
    """The id of the tree's image as nodes or engine hold it (S1), "" where neither does or can be asked."""
    try:
        found = await world.loader.find(service, fingerprint)
    except (StageError, PlatformError):
        return ""
    return found.id if found is not None else ""


def _judged(
    name: str, expected: Expectation, digest: str, snapshots: Sequence[Snapshot], now: float
) -> tuple[str, str, str | None] | _StuckTarget:
    """(state, message, hint), the worst of all targets."""
    if not snapshots:
        return "built-only", "it has no deploy: in config.yaml", None
    for snapshot in snapshots:
        if not snapshot.exists:
            target = snapshot.target
            return "missing", f"{target} is not in namespace {target.namespace}", ONCE
    if any(hold_of(snapshot.hold, name) == digest for snapshot in snapshots):
        return "held", "held at another image by devloop rollback", f"devloop resume {name}"
    if not all(carries(snapshot, expected.image, expected.ref) for snapshot in snapshots):
        return "stale", "the cluster runs other content than the tree", ONCE
    cut_off = next((str(snapshot.target) for snapshot in snapshots if snapshot.in_place), "")
    if cut_off:
        return "rolling", f"an update of {cut_off} in place is under way, or was cut off", ONCE
    for snapshot in snapshots:
        verdict = judge(snapshot, expected, now)
        if isinstance(verdict, Stuck):
            return _StuckTarget(snapshot.target, verdict)
        if isinstance(verdict, Progressing):
            return "rolling", verdict.note, None
        assert isinstance(verdict, Ready)
    return "live", "" if any(one.replicas for one in snapshots) else "replicas 0: no pod runs", None
