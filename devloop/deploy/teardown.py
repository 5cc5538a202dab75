"""`devloop down`: the releases uninstalled, what manifests made deleted; other namespaces stay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from devloop.deploy.releaser import Releaser
from devloop.model import Release

SHOWN = 5  # objects of others in one line


class Remover(Protocol):
    """Deletes what devloop made and nothing else."""

    async def find_made(self) -> Sequence[str]:
        """Objects of the manifests that are there, in the order of deletion, "deployment/web"."""
        ...

    async def delete_made(self) -> Sequence[str]: ...

    async def own_namespaces(
        self, names: Sequence[str], releases: Sequence[Release]
    ) -> Mapping[str, Sequence[str]]:
        """The namespaces that this project's devloop made -> what others have in each, "configmap/settings".
        `names` are looked at where not all can be; what the `releases` brought is not others'."""
        ...

    async def delete_namespaces(self, names: Sequence[str]) -> None:
        """Returns when they are gone."""
        ...


@dataclass(frozen=True, slots=True)
class Teardown:
    """What `down` would remove. `kept`: namespaces that it made and others use -> what those have there."""

    releases: tuple[Release, ...]
    objects: tuple[str, ...]
    namespaces: tuple[str, ...]
    kept: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def empty(self) -> bool:
        return not (self.releases or self.objects or self.namespaces)

    def lines(self) -> list[str]:
        return [
            *(f"release {one.name} in namespace {one.namespace}" for one in self.releases),
            *self.objects,
            *(f"namespace {name}, which devloop created" for name in self.namespaces),
        ]

    def stays(self) -> list[str]:
        return [
            f"namespace {name} stays: devloop created it, but not {_some(others)}"
            for name, others in self.kept.items()
        ]


def _some(names: Sequence[str]) -> str:
    more = len(names) - SHOWN
    shown = ", ".join(names[:SHOWN])
    return f"{shown} and {more} more in it" if more > 0 else f"{shown} in it"


async def plan(
    releases: Sequence[Release], left: Sequence[Release], releaser: Releaser, remover: Remover
) -> Teardown:
    """`left`: releases that devloop made and config.yaml may name no more. Raises PlatformError."""
    known = {(one.namespace, one.name) for one in releases}
    releases = [*(one for one in left if (one.namespace, one.name) not in known), *releases]
    there = [one for one in releases if await releaser.find(one) is not None]
    names = sorted({one.namespace for one in releases if one.create_namespace is not None})
    objects = tuple(await remover.find_made())
    namespaces = await remover.own_namespaces(names, there)
    return Teardown(
        tuple(reversed(there)),  # the last one may hang on the first
        objects,
        tuple(name for name, others in namespaces.items() if not others),
        {name: others for name, others in namespaces.items() if others},
    )


async def tear_down(teardown: Teardown, releaser: Releaser, remover: Remover) -> Teardown:
    """Releases, then objects, then namespaces, if still nothing of others is in them; what was removed.

    Raises ReleaseError, PatchError, PlatformError.
    """
    for release in teardown.releases:
        async with releaser.exclusive(release):
            view = await releaser.find(release)
            if view is not None and view.pending:
                await releaser.give_up(release, view)
            await releaser.uninstall(release)
    if teardown.objects:
        await remover.delete_made()
    if not teardown.namespaces:
        return teardown
    now = await remover.own_namespaces(teardown.namespaces, teardown.releases)
    empty = tuple(name for name in teardown.namespaces if name in now and not now[name])
    await remover.delete_namespaces(empty)
    filled = {name: now[name] for name in teardown.namespaces if now.get(name)}
    return replace(teardown, namespaces=empty, kept={**teardown.kept, **filled})
