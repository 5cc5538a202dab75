"""Config to adapters: the one place where concrete ones are named and connected."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import (
    AbstractContextManager,
    AsyncExitStack,
    ExitStack,
    asynccontextmanager,
    contextmanager,
    suppress,
)
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio.to_thread

from devloop import scratch, state_file
from devloop.adapters.build.builder import ImageBuilder
from devloop.adapters.build.context import FingerprintedTree
from devloop.adapters.build.sent_contexts import SentContexts
from devloop.adapters.delta.builder import DeltaBuilder
from devloop.adapters.delta.keeper import ParentKeeper
from devloop.adapters.delta.loader import DeltaLoader
from devloop.adapters.delta.parents import ParentStore
from devloop.adapters.delta.syncer import ContainerSyncer
from devloop.adapters.docker.bases import EngineBases
from devloop.adapters.docker.blob_index import Blobs
from devloop.adapters.docker.config_digest import Digests
from devloop.adapters.docker.endpoint import Endpoint
from devloop.adapters.docker.endpoint import current as current_engine
from devloop.adapters.docker.engine import Engine
from devloop.adapters.helm.releaser import HelmReleaser
from devloop.adapters.helm.runner import KubeTarget
from devloop.adapters.helm.runner_selection import choose
from devloop.adapters.hooks import HookCommands
from devloop.adapters.kubernetes.api.kubeconfig import find_files
from devloop.adapters.kubernetes.cluster import KubernetesCluster
from devloop.adapters.lock import Owner, TargetLocks
from devloop.adapters.nodes.claims import Claims
from devloop.adapters.nodes.facts import platform_of
from devloop.adapters.nodes.loader import ClusterLoader
from devloop.adapters.nodes.route_selection import RouteChoice
from devloop.adapters.private_folder import private_folder
from devloop.clock import Clock
from devloop.config import load as configs
from devloop.config.load import Config, CurrentConfig
from devloop.deploy.installer import Installation
from devloop.deploy.live_refs import live_refs
from devloop.deploy.manifests import Manifests
from devloop.deploy.releases import Releases
from devloop.errors import InternalError
from devloop.inputs.fingerprinter import TreeFingerprinter
from devloop.inputs.rebuild_salt import RebuildSalts
from devloop.inputs.stat_cache import StatCache
from devloop.model import Service, Target
from devloop.ports import Report, TripObserver, World
from devloop.rollout.state_monitor import Statuses
from devloop.sinks.fan import Fan
from devloop.sinks.live_images import MOST_IMAGES, History
from devloop.synced import SyncedContainers
from devloop.trip.sharing import Sharing


@dataclass(frozen=True, slots=True)
class Setup:
    """One config.yaml, and what every part of a session is made of."""

    current: CurrentConfig
    kubeconfig: tuple[Path, ...]  # files
    state: Path  # the project's folder in the state directory
    locks: Path  # the folder of this user's locks
    owner: Owner
    environ: Mapping[str, str]
    fan: Fan
    clock: Clock

    @property
    def config(self) -> Config:
        """As it is now, after reloads too."""
        return self.current.config

    @property
    def id(self) -> str:
        return configs.project_id(self.config.path)


@dataclass(frozen=True, slots=True)
class Images:
    """From the tree to images on the nodes, and which of them are needed."""

    docker: Engine  # the one that builds
    fingerprinter: TreeFingerprinter
    full: ImageBuilder
    builder: DeltaBuilder
    loader: ClusterLoader
    delta_loader: DeltaLoader
    claims: Claims
    history: History
    rebuilt: RebuildSalts
    # They make the next trip shorter. Run until cancelled.
    companions: tuple[Callable[[], Coroutine[Any, Any, None]], ...]


@dataclass(frozen=True, slots=True)
class Deployment:
    """Manifests and Helm releases."""

    installation: Installation
    releaser: HelmReleaser
    statuses: Statuses
    sharing: Sharing
    observers: tuple[TripObserver, ...]  # of every trip


@dataclass(frozen=True, slots=True)
class Session:
    """One project on one cluster, connected: what `watch`, `once` and `status` run on."""

    setup: Setup
    cluster: KubernetesCluster
    locks: TargetLocks
    images: Images
    deployment: Deployment
    world: World

    @property
    def config(self) -> Config:
        return self.setup.config

    @property
    def services(self) -> tuple[Service, ...]:
        """Those that this session works for, as the config has them now."""
        return self.setup.current.services

    def require_tools(self) -> None:
        """Raises ConfigError for a tool that config.yaml asks for and that is not here."""
        if self.config.releases_by_name:
            self.deployment.releaser.require()

    def held_by_own_watch(self) -> bool:
        """Whether a devloop of this very config holds one of the targets (S26)."""
        targets = (target for service in self.services for target in service.targets)
        holders = map(self.locks.holder, targets)
        return any(other is not None and other.path == self.setup.owner.path for other in holders)

    def hold(self, target: Target) -> AbstractContextManager[None]:
        """Keep every other devloop of this host away from the target (S26). Raises HeldError."""
        return self.locks.hold(target)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the targets of all services."""
        with ExitStack() as stack:
            for service in self.services:
                for target in service.targets:
                    stack.enter_context(self.hold(target))
            yield


@asynccontextmanager
async def opened(
    config: Config,
    kubeconfig: Path | None,
    names: Sequence[str],
    fan: Fan,
    clock: Clock,
    *,
    rebuild_salt: str = "",
    patient: bool = False,
    report: Report = InternalError,
    whole: bool = False,
    stays: bool = False,
) -> AsyncIterator[Session]:
    """Connect everything; leaving the block closes it. A `patient` session waits for the API server, a
    `whole` one works for all services of the workloads that those of `names` are in, one that `stays` syncs.

    Raises ConfigError, PlatformError.
    """
    named = [service.name for service in configs.chosen(config, names)]
    state, environ = configs.state_dir(config.path), dict(os.environ)
    with suppress(OSError):  # a state directory that cannot be made costs reading, no trip
        await anyio.to_thread.run_sync(state_file.make_private, state)
    await anyio.to_thread.run_sync(scratch.remove_leftovers)
    rebuilt = RebuildSalts(state)
    if rebuild_salt:
        rebuilt.renew(named, rebuild_salt)
    setup = Setup(
        CurrentConfig(config, names, whole=whole),
        find_files(str(kubeconfig) if kubeconfig else None, environ),
        state,
        private_folder(),
        Owner.here(config.path),
        environ,
        fan,
        clock,
    )
    async with AsyncExitStack() as stack:
        cluster = await stack.enter_async_context(_cluster(setup, patient=patient))
        locks = TargetLocks(setup.locks, cluster.platform.server, setup.owner)
        locks.sweep()
        images = _images(setup, cluster, rebuilt, stack)
        deployment = _deployment(setup, cluster)
        steps = images.fingerprinter, images.builder, images.delta_loader, cluster, deployment.installation
        syncer = ContainerSyncer(images.builder, images.loader, cluster.synced) if stays else None
        world = World(*steps, fan, clock, report, run_hook=HookCommands(environ).run, syncer=syncer)
        yield Session(setup, cluster, locks, images, deployment, world)


def _cluster(setup: Setup, *, patient: bool) -> KubernetesCluster:
    config = setup.config
    return KubernetesCluster(  # it connects when it is entered
        setup.kubeconfig,
        config.cluster.context,
        owner=setup.owner,
        clock=setup.clock,
        emit=setup.fan,
        namespace=config.cluster.namespace,
        project=setup.id,
        allow_remote=config.cluster.allow_remote,
        patient=patient,
        synced=SyncedContainers(setup.state / "synced.json"),
    )


def _images(setup: Setup, cluster: KubernetesCluster, rebuilt: RebuildSalts, stack: AsyncExitStack) -> Images:
    """`stack` closes what is opened on first use."""
    fan, state, environ, settings = setup.fan, setup.state, setup.environ, setup.config.cluster

    async def builder_endpoint() -> Endpoint:
        return current_engine(environ)

    async def platform() -> str:
        return platform_of(await cluster.nodes())

    docker = Engine(builder_endpoint, role="build engine")
    stack.push_async_callback(docker.aclose)
    blobs, claims = Blobs(state / "blobs.json"), Claims()
    digests = Digests(docker, blobs)
    route = RouteChoice(
        docker,
        digests,
        settings.context,
        cluster.platform.product,
        cluster.platform.profile,
        environ,
        load=settings.load,
        engine=settings.engine,
        registry=settings.registry,
    )
    stack.push_async_callback(route.aclose)
    bases = EngineBases(docker, digests, fan, environ)
    fingerprinter = TreeFingerprinter(
        bases, StatCache(state / "stat.sqlite"), platform, rebuild_salts=rebuilt.by_service
    )
    stack.push_async_callback(fingerprinter.close)
    tree, sent = FingerprintedTree(fingerprinter), SentContexts(state / "contexts")
    full = ImageBuilder(docker, digests, tree, setup.id, fan, environ, sent)
    parents = ParentStore(state / "parents", blobs)
    keeper = ParentKeeper(full, docker, parents, lambda name: rebuilt.by_service.get(name, ""))
    builder = DeltaBuilder(full, docker, parents, keeper, fan)
    loader = ClusterLoader(docker, digests, cluster.nodes, route, fan, claims)
    delta_loader = DeltaLoader(loader, builder)
    history = History(state / "lived.json", lambda: max(MOST_IMAGES, 2 * setup.config.gc.keep))
    fan.sinks.append(history)
    companions = (full.prepare, delta_loader.run, route.keep_warm)
    return Images(
        docker, fingerprinter, full, builder, loader, delta_loader, claims, history, rebuilt, companions
    )


def _deployment(setup: Setup, cluster: KubernetesCluster) -> Deployment:
    """What is asked of the configuration is asked each time: a reload changes it."""
    current, fan, environ = setup.current, setup.fan, setup.environ
    place = KubeTarget(setup.kubeconfig, setup.config.cluster.context)
    releaser = HelmReleaser(lambda: choose(place, environ), cluster.client, setup.locks, setup.id)
    releases = Releases(
        lambda: current.config.releases(),
        lambda: current.services,
        lambda: current.config.services(),
        releaser,
        fan,
        environ,
    )
    manifests = Manifests(
        lambda: current.config.manifest_files(),
        lambda: current.services,
        cluster,
        fan,
        setup.state / "manifests.json",
        f"{cluster.platform.server} {setup.config.cluster.namespace}",
        lambda: current.config.services(),
        lambda services: live_refs(releaser, services),
    )
    sharing, statuses = Sharing(), Statuses(lambda: current.config.releases())
    return Deployment(Installation(manifests, releases, sharing), releaser, statuses, sharing, (releases,))
