"""Images into a registry, for nodes that pull.

Layers go uncompressed, so that their digests are the diff_ids, known before a byte of them is read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from devloop.adapters.archive import oci_layout as oci
from devloop.adapters.archive.docker_archive import SavedLayers, Tally, is_description
from devloop.adapters.docker.blob_index import Blob
from devloop.adapters.docker.config_digest import Digests
from devloop.adapters.docker.engine import Engine
from devloop.adapters.nodes.containers import Containers
from devloop.adapters.nodes.images import StoredImage, is_tagged
from devloop.adapters.nodes.registry_api import Body, Registry
from devloop.adapters.nodes.routes import ReportBytes, built, complete
from devloop.adapters.nodes.stores import Store
from devloop.adapters.tar_stream import TarStream
from devloop.concurrency import gather
from devloop.errors import LoadError
from devloop.image_refs import registry_of, repository, split
from devloop.model import Image


@dataclass(frozen=True, slots=True)
class RegistryStore:
    """A registry in the place of a node: what it has, every node can pull."""

    node: str
    registry: Registry

    async def digest(self, ref: str) -> str | None:
        return await self.registry.config_of(path_of(ref), split(ref)[1])

    look = digest

    async def end(self, runtime: str, container: str, *, deaf: bool) -> bool:
        return False  # the nodes themselves are not reached

    def containers(self, runtime: str) -> Containers | None:
        return None

    async def remove(self, ref: str) -> bool:
        """The blobs stay until the registry's own garbage collection takes them."""
        return await self.registry.delete(path_of(ref), split(ref)[1])

    async def own(self, project: str, repositories: Sequence[str]) -> Sequence[StoredImage]:
        """Of a registry on this machine: in another, somebody else's cluster may run what was pushed from a
        config.yaml of the same path."""
        if not self.registry.is_local or not self.registry.deletes:
            return ()
        found: list[StoredImage] = []
        for repository_ in repositories:
            for tag in await self.registry.tags(path_of(f"{repository_}:x")):
                ref = f"{repository_}:{tag}"
                config = await self.registry.config_of(path_of(ref), tag) if is_tagged(ref) else None
                if config and await self.registry.project_of(path_of(ref), config) == project:
                    found.append(StoredImage(ref, config))
        return found


class RegistryRoute:
    """Pushes: HEAD for each blob, then mount, then upload of what is missing, then the manifest."""

    how = "registry"

    def __init__(self, builder: Engine, digests: Digests, store: RegistryStore, prefix: str) -> None:
        """`digests` of the builder; `prefix`: cluster.registry, what every image's name has to begin with."""
        self._builder = builder
        self._digests = digests
        self._store = store
        self._prefix = prefix
        self._seen: dict[str, Blob] = {}  # by diff_id, as they were pushed
        self._pushed: set[str] = set()  # repositories, to mount from

    @property
    def stores(self) -> Sequence[Store]:
        return (self._store,)

    async def send(self, image: Image, stores: Sequence[Store], report: ReportBytes) -> Tally:
        if not image.ref.startswith(f"{self._prefix}/"):
            raise LoadError(
                f"load of {image.ref}: nodes would not pull it from {self._prefix}",
                reason="NotInRegistry",
                hint=f"write image: {self._prefix}/{split(image.ref)[0].rpartition('/')[2]} in config.yaml, "
                "and the same name in the Deployment",
            )
        tally = Tally()
        if image.archive is None or not await self._send_delta(image, tally):
            if image.archive is not None:
                await complete(self._builder, self._digests, image)
            await self._send_full(image, tally, lambda: report(tally.sent + tally.skipped))
        self._pushed.add(path_of(image.ref))
        return tally

    async def _send_delta(self, image: Image, tally: Tally) -> bool:
        """True if the registry has every layer below; nothing is pushed otherwise."""
        assert image.archive is not None
        below, new = image.archive.below, image.archive.new
        if any(diff_id not in self._seen for diff_id in below):
            return False
        layers = [self._seen[diff_id] for diff_id in below]
        if await self._missing(image.ref, [blob.digest for blob in layers]):
            return False
        for diff_id, content in dict(new).items():
            await self._upload(image.ref, diff_id, len(content), content, tally)
        pushed = {diff_id: Blob(diff_id, len(content)) for diff_id, content in new}
        await self._finish(
            image, [*layers, *(pushed[diff_id] for diff_id, _ in new)], image.archive.config, tally
        )
        tally.skipped += sum(blob.size for blob in layers)
        self._seen.update(pushed)
        return True

    async def _send_full(self, image: Image, tally: Tally, report: Callable[[], None]) -> None:
        facts, blobs = await built(self._builder, self._digests, image.ref)
        called = [blobs[diff_id].digest if diff_id in blobs else diff_id for diff_id in facts.diff_ids]
        missing = await self._missing(image.ref, called)
        layers, config = SavedLayers(facts.diff_ids, blobs), b""
        async with self._builder.save(image.ref) as archive:
            stream = TarStream(archive)
            try:
                async for entry in stream:
                    diff_id = layers.diff_id(entry)
                    if is_description(entry):
                        layers.learn(entry, await stream.read())
                    elif oci.config_digest(entry) == image.id:
                        config = await stream.read()
                    elif diff_id:
                        blob = self._seen[diff_id] = layers.blob(diff_id, entry)
                        if blob.digest in missing:
                            await self._upload(image.ref, blob.digest, entry.size, stream.pieces(), tally)
                        else:
                            tally.skipped += entry.size
                        report()
            except ValueError as error:
                raise LoadError(f"docker save {image.ref}: {error}", reason="BrokenArchive") from error
        unknown = [diff_id for diff_id in facts.diff_ids if diff_id not in self._seen]
        if unknown or not config:
            raise LoadError(
                f"load of {image.ref}: docker save does not show its layers one by one",
                reason="BrokenArchive",
                hint=f"docker push {image.ref} by hand, then change a file",
            )
        await self._finish(image, [self._seen[diff_id] for diff_id in facts.diff_ids], config, tally)

    async def _finish(self, image: Image, layers: Sequence[Blob], config: bytes, tally: Tally) -> None:
        await self._upload(image.ref, image.id, len(config), config, tally)
        described = oci.manifest(image.id, len(config), layers)
        tally.sent += len(described)
        await self._store.registry.put_manifest(path_of(image.ref), split(image.ref)[1], described)

    async def _missing(self, ref: str, digests: Sequence[str]) -> frozenset[str]:
        """The blobs that the repository has not got, and that no other of ours could give it."""
        registry, repo = self._store.registry, path_of(ref)

        async def lacks(digest: str) -> bool:
            if await registry.has(repo, digest):
                return False
            for other in self._pushed - {repo}:
                if await registry.mount(repo, digest, other):
                    return False
            return True

        distinct = list(dict.fromkeys(digests))
        answers = await gather(lacks, distinct)
        return frozenset(digest for digest, missing in zip(distinct, answers, strict=True) if missing)

    async def _upload(self, ref: str, digest: str, size: int, body: Body, tally: Tally) -> None:
        await self._store.registry.upload(path_of(ref), digest, size, body)
        tally.sent += size


def path_of(ref: str) -> str:
    """The repository's path inside its registry."""
    return repository(ref).partition("/")[2]


def host_of(prefix: str) -> str:
    """The host of cluster.registry, which may have a path."""
    return registry_of(f"{prefix}/image")
