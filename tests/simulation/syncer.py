"""`ports.Syncer` over the simulated node: files into containers that run, slowly, and not always."""

from __future__ import annotations

import anyio

from devloop.errors import SyncError
from devloop.inputs.archive import read_dockerfile, read_file
from devloop.model import Fingerprint, PodToUpdate, Refusal, Service, SyncedFile, SyncFiles
from devloop.synced import SyncedContainers
from tests.simulation.engine import Engine
from tests.simulation.node import Content
from tests.simulation.tree import content_of


class Syncer:
    """Of one life of devloop, which knows the content of what it wrote and what nodes and engine hold."""

    def __init__(self, engine: Engine, synced: SyncedContainers) -> None:
        self.synced = synced
        self._engine, self._faults = engine, engine.faults
        self._held: dict[str, Content] = {}  # by fingerprint

    async def files(self, service: Service, fingerprint: Fingerprint, content: str) -> SyncFiles | Refusal:
        if content == fingerprint.digest:
            return SyncFiles(b"", ())
        before = self._held.get(content) or self._image_content(f"{service.image}:dl-{content}")
        if before is None:
            return Refusal("unknown_content", f"nobody here knows {content}")
        after = await self._read(service, fingerprint)
        if before.files["Dockerfile"] != after.files["Dockerfile"]:
            return Refusal("not_delta", "the Dockerfile changed")
        if gone := sorted(before.files.keys() - after.files.keys()):
            return Refusal("deleted", f"{gone[0]} was deleted")
        self._held[fingerprint.digest] = after
        changed = [path for path, data in after.files.items() if before.files.get(path) != data]
        return SyncFiles(fingerprint.digest.encode(), tuple(SyncedFile(path, path) for path in changed))

    async def refuse(self, pod: PodToUpdate, files: SyncFiles, reload: str) -> Refusal | None:
        await anyio.sleep(self._faults.delay(0.001, 0.02))
        if not self._engine.node.runs_instance(pod.instance):
            return Refusal("not_running", "it has ended")
        return None

    async def put(self, pod: PodToUpdate, files: SyncFiles, reload: str) -> None:
        await anyio.sleep(self._faults.delay(0.001, 0.05))
        there = self._engine.node.write(pod.instance, self._held[files.archive.decode()])
        await anyio.sleep(self._faults.delay(0.001, 0.05))
        if not there or self._faults.hits():
            raise SyncError("it was not read back as it was written")

    async def runs(self, pod: PodToUpdate) -> bool:
        await anyio.sleep(self._faults.delay(0.001, 0.02))
        return self._engine.node.runs_instance(pod.instance)

    def hold(self, service: Service, fingerprint: Fingerprint, files: SyncFiles) -> None:
        """What it read is kept already."""

    def _image_content(self, ref: str) -> Content | None:
        image = self._engine.node.images.get(ref) or self._engine.built.get(ref)
        return self._engine.contents.get(image) if image else None

    async def _read(self, service: Service, fingerprint: Fingerprint) -> Content:
        """File after file, compared on the way (S8)."""
        inputs, spec = fingerprint.inputs, service.build
        files: dict[str, bytes] = {"Dockerfile": read_dockerfile(spec.dockerfile, inputs)}
        for path, entry in sorted(inputs.files.items()):
            if entry.kind == "file":
                await anyio.sleep(self._faults.delay(0.0, 0.01))
                files[path] = b"".join(read_file(spec.context / path, entry))
        return content_of(files)
