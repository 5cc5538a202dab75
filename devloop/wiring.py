"""Config to adapters and sinks: long, because it is the only place that names concrete ones."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from devloop import config as configs
from devloop import salts
from devloop.adapters.bases import EngineBases
from devloop.adapters.blobs import Blobs
from devloop.adapters.builder import ImageBuilder
from devloop.adapters.choice import RouteChoice
from devloop.adapters.deltaloader import DeltaLoader
from devloop.adapters.deltas import DeltaBuilder
from devloop.adapters.digest import Digests
from devloop.adapters.endpoint import Endpoint, current
from devloop.adapters.engine import Engine
from devloop.adapters.gc import Collector, Keep
from devloop.adapters.helm.needs import HELM, objects_of, owned
from devloop.adapters.helm.releaser import HelmReleaser
from devloop.adapters.helm.runner import Place, choose
from devloop.adapters.kubernetes.cluster import KubernetesCluster
from devloop.adapters.kubernetes.kubeconfig import find_files
from devloop.adapters.kubernetes.manifests import Manifest, gather_manifests, put_refs
from devloop.adapters.kubernetes.patch import MANAGER
from devloop.adapters.kubernetes.removal import Removal
from devloop.adapters.loader import ClusterLoader
from devloop.adapters.lock import Owner, hold, holder
from devloop.adapters.nodes import platform_of
from devloop.adapters.parents import ParentStore
from devloop.adapters.source import FingerprintedTree
from devloop.config import Config
from devloop.diffing import Preview
from devloop.errors import ConfigError, InternalError
from devloop.events import Emit, Event
from devloop.fingerprint import TreeFingerprinter
from devloop.history import History
from devloop.install import Installation, Manifests
from devloop.model import Service, Target
from devloop.ports import Report, World
from devloop.references import repository
from devloop.releases import Releases
from devloop.statcache import StatCache
from devloop.statewatch import Statuses
from devloop.stopwatch import Clock


class Fan:
    """Hands every event to every sink, in order."""

    def __init__(self) -> None:
        self.sinks: list[Emit] = []
        self.fell: Callable[[object, Exception], None] | None = None  # what to do with a sink that raises

    def __call__(self, event: Event) -> None:
        for sink in self.sinks:
            try:
                sink(event)
            except Exception as error:
                if self.fell is None:
                    raise
                self.fell(sink, error)


class Tree:
    """The config that counts now: `watch` puts a changed one here (S28)."""

    def __init__(self, config: Config) -> None:
        self.config = config


@dataclass(frozen=True, slots=True)
class Session:
    """One project on one cluster, wired: what `watch`, `once` and `status` run on."""

    tree: Tree
    services: tuple[Service, ...]
    world: World
    fingerprinter: TreeFingerprinter
    cluster: KubernetesCluster
    installation: Installation
    releaser: HelmReleaser
    statuses: Statuses
    owner: Owner
    history: History
    loader: ClusterLoader
    docker: Engine
    full: ImageBuilder
    fan: Fan
    # What makes the next trip shorter: parents of deltas learned, shells on nodes waiting. Run until
    # cancelled; without them everything works, only slower.
    companions: tuple[Callable[[], Coroutine[Any, Any, None]], ...]

    @property
    def config(self) -> Config:
        return self.tree.config

    def require_tools(self) -> None:
        """Raises ConfigError for a tool that config.yaml asks for and that is not here."""
        if self.config.releases_by_name:
            self.releaser.require()

    def removal(self) -> Removal:
        """What `down` deletes with."""
        project = configs.project_id(self.config.path)
        return Removal(self.cluster.client, self.cluster.applier, self.config.manifest_files, project)

    async def previews(self) -> list[Preview]:
        """What `once` would make of each object, with the images that are live now.

        Raises ConfigError, PatchError, PlatformError.
        """
        applier = self.cluster.applier
        live = await self._live_refs()
        files = await gather_manifests(self.config.manifest_files())
        plain = [Manifest(put_refs(one.item, live), one.where) for one in files]
        found = await applier.preview(plain, MANAGER)
        for release in self.config.releases():
            text = await self.installation.releases.preview(release)
            objects = [owned(item, release) for item in objects_of(text, str(release))]
            found += await applier.preview([Manifest(one, str(release)) for one in objects], HELM)
        return found

    async def _live_refs(self) -> dict[str, str]:
        """Repository -> the reference that the first target of its service runs."""
        refs: dict[str, str] = {}
        for service in self.services:
            for one in await self.releaser.live(service.targets, service.image):
                if one is not None and one.ref:
                    refs.setdefault(repository(service.image), one.ref)
        return refs

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
            return Keep(used | self.history.newest(self.config.gc.keep), self.history.all())

        collector = Collector(self.docker, configs.project_id(self.config.path), keep)
        removed = await collector.collect(await self.loader.route(), now)
        self.history.forget(frozenset(ref.rpartition(" ")[2] for ref in removed))
        return removed

    def held_by_own_watch(self) -> bool:
        """Whether a devloop of this very config holds one of the targets (S26)."""
        targets = (target for service in self.services for target in service.targets)
        holders = (holder(runtime_dir(), self.cluster.platform.server, target) for target in targets)
        return any(other is not None and other.path == self.owner.path for other in holders)

    def hold(self, target: Target) -> AbstractContextManager[None]:
        """Keep every other devloop of this host away from the target (S26). Raises HeldError."""
        return hold(runtime_dir(), self.cluster.platform.server, target, self.owner)

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
) -> AsyncIterator[Session]:
    """Connect everything; leaving the block closes it. A `patient` session waits for the API server.

    Raises ConfigError, PlatformError.
    """
    services = chosen(config, names)
    state = configs.state_dir(config.path)
    owner = Owner.here(config.path)
    environ = dict(os.environ)
    kept = state / "salts.json"
    known_salts = salts.renew(kept, [one.name for one in services], salt) if salt else salts.read(kept)
    async with AsyncExitStack() as stack:
        cluster = await stack.enter_async_context(
            KubernetesCluster(
                find_files(str(kubeconfig) if kubeconfig else None, environ),
                config.cluster.context,
                owner=owner,
                clock=clock,
                emit=emit,
                namespace=config.cluster.namespace,
                allow_remote=config.cluster.allow_remote,
                patient=patient,
            )
        )

        async def builder_endpoint() -> Endpoint:
            return current(environ)

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
        tree = Tree(config)
        manifests = Manifests(
            lambda: tree.config.manifest_files(),
            services,
            cluster,
            emit,
            state / "manifests.json",
            f"{cluster.platform.server} {config.cluster.namespace}",
        )
        place = Place(find_files(str(kubeconfig) if kubeconfig else None, environ), config.cluster.context)
        releaser = HelmReleaser(
            lambda: choose(place, environ),
            cluster.client,
            runtime_dir() / "locks",
            configs.project_id(config.path),
        )
        releases = Releases(
            lambda: tree.config.releases(),
            lambda: chosen(tree.config, names),
            lambda: tree.config.services(),
            releaser,
            emit,
            environ,
        )
        emit.sinks.append(releases.note)
        installation = Installation(manifests, releases)
        loader = ClusterLoader(docker, digests, cluster.nodes, route, emit)
        full = ImageBuilder(
            docker,
            digests,
            FingerprintedTree(fingerprinter),
            configs.project_id(config.path),
            emit,
            environ,
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
        history = History(state / "lived.json")
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
            tree,
            services,
            world,
            fingerprinter,
            cluster,
            installation,
            releaser,
            Statuses(lambda: tree.config.releases()),
            owner,
            history,
            loader,
            docker,
            full,
            emit,
            (full.prepare, thin.run, route.keep_warm),
        )


def chosen(config: Config, names: Sequence[str]) -> tuple[Service, ...]:
    """The services named on the command line, all if none. Raises ConfigError."""
    services = config.services()
    unknown = [name for name in names if name not in config.by_name]
    if unknown:
        raise ConfigError(
            f"no service {', '.join(unknown)} in {config.path}",
            reason="UnknownService",
            hint=f"there are: {', '.join(config.by_name)}",
        )
    return tuple(service for service in services if not names or service.name in names)


def runtime_dir() -> Path:
    """Where lock files live: gone with the login or the reboot, like what they speak of."""
    given = os.environ.get("XDG_RUNTIME_DIR")
    return Path(given) / "devloop" if given else Path(f"/tmp/devloop-{os.getuid()}")
