"""Config to adapters and sinks: long, because it is the only place that names concrete ones."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
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
from devloop.adapters.delta.loader import DeltaLoader
from devloop.adapters.delta.parents import ParentStore
from devloop.adapters.docker.bases import EngineBases
from devloop.adapters.docker.blob_index import Blobs
from devloop.adapters.docker.config_digest import Digests
from devloop.adapters.docker.endpoint import Endpoint
from devloop.adapters.docker.endpoint import current as current_engine
from devloop.adapters.docker.engine import Engine
from devloop.adapters.helm.releaser import HelmReleaser
from devloop.adapters.helm.runner import Place, choose
from devloop.adapters.kubernetes.api.kubeconfig import find_files
from devloop.adapters.kubernetes.cluster import KubernetesCluster
from devloop.adapters.kubernetes.manifests import Manifest, gather_manifests, put_refs
from devloop.adapters.kubernetes.patch import MANAGER
from devloop.adapters.kubernetes.removal import Removal
from devloop.adapters.lock import Owner, TargetLocks
from devloop.adapters.nodes.claims import Claims
from devloop.adapters.nodes.facts import platform_of
from devloop.adapters.nodes.gc import Collector, FirstSeen, Keep
from devloop.adapters.nodes.loader import ClusterLoader
from devloop.adapters.nodes.route_selection import RouteChoice
from devloop.adapters.private_folder import private_folder
from devloop.clock import Clock
from devloop.config import load as configs
from devloop.config.load import Config, CurrentConfig
from devloop.deploy.diff import Preview
from devloop.deploy.installer import Installation
from devloop.deploy.manifests import Manifests
from devloop.deploy.needs import HELM, objects_of, owned
from devloop.deploy.releases import Releases
from devloop.errors import InternalError
from devloop.events import ConfigReloaded, Emit, Event
from devloop.image_refs import repository
from devloop.inputs import rebuild_salt as salts
from devloop.inputs.fingerprinter import TreeFingerprinter
from devloop.inputs.stat_cache import StatCache
from devloop.model import Release, Service, Target
from devloop.ports import Report, World
from devloop.rollout.state_monitor import Statuses
from devloop.secrets.redaction import Secrets
from devloop.sinks.live_images import MOST_IMAGES, History
from devloop.trip.sharing import Sharing


class Fan:
    """Hands every event to every sink, in order, and takes out before what none may have (S30); events of a
    service that left config.yaml go to none."""

    def __init__(self, secrets: Secrets | None = None) -> None:
        self.sinks: list[Emit] = []
        self._secrets = secrets or Secrets()
        self._gone: frozenset[str] = frozenset()
        self.fell: Callable[[object, Exception], None] | None = None  # what to do with a sink that raises

    def __call__(self, event: Event) -> None:
        event = self._secrets.event(event)
        if isinstance(event, ConfigReloaded):
            self._gone = (self._gone - set(event.services)) | set(event.gone)
        elif getattr(event, "service", "") in self._gone:
            return  # its last trip is ending yet
        for sink in self.sinks:
            try:
                sink(event)
            except Exception as error:
                if self.fell is None:
                    raise
                self.fell(sink, error)


@dataclass(frozen=True, slots=True)
class Session:
    """One project on one cluster, wired: what `watch`, `once` and `status` run on."""

    current: CurrentConfig
    world: World
    sharing: Sharing
    fingerprinter: TreeFingerprinter
    cluster: KubernetesCluster
    installation: Installation
    releaser: HelmReleaser
    statuses: Statuses
    owner: Owner
    locks: TargetLocks
    history: History
    loader: ClusterLoader
    claims: Claims
    builder: DeltaBuilder
    state: Path
    docker: Engine
    full: ImageBuilder
    fan: Fan
    # What makes the next trip shorter: parents of deltas learned, shells on nodes waiting. Run until
    # cancelled; without them everything works, only slower.
    companions: tuple[Callable[[], Coroutine[Any, Any, None]], ...]

    @property
    def config(self) -> Config:
        return self.current.config

    @property
    def services(self) -> tuple[Service, ...]:
        """Those that this session works for, as the config has them now."""
        return self.current.services

    def require_tools(self) -> None:
        """Raises ConfigError for a tool that config.yaml asks for and that is not here."""
        if self.config.releases_by_name:
            self.releaser.require()

    def removal(self) -> Removal:
        """What `down` deletes with."""
        project = configs.project_id(self.config.path)
        config = self.config
        return Removal(
            self.cluster.client,
            self.cluster.applier,
            config.manifest_files,
            project,
            self._namespaces(),
            everywhere=not config.namespace_given,  # what -n made elsewhere is another one's
        )

    async def left_releases(self) -> list[Release]:
        """Those that this project installed, wherever `down` may look."""
        namespaces = self._namespaces()
        made = await self.releaser.made(namespaces)
        return [one for one in made if one.namespace in namespaces or not self.config.namespace_given]

    def _namespaces(self) -> set[str]:
        """All that config.yaml names now."""
        config = self.config
        found = {config.cluster.namespace, *(release.namespace for release in config.releases())}
        return found | {target.namespace for service in config.services() for target in service.targets}

    async def previews(self) -> list[Preview]:
        """What `once` would make of each object, with the images that are live now.

        Raises ConfigError, PatchError, PlatformError.
        """
        applier = self.cluster.applier
        refs = await live_refs(self.releaser, self.services)
        live = {repository(image): ref for image, ref in refs.items()}
        files = await gather_manifests(self.config.manifest_files())
        plain = [Manifest(put_refs(one.item, live), one.where) for one in files]
        found = await applier.preview(plain, MANAGER)
        for release in self.config.releases():
            text = await self.installation.releases.preview(release)
            objects = [owned(item, release) for item in objects_of(text, str(release))]
            found += await applier.preview([Manifest(one, str(release)) for one in objects], HELM)
        return found

    async def release_status(self, service: Service) -> str:
        """The status of the Helm release that holds the service, "" without one. Raises PlatformError."""
        for release in self.config.releases():
            if service.name in release.images:
                view = await self.releaser.find(release)
                return view.status if view else ""
        return ""

    async def collect_garbage(self, now: float) -> tuple[str, ...]:
        """Remove this project's old images from engine and nodes; what was removed (S25).

        Raises LoadError, PlatformError: nothing is removed while it is not known what is in use.
        """
        namespaces = {target.namespace for service in self.services for target in service.targets}
        used = await self.cluster.images_in_use(namespaces)

        def keep() -> Keep:
            kept = used | self.claims.refs | self.builder.parents()
            return Keep(kept | self.history.newest(self.config.gc.keep), self.history.all())

        collector = Collector(
            self.docker,
            configs.project_id(self.config.path),
            keep,
            claims=self.claims,
            seen=FirstSeen(self.state / "seen.json"),
            repositories=[service.image for service in self.config.services()],
        )
        removed = await collector.collect(await self.loader.route(), now)
        self.history.forget(frozenset(ref.rpartition(" ")[2] for ref in removed))
        return removed

    def held_by_own_watch(self) -> bool:
        """Whether a devloop of this very config holds one of the targets (S26)."""
        targets = (target for service in self.services for target in service.targets)
        holders = map(self.locks.holder, targets)
        return any(other is not None and other.path == self.owner.path for other in holders)

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
    emit: Fan,
    clock: Clock,
    *,
    salt: str = "",
    patient: bool = False,
    report: Report = InternalError,
    whole: bool = False,
) -> AsyncIterator[Session]:
    """Connect everything; leaving the block closes it. A `patient` session waits for the API server, a
    `whole` one works for all services of the workloads that those of `names` are in.

    Raises ConfigError, PlatformError.
    """
    named = [service.name for service in configs.chosen(config, names)]
    current = CurrentConfig(config, names, whole=whole)
    state = configs.state_dir(config.path)
    with suppress(OSError):  # a state directory that cannot be made costs reading, no trip
        await anyio.to_thread.run_sync(state_file.make_private, state)
    await anyio.to_thread.run_sync(scratch.remove_leftovers)
    owner = Owner.here(config.path)
    environ = dict(os.environ)
    kept = state / "salts.json"
    known_salts = salts.renew(kept, named, salt) if salt else salts.read(kept)
    async with AsyncExitStack() as stack:
        cluster = await stack.enter_async_context(
            KubernetesCluster(
                find_files(str(kubeconfig) if kubeconfig else None, environ),
                config.cluster.context,
                owner=owner,
                clock=clock,
                emit=emit,
                namespace=config.cluster.namespace,
                project=configs.project_id(config.path),
                allow_remote=config.cluster.allow_remote,
                patient=patient,
            )
        )

        locks_folder = private_folder()
        locks = TargetLocks(locks_folder, cluster.platform.server, owner)
        locks.sweep()

        async def builder_endpoint() -> Endpoint:
            return current_engine(environ)

        docker = Engine(builder_endpoint, role="build engine")
        stack.push_async_callback(docker.aclose)
        blobs = Blobs(state / "blobs.json")
        digests = Digests(docker, blobs)
        route = RouteChoice(
            docker,
            digests,
            config.cluster.context,
            cluster.platform.product,
            cluster.platform.profile,
            environ,
            load=config.cluster.load,
            engine=config.cluster.engine,
            registry=config.cluster.registry,
        )
        stack.push_async_callback(route.aclose)

        async def platform() -> str:
            return platform_of(await cluster.nodes())

        fingerprinter = TreeFingerprinter(
            EngineBases(docker, digests, emit, environ),
            StatCache(state / "stat.sqlite"),
            platform,
            salts=known_salts,
        )
        stack.push_async_callback(fingerprinter.close)
        manifests = Manifests(
            lambda: current.config.manifest_files(),
            lambda: current.services,
            cluster,
            emit,
            state / "manifests.json",
            f"{cluster.platform.server} {config.cluster.namespace}",
            lambda: current.config.services(),
            lambda services: live_refs(releaser, services),
        )
        place = Place(find_files(str(kubeconfig) if kubeconfig else None, environ), config.cluster.context)
        releaser = HelmReleaser(
            lambda: choose(place, environ),
            cluster.client,
            locks_folder,
            configs.project_id(config.path),
        )
        releases = Releases(
            lambda: current.config.releases(),
            lambda: current.services,
            lambda: current.config.services(),
            releaser,
            emit,
            environ,
        )
        emit.sinks.append(releases.note)
        sharing = Sharing()
        installation = Installation(manifests, releases, sharing)
        claims = Claims()
        loader = ClusterLoader(docker, digests, cluster.nodes, route, emit, claims)
        full = ImageBuilder(
            docker,
            digests,
            FingerprintedTree(fingerprinter),
            configs.project_id(config.path),
            emit,
            environ,
            SentContexts(state / "contexts"),
        )
        builder = DeltaBuilder(
            full,
            docker,
            fingerprinter,
            ParentStore(state / "parents", blobs),
            lambda name: known_salts.get(name, ""),
            emit,
        )
        thin = DeltaLoader(loader, builder)
        history = History(state / "lived.json", max(MOST_IMAGES, 2 * config.gc.keep))
        emit.sinks.append(history)
        world = World(
            fingerprinter,
            builder,
            thin,
            cluster,
            installation,
            emit,
            clock,
            report,
        )
        yield Session(
            current,
            world,
            sharing,
            fingerprinter,
            cluster,
            installation,
            releaser,
            Statuses(lambda: current.config.releases()),
            owner,
            locks,
            history,
            loader,
            claims,
            builder,
            state,
            docker,
            full,
            emit,
            (full.prepare, thin.run, route.keep_warm),
        )


async def live_refs(releaser: HelmReleaser, services: Sequence[Service]) -> dict[str, str]:
    """Image of a service -> the reference that the first of its targets runs that is there."""
    refs: dict[str, str] = {}
    for service in services:
        for one in await releaser.live(service.targets, service.image):
            if one is not None and one.ref:
                refs.setdefault(service.image, one.ref)
    return refs
