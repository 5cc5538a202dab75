"""`devloop down`: the releases uninstalled, what manifests made deleted; other namespaces stay."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from devloop.model import Release
from devloop.ports import Releaser


class Remover(Protocol):
    """Deletes what devloop made and nothing else."""

    async def find_made(self) -> Sequence[str]:
        """Objects of the manifests that are there, in the order of deletion, "deployment/web"."""
        ...

    async def delete_made(self) -> Sequence[str]: ...

    async def own_namespaces(self, names: Sequence[str]) -> Sequence[str]:
        """Those of the namespaces that this project's devloop made."""
        ...

    async def delete_namespaces(self, names: Sequence[str]) -> None:
        """Returns when they are gone."""
        ...


@dataclass(frozen=True, slots=True)
class Teardown:
    """What `down` would remove."""

    releases: tuple[Release, ...]
    objects: tuple[str, ...]
    namespaces: tuple[str, ...]

    @property
    def empty(self) -> bool:
        return not (self.releases or self.objects or self.namespaces)

    def lines(self) -> list[str]:
        return [
            *(f"release {one.name} in namespace {one.namespace}" for one in self.releases),
            *self.objects,
            *(f"namespace {name} and everything in it: devloop created it" for name in self.namespaces),
        ]


async def plan(
    releases: Sequence[Release], left: Sequence[Release], releaser: Releaser, remover: Remover
) -> Teardown:
    """`left`: releases that devloop made and config.yaml may name no more. Raises PlatformError."""
    known = {(one.namespace, one.name) for one in releases}
    releases = [*(one for one in left if (one.namespace, one.name) not in known), *releases]
    there = [one for one in releases if await releaser.find(one) is not None]
    namespaces = sorted({one.namespace for one in releases if one.create_namespace is not None})
    return Teardown(
        tuple(reversed(there)),  # the last one may hang on the first
        tuple(await remover.find_made()),
        tuple(await remover.own_namespaces(namespaces)),
    )


async def tear_down(teardown: Teardown, releaser: Releaser, remover: Remover) -> None:
    """Releases, then objects, then namespaces. Raises ReleaseError, PatchError, PlatformError."""
    for release in teardown.releases:
        async with releaser.exclusive(release):
            view = await releaser.find(release)
            if view is not None and view.pending:
                await releaser.give_up(release, view)
            await releaser.uninstall(release)
    if teardown.objects:
        await remover.delete_made()
    if teardown.namespaces:
        await remover.delete_namespaces(teardown.namespaces)
