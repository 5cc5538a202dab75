"""A delta image into a Docker engine: the new layers alone, and the proof that it is there."""

from __future__ import annotations

from contextlib import aclosing

from devloop.adapters.archive import oci_layout as oci
from devloop.adapters.archive.docker_archive import Tally, delta
from devloop.adapters.archive.load_proof import prove
from devloop.adapters.docker.config_digest import Digests
from devloop.adapters.docker.connection import Body, EngineRefusedError
from devloop.adapters.docker.engine import Engine
from devloop.errors import LoadError
from devloop.model import Image


async def send_delta(engine: Engine, image: Image, tally: Tally, digests: Digests) -> None:
    """Send a delta image, thin: LoadError if a layer below it is not there. `digests` of that engine."""
    assert image.archive is not None
    # The containerd image store knows a missing layer in an OCI layout only, graph drivers in their own.
    as_oci = (await engine.info()).containerd_store
    blobs = digests.blobs.of(image.archive.below)
    archive = oci.delta(image.archive, image.ref, blobs) if as_oci else delta(image.archive, image.ref)
    try:
        await deliver(engine, archive)
    except EngineRefusedError as refusal:
        raise refused(image, "the engine", refusal) from refusal
    if as_oci:
        await prove(engine, image, oci.described(image.archive, blobs), digests)
    tally.sent += len(archive)
    tally.skipped += max(0, image.size - image.archive.size)


async def deliver(engine: Engine, archive: Body) -> None:
    """Load an archive, to the end of the engine's answer. Raises EngineRefusedError, PlatformError."""
    async with aclosing(engine.load(archive)) as answers:
        async for _ in answers:
            pass


def refused(image: Image, node: str, refusal: EngineRefusedError) -> LoadError:
    full = "no space left" in refusal.message
    return LoadError(
        f"load of {image.ref} into {node}: {refusal.message}",
        reason="DiskFull" if full else "LoadRefused",
        hint="the node's disk is full: minikube ssh -- docker system df; docker system prune frees space"
        if full
        else "the next change sends the whole image again",
    )
