"""Files into running containers (S36): `ports.Syncer`. What is written is a delta's own layer.

The delta stands on what the containers hold, which is not always what the next image stands on: a trip that
was superseded may have written files that no node has in an image yet.
"""

from __future__ import annotations

from devloop.adapters.delta.builder import DeltaBuilder
from devloop.adapters.delta.keeper import ParentImage
from devloop.adapters.nodes.containers import Containers
from devloop.adapters.nodes.loader import ClusterLoader
from devloop.delta.delta import NotProven, Parent
from devloop.delta.layer_index import Layers
from devloop.delta.sync import sync_files, times
from devloop.errors import SyncError
from devloop.image_refs import digest
from devloop.model import NO_RELOAD, Fingerprint, PodToUpdate, Refusal, Service, SyncFiles
from devloop.synced import SyncedContainers

NOTHING = SyncFiles(b"", ())


class ContainerSyncer:
    """One session's. `synced` is the record of which containers hold what."""

    def __init__(self, builder: DeltaBuilder, loader: ClusterLoader, synced: SyncedContainers) -> None:
        self.synced = synced
        self._builder, self._loader = builder, loader
        self._held: dict[str, ParentImage] = {}  # by service: what its containers were given last
        self._made: dict[str, tuple[str, Parent]] = {}  # what is being written: fingerprint, its layers
        self._times: dict[str, dict[str, int]] = {}  # by service: the times that files were given

    async def files(self, service: Service, fingerprint: Fingerprint, content: str) -> SyncFiles | Refusal:
        if content == fingerprint.digest:
            return NOTHING
        await self._builder.keeper.awaited(service.name)
        below = self._below(service, content)
        if below is None and self._builder.keeper.standing(service.name) is None:
            return Refusal("not_delta", "no image is known yet that a delta could stand on")
        if below is None:
            return Refusal("unknown_content", f"what the containers of {service.name} run is not known here")
        made = await self._builder.delta_on(below, service, fingerprint)
        if isinstance(made, NotProven):
            return Refusal("not_delta", made.message)
        self._made[service.name] = fingerprint.digest, made.parent
        before = Layers(made.parent.layers.stack[:-1])
        return sync_files(made.archive.layer, before, self._times.get(service.name, {}))

    async def refuse(self, pod: PodToUpdate, files: SyncFiles, reload: str) -> Refusal | None:
        found = await self._loader.containers(pod.node, pod.instance)
        if found is None:
            return Refusal("no_access", f"nothing can be written into containers on {pod.node} from here")
        node, container = found
        return await node.refuse(container, files, reload)

    async def put(self, pod: PodToUpdate, files: SyncFiles, reload: str) -> None:
        node, container = await self._reach(pod)
        await node.put(container, files)
        if reload != NO_RELOAD and files.files:
            await node.send(container, reload)

    async def runs(self, pod: PodToUpdate) -> bool:
        node, container = await self._reach(pod)
        return await node.runs(container)

    def hold(self, service: Service, fingerprint: Fingerprint, files: SyncFiles) -> None:
        made, parent = self._made.pop(service.name, ("", None))
        if parent is None or made != fingerprint.digest:
            return
        self._held[service.name] = ParentImage(fingerprint.inputs, parent, ref=service.ref(fingerprint))
        self._times[service.name] = {**self._times.get(service.name, {}), **times(files)}

    def _below(self, service: Service, content: str) -> ParentImage | None:
        """What is known of an image with this content."""
        # What nodes have comes first: those deltas are folded, and the next image stands on it, too.
        known = (self._builder.keeper.standing(service.name), self._held.get(service.name))
        return next((one for one in known if one is not None and digest(one.ref) == content), None)

    async def _reach(self, pod: PodToUpdate) -> tuple[Containers, str]:
        found = await self._loader.containers(pod.node, pod.instance)
        if found is None:
            raise SyncError(f"the container of {pod.name} is not reached any more")
        return found
