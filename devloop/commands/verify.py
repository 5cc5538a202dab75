"""`devloop verify`: the live image against a full build of the same tree, file by file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from devloop.adapters.build.builder import ImageBuilder
from devloop.adapters.docker.engine import Engine
from devloop.adapters.docker.exported_files import differences, files_of
from devloop.adapters.nodes.stores import EngineStore
from devloop.commands.frame import Project
from devloop.commands.output import concealed, dumped, secrets_of
from devloop.commands.session import in_session
from devloop.errors import LoadError
from devloop.model import Change, Service
from devloop.wiring import Session

SUFFIX = "-verify"  # of the full build's tag; it is removed again


@dataclass(frozen=True, slots=True)
class Verified:
    """`different`: one line per path that is not the same; `files`: how many paths were compared."""

    ref: str
    files: int
    different: tuple[str, ...]


async def compare(session: Session, service: Service, full: ImageBuilder) -> Verified:
    """Build the tree in full beside the image that the node has, and compare their file systems.

    Raises LoadError (the image is not on a node that can be read), BuildError, PlatformError.
    """
    fingerprint = await session.images.fingerprinter.take(service, Change.start(session.world.clock.now()))
    ref = service.ref(fingerprint)
    node = await _holder(session, ref)
    live = await files_of(node, ref)
    built = await full.build(service, fingerprint, suffix=SUFFIX)
    try:
        whole = await files_of(session.images.docker, built.ref)
    finally:
        await session.images.docker.remove(built.ref)
    return Verified(ref, len(live.keys() | whole.keys()), tuple(differences(live, whole)))


async def _holder(session: Session, ref: str) -> Engine:
    route = await session.images.loader.route()
    for store in route.stores:
        if isinstance(store, EngineStore) and await store.engine.inspect(ref) is not None:
            return store.engine
    raise LoadError(
        f"{ref} is on no node whose Docker engine can be asked",
        reason="NotLoaded",
        hint="devloop once loads it there; images inside containerd nodes cannot be read by verify",
    )


def verify(project: Project, names: Sequence[str], *, output: str) -> int:
    """Print whether each live image is what a full build gives; 1 if one is not."""
    hide = secrets_of(project.config, names)

    async def look(session: Session) -> dict[str, Verified]:
        found = {}
        for service in session.services:
            found[service.name] = await compare(session, service, session.images.full)
            if not output:
                print("\n".join(map(hide, _lines(service.name, found[service.name]))))
        return found

    found = in_session(project, names, look)
    if output:
        services = {name: as_object(one) for name, one in found.items()}
        print(dumped(concealed({"services": services}, hide), output))
    return 1 if any(one.different for one in found.values()) else 0


def _lines(name: str, found: Verified) -> list[str]:
    verdict = f"{len(found.different)} differ" if found.different else "equal to a full build"
    return [
        f"{name}: {found.ref}: {found.files} paths, {verdict}",
        *(f"  {line}" for line in found.different),
    ]


def as_object(found: Verified) -> dict[str, Any]:
    """{"image", "paths": how many were compared, "equal", "differences": a line for each}"""
    return {
        "image": found.ref,
        "paths": found.files,
        "equal": not found.different,
        "differences": list(found.different),
    }
