"""The build engine, as the ports see it: it reads a tree that changes, fails, hangs and forgets."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import anyio

from devloop import activity
from devloop.errors import BuildError, LoadError, PlatformError
from devloop.inputs.archive import read_dockerfile, read_file
from devloop.inputs.fingerprinter import TreeFingerprinter
from devloop.model import Base, Fingerprint, Image, LoadedImage, Service
from tests.simulation.faults import Faults
from tests.simulation.node import Content, Node
from tests.simulation.tree import content_of

AWAY = "no engine answers at unix:///simulated.sock"


class Engine:
    """Outlives devloop. `built`: reference -> image id on this engine, of which the nodes know nothing."""

    def __init__(self, faults: Faults, node: Node, contents: dict[str, Content]) -> None:
        self.faults, self.node, self.contents = faults, node, contents
        self.built: dict[str, str] = {}
        self.wrong: list[str] = []  # what must never be

    def forget(self) -> None:
        self.built.clear()

    def keep(self, ref: str, image: str, content: Content) -> None:
        """Never another content under a tag that was given (S3)."""
        known = self.contents.setdefault(image, content)
        assert known == content
        for other in (self.built.get(ref), self.node.images.get(ref)):
            if other is not None and self.contents[other].digest != content.digest:
                self.wrong.append(f"{ref} has another content than before: {other} and {image}")
        self.built[ref] = image


class Ports:
    """Bases, Builder and Loader of one life of devloop, on the engine that outlives it."""

    def __init__(self, engine: Engine) -> None:
        self._engine, self._faults = engine, engine.faults
        self.trees: TreeFingerprinter

    async def resolve(self, service: Service, refs: Sequence[str], platform: str) -> tuple[Base, ...]:
        self._check()
        await anyio.sleep(self._faults.delay(0.001, 0.01))
        if self._faults.on("no base"):
            raise BuildError(f"no image {refs[0]}", reason="NoBase", outside_tree=True)
        return tuple(Base(ref, "sha256:" + hashlib.sha256(ref.encode()).hexdigest()) for ref in refs)

    async def build(self, service: Service, fingerprint: Fingerprint) -> Image:
        """Reads file after file, as a context goes out; what a file holds is compared on the way (S8)."""
        self._check()
        faults, inputs, spec = self._faults, fingerprint.inputs, service.build
        if faults.on("build hangs"):
            await anyio.sleep_forever()
        files: dict[str, bytes] = {"Dockerfile": read_dockerfile(spec.dockerfile, inputs)}
        for path, entry in sorted(inputs.files.items()):
            if entry.kind == "file":
                await anyio.sleep(faults.delay(0.0, 0.05))
                files[path] = b"".join(read_file(spec.context / path, entry))
        await anyio.sleep(faults.delay(0.05, 20.0 if faults.on("build slow") else 2.0))
        activity.note()
        self._check()
        content = content_of(files)
        if "broken" in content.words:
            raise BuildError("RUN make: exit code 2", reason="InstructionFailed", evidence=("broken",))
        if faults.hits():
            raise BuildError("the builder was killed", reason="EngineError", outside_tree=True)
        ref, image = service.ref(fingerprint), f"sha256:{content.digest}"
        self._engine.keep(ref, image, content)
        return Image(service.name, fingerprint, ref, image, "cli", 100)

    build_full = build

    async def find(self, service: Service, fingerprint: Fingerprint) -> Image | None:
        await anyio.sleep(self._faults.delay(0.001, 0.02))
        ref = service.ref(fingerprint)
        image = self._engine.node.images.get(ref)
        if image is None:
            self._check()
            image = self._engine.built.get(ref)
        return None if image is None else Image(service.name, fingerprint, ref, image, "reused", 100)

    async def load(self, image: Image) -> LoadedImage:
        await anyio.sleep(self._faults.delay(0.01, 1.0))
        self._check()
        if self._faults.on("load hangs"):
            await anyio.sleep_forever()
        if self._faults.hits():
            raise LoadError("the node's disk is full", reason="DiskFull", outside_tree=True)
        there = self._engine.node.images.get(image.ref)
        if there is None:
            if image.ref not in self._engine.built:
                raise LoadError(f"{image.ref} is gone from the engine", reason="ImageGone", outside_tree=True)
            there = self._engine.node.images[image.ref] = self._engine.built[image.ref]
        if there != image.id:
            raise LoadError(f"{image.ref} is another image on the node", reason="WrongImage")
        return LoadedImage(image, ("simulated",), "shared")

    async def end(self, node: str, instance: str, *, deaf: bool) -> bool:
        await anyio.sleep(self._engine.faults.delay(0.01, 0.1))
        return self._engine.node.kill_deaf(instance)

    def _check(self) -> None:
        if self._faults.on("engine away"):
            raise PlatformError(AWAY, reason="EngineAway")
