"""How images reach the nodes of a cluster (S11): by config, else by what nodes and names show."""

from __future__ import annotations

from collections.abc import Mapping

import anyio
import anyio.to_thread

from devloop.adapters.address import Distance, distance_of
from devloop.adapters.docker.config_digest import Digests
from devloop.adapters.docker.endpoint import at
from devloop.adapters.docker.engine import Engine
from devloop.adapters.nodes.containerd import ContainerdRoute, ContainerdStore
from devloop.adapters.nodes.host import HostShell, docker_address, is_this_machine
from devloop.adapters.nodes.minikube import Minikube
from devloop.adapters.nodes.registry import RegistryRoute, RegistryStore, host_of
from devloop.adapters.nodes.registry_api import Registry
from devloop.adapters.nodes.routes import CommandRoute, EngineRoute, Route, SharedRoute
from devloop.adapters.nodes.shells.container_shell import ContainerShell
from devloop.adapters.nodes.shells.shell import NodeShell
from devloop.adapters.nodes.stores import EngineStore, ShellStore, Store
from devloop.adapters.process import Finished, run
from devloop.concurrency import gather
from devloop.errors import LoadError, PlatformError
from devloop.model import ENGINE_ANNOTATION, Image, NodeFacts

SHARED_PRODUCTS = frozenset(("docker-desktop", "rancher-desktop", "colima", "orbstack"))


class RouteChoice:
    """Chooses the route. `load` and `engine` are config's, `product` and `profile` the Kubernetes adapter's.

    `profile` is the Minikube profile, or the kind or k3d cluster. Products: minikube, kind, k3d,
    docker-desktop, rancher-desktop, colima, orbstack, microk8s, or any other.
    """

    def __init__(
        self,
        builder: Engine,
        digests: Digests,
        context: str,
        product: str,
        profile: str,
        environment: Mapping[str, str],
        *,
        load: str = "auto",
        engine: str | None = None,
        registry: str | None = None,
    ) -> None:
        self._builder = builder
        self._digests = digests
        self._context = context
        self._product = product
        self._profile = profile
        self._environment = environment
        self._load = load
        self._engine = engine
        self._registry = registry
        self._here = ""  # the engine of this machine's kubelet, where that is the only node
        self._opened: Registry | None = None
        self._engines: dict[str, tuple[Engine, Digests]] = {}
        self._shells: dict[str, NodeShell] = {}
        self._more = anyio.Event()  # a node got its shell

    async def __call__(self, nodes: tuple[NodeFacts, ...]) -> Route:
        """The route to these nodes. Raises LoadError (none is open, and what to do), PlatformError."""
        if not nodes:
            raise PlatformError("the cluster has no nodes", reason="NoNodes", hint="kubectl get nodes")
        method = self._load if self._load != "auto" else await self._auto(nodes)
        if method == "engine":
            return await self._by_address(nodes)
        if method == "shared":
            return await self._shared(nodes)
        if method == "docker-env":
            return await self._docker_env(nodes)
        if method == "image-load":
            return self._image_load(nodes)
        if method == "registry" and self._registry:
            self._opened = self._opened or Registry(host_of(self._registry), self._environment)
            store = RegistryStore(self._registry, self._opened)
            return RegistryRoute(self._builder, self._digests, store, self._registry)
        if method == "containerd":
            return await self._containerd(nodes)
        if method == "kind":
            return self._in_containers("kind", nodes, ["kind", "load", "docker-image"], "--name")
        if method == "k3d":
            return self._in_containers("k3d", nodes, ["k3d", "image", "import"], "-c")
        raise self._refusal(method, nodes)

    async def keep_warm(self) -> None:
        """Keep shells waiting on the nodes that have one, until cancelled; without it loads are slower."""
        warmed: set[str] = set()
        async with anyio.create_task_group() as group:
            while True:
                self._more = anyio.Event()
                for node in self._shells.keys() - warmed:
                    warmed.add(node)
                    group.start_soon(self._shells[node].keep_warm)
                await self._more.wait()

    async def aclose(self) -> None:
        if self._opened is not None:
            await self._opened.aclose()
        for shell in self._shells.values():
            await shell.aclose()
        for engine, _ in self._engines.values():
            await engine.aclose()

    async def _auto(self, nodes: tuple[NodeFacts, ...]) -> str:
        if self._engine or all(node.engine for node in nodes):
            return "engine"
        if self._registry:
            return "registry"
        runtime = nodes[0].runtime_name
        if method := await self._on_this_machine(nodes):
            return method
        if self._product == "minikube":
            if runtime == "docker":
                return "docker-env" if len(nodes) == 1 else "image-load"
            return "containerd" if runtime == "containerd" else "image-load"
        if self._product in ("kind", "k3d"):
            return "containerd"  # into the node's containerd at once; their own commands are slower
        if self._product in SHARED_PRODUCTS:
            return "shared"
        return "containerd" if runtime == "containerd" else "registry"

    async def _on_this_machine(self, nodes: tuple[NodeFacts, ...]) -> str:
        """The route to the one node if it is this machine, not a container on it; else ""."""
        node = nodes[0]
        if len(nodes) > 1 or not is_this_machine(node) or await self._builder.has_container(node.name):
            return ""
        if node.runtime_name == "docker":
            self._here = await anyio.to_thread.run_sync(docker_address)
            return "engine" if self._here else ""
        return "containerd" if node.runtime_name == "containerd" else ""

    def _refusal(self, method: str, nodes: tuple[NodeFacts, ...]) -> LoadError:
        runtime = nodes[0].runtime or "an unknown runtime"
        hint = (
            "name the nodes' Docker engine as cluster.engine in config.yaml, or annotate each Node with "
            "dev.devloop/engine=unix:///path/of/docker.sock; or set cluster.registry and load: registry"
        )
        return LoadError(
            f"cannot load images into context {self._context} (load: {method}): node {nodes[0].name} runs "
            f"{runtime}, which devloop cannot reach from here",
            reason="NoTransport",
            hint=hint,
        )

    # --- one engine per node --------------------------------------------------------------------

    async def _by_address(self, nodes: tuple[NodeFacts, ...]) -> Route:
        async def one(node: NodeFacts) -> EngineStore:
            sources = (
                (self._engine, "cluster.engine"),
                (node.engine, f"the annotation of node {node.name}"),
                (self._here, "this machine's cri-dockerd"),
            )
            address, origin = next((address, origin) for address, origin in sources if address)
            if address == node.engine and not self._engine:
                _admit_reported(address, node)
            return await self._store(node, address, origin)

        stores = await gather(one, nodes)
        if all(store.engine is self._builder for store in stores):
            return SharedRoute(self._builder, stores)
        return EngineRoute("engine", self._builder, self._digests, stores)

    async def _store(self, node: NodeFacts, address: str, origin: str) -> EngineStore:
        """The node's engine; the builder's own object where it is the same engine."""
        if address not in self._engines:
            engine = Engine.at(at(address, origin), role=f"engine of node {node.name}")
            self._engines[address] = (engine, Digests(engine, self._digests.blobs))
        engine, digests = self._engines[address]
        if (await engine.info()).identity == (await self._builder.info()).identity:
            return EngineStore(node.name, self._builder, self._digests)
        return EngineStore(node.name, engine, digests)

    async def _shared(self, nodes: tuple[NodeFacts, ...]) -> Route:
        return SharedRoute(
            self._builder, tuple(EngineStore(node.name, self._builder, self._digests) for node in nodes)
        )

    # --- Minikube -------------------------------------------------------------------------------

    async def _docker_env(self, nodes: tuple[NodeFacts, ...]) -> Route:
        minikube = Minikube(self._profile, self._environment)
        if "docker-env" not in self._engines:
            engine = Engine(minikube.docker_env, role=f"engine of node {nodes[0].name}")
            self._engines["docker-env"] = (engine, Digests(engine, self._digests.blobs))
        engine, digests = self._engines["docker-env"]
        await engine.renew()
        if (await engine.info()).identity == (await self._builder.info()).identity:
            return await self._shared(nodes)
        store = EngineStore(nodes[0].name, engine, digests)
        return EngineRoute("docker-env", self._builder, self._digests, (store,))

    def _image_load(self, nodes: tuple[NodeFacts, ...]) -> Route:
        minikube = Minikube(self._profile, self._environment)
        stores = tuple(
            ShellStore(node.name, minikube.shell(node.name), node.runtime_name == "docker") for node in nodes
        )

        async def command(image: Image) -> Finished:
            return await minikube.image_load(image.ref, await self._builder.endpoint())

        return CommandRoute(
            "image-load",
            self._builder,
            self._digests,
            stores,
            command,
            f"minikube -p {self._profile} status",
        )

    # --- containerd -----------------------------------------------------------------------------

    async def _containerd(self, nodes: tuple[NodeFacts, ...]) -> Route:
        async def one(node: NodeFacts) -> ContainerdStore:
            if await self._builder.has_container(node.name):
                return ContainerdStore(node.name, self._shell(node.name))
            if node.name in self._shells:
                return ContainerdStore(node.name, self._shells[node.name])
            if self._product == "minikube":
                machine = await Minikube(self._profile, self._environment).machine(node.name)
                return ContainerdStore(node.name, self._keep(node.name, machine))
            if is_this_machine(node):
                here = await anyio.to_thread.run_sync(HostShell, node.name, self._environment)
                return ContainerdStore(node.name, self._keep(node.name, here))
            raise self._refusal("containerd", nodes)

        return ContainerdRoute(self._builder, self._digests, await gather(one, nodes))

    def _shell(self, node: str) -> NodeShell:
        return self._shells.get(node) or self._keep(node, ContainerShell(self._builder, node))

    def _keep(self, node: str, shell: NodeShell) -> NodeShell:
        """It is kept warm, and closed in the end."""
        self._shells[node] = shell
        self._more.set()
        return shell

    # --- nodes that are containers --------------------------------------------------------------

    def _in_containers(self, how: str, nodes: tuple[NodeFacts, ...], words: list[str], flag: str) -> Route:
        stores: tuple[Store, ...] = tuple(
            ContainerdStore(node.name, self._shell(node.name)) for node in nodes
        )

        async def command(image: Image) -> Finished:
            endpoint = await self._builder.endpoint()
            argv = [*words, image.ref, flag, self._profile]
            return await run(argv, {**self._environment, **endpoint.environment()})

        return CommandRoute(
            how,
            self._builder,
            self._digests,
            stores,
            command,
            f"{' '.join(words)} IMAGE {flag} {self._profile} by hand says more",
        )


def _admit_reported(address: str, node: NodeFacts) -> None:
    """Raises LoadError unless an engine that the cluster reports is on this machine (S11): whoever may
    annotate a Node could else have every image, and what is built into it, sent to an address of theirs."""
    if address.startswith(("/", "unix://")):
        return
    distance = distance_of(address, ("tcp", "http", "https"))
    if distance is Distance.LOOPBACK:
        return
    remove = f"else: kubectl annotate node {node.name} {ENGINE_ANNOTATION}-"
    hint = f"if this engine is yours, set cluster.engine: {address} in config.yaml; {remove}"
    raise LoadError(
        f"node {node.name} says that its engine is at {address!r}: that is not on this machine",
        reason="EngineNotLocal",
        hint=hint if distance is Distance.PRIVATE else remove.removeprefix("else: "),
    )
